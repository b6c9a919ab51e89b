"""Metrics of shift as measures of a run: one number over its probes and layers, so that claims can be about them."""

import math

from bncli.analysis.outcomes import curve, exact, unknown
from bncli.findings import Value
from bncli.records import RunResult


def over_training(seed: int, result: RunResult, metric: str, *, ratio: bool) -> Value:
    """The metric averaged over the probes of a run, then over layers: geometrically where it is compared by ratio.

    Layers at which it is exactly 0 have no logarithm and are left out there, as those of which it is 0 by construction.
    """
    names = (metric, f"{metric}:mean")
    layers = dict.fromkeys((r.quantity, r.layer) for r in result.records if r.quantity in names)
    curves = [values for name, layer in layers if (values := curve(result, name, layer)[1])]
    means = [sum(values) / len(values) for values in curves]
    if ratio:
        means = [math.log(mean) for mean in means if mean > 0]
    if not means:
        return unknown(seed, f"{metric} was not probed")
    centre = sum(means) / len(means)
    return exact(seed, math.exp(centre) if ratio else centre)
