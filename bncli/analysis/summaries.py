"""One arm's numbers over its seeds: centre and spread, status counts, training time."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bncli.findings import Summary, Value
from bncli.records import RunResult


def summary(measure: str, values: Sequence[Value]) -> Summary:
    """Mean and standard deviation over seeds (n - 1); the median where some run has no value.

    In the median a censored run counts as later than any that got there, so that it is None where half did not.
    """
    known = [v.value for v in values if v.value is not None]
    missing = [v for v in values if v.value is None]
    if not known:
        return Summary(measure, tuple(values), None, None, missing[0].reason if missing else "no run")
    if not missing:
        spread = float(np.std(known, ddof=1)) if len(known) > 1 else None
        reason = "" if len(known) > 1 else "one run has no spread"
        return Summary(measure, tuple(values), float(np.mean(known)), spread, reason)
    reason = f"{len(missing)} of {len(values)} runs have no value: {missing[0].reason}"
    if any(v.low is None for v in missing):
        return Summary(measure, tuple(values), None, None, reason)
    centre = float(np.median(known + [math.inf] * len(missing)))
    return Summary(measure, tuple(values), centre if math.isfinite(centre) else None, None, reason)


def statuses(runs: Iterable[RunResult]) -> Mapping[str, int]:
    """How many runs ended in which way."""
    return dict(Counter(run.info.status for run in runs))


def ms_per_step(runs: Iterable[RunResult]) -> float | None:
    """Median over seeds of training time per step, milliseconds; None where no run was timed."""
    times = [
        1000 * run.info.seconds["training"] / run.info.step
        for run in runs
        if run.info.step > 0 and "training" in run.info.seconds
    ]
    return float(np.median(times)) if times else None


def parameters(runs: Iterable[RunResult]) -> int | None:
    """Trainable numbers in the network; None where no run says so."""
    return next((run.info.parameters for run in runs if run.info.parameters), None)
