"""Curves over training: what was recorded of the whole network, a mean over seeds with its interval at each step."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from bncli.analysis.readers import ArmRuns, curve, seconds_per_step
from bncli.analysis.stats import critical_t
from bncli.findings import ArmCurve
from bncli.measures import ACCURACY, MEASURES, RECORDED, Metric
from bncli.records import CurveKey, RunResult


def find_curves(
    arms: Sequence[ArmRuns], aim: Metric = ACCURACY, declared: Mapping[str, Metric] = MappingProxyType({})
) -> Iterator[ArmCurve]:
    """Every curve of a whole network of every arm: accuracy, losses, the metrics of a task; none of shift.

    The metric that has a target comes first, arms in their order. At each step the mean is over the runs that were
    still training; one that diverged counts up to there. A step that some of them did not measure is left out, unless
    they share none.

    Args:
        arms: with their runs.
        aim: the metric that has a target, or would have.
        declared: metrics that the study declares, by name: their units, where runs do not say them.
    """
    recorded = {metric for arm in arms for run in arm.runs.values() for metric in run.metrics()}
    found = {m for m in recorded if not (m in MEASURES and MEASURES[m].of == "probe")} - {aim.name}
    order = [m for m in RECORDED if m in found]
    for metric in (aim.name, *order, *sorted(found - {*order})):
        for arm in arms:
            curves = {
                seed: points
                for seed, run in sorted(arm.runs.items())
                if (points := dict(zip(*curve(run, metric), strict=True)))
            }
            if curves:
                runs = [arm.runs[seed] for seed in curves]
                yield _summarise(arm, metric, _unit(metric, runs[0], declared), runs, list(curves.values()))


def _unit(metric: str, run: RunResult, declared: Mapping[str, Metric]) -> str:
    """As it was recorded; of runs that were made elsewhere as the study declares it."""
    recorded = next((record.unit for record in run.records if record.key == CurveKey(metric)), "")
    said = declared[metric].unit if metric in declared else ""
    return recorded or said or ("fraction" if metric == "accuracy" else "")


def _summarise(
    arm: ArmRuns, metric: str, unit: str, runs: Sequence[RunResult], curves: Sequence[dict[int, float]]
) -> ArmCurve:
    every = sorted({step for points in curves for step in points})
    shared = [step for step in every if all(step in points or step > max(points) for points in curves)]
    steps = shared if len(shared) > 1 else every
    values = np.array([[points.get(step, math.nan) for step in steps] for points in curves])  # (runs, steps)
    counts = np.isfinite(values).sum(0)
    means = np.nansum(values, 0) / counts
    with np.errstate(invalid="ignore", divide="ignore"):
        std = np.sqrt(np.nansum((values - means) ** 2, 0) / (counts - 1))
        half = np.array([critical_t(int(n)) if n > 1 else math.inf for n in counts]) * std / np.sqrt(counts)
    timed = [one.value for run in runs if (one := seconds_per_step(0, run)).value is not None]
    pace = float(np.mean(timed)) if timed else None
    return ArmCurve(
        arm.variant,
        arm.setting,
        metric,
        unit,
        tuple(steps),
        mean=tuple(means.tolist()),
        low=tuple(float(m - h) if math.isfinite(h) else None for m, h in zip(means, half, strict=True)),
        high=tuple(float(m + h) if math.isfinite(h) else None for m, h in zip(means, half, strict=True)),
        seconds=tuple(None if pace is None else pace * step for step in steps),
    )
