"""Curves over training: what was recorded of the whole network, a mean over seeds with its interval at each step."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

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
    paces = [{seed: seconds_per_step(seed, run).value for seed, run in sorted(arm.runs.items())} for arm in arms]
    for metric in (aim.name, *order, *sorted(found - {*order})):
        for arm, pace in zip(arms, paces, strict=True):
            curves = {seed: points for seed in pace if (points := curve(arm.runs[seed], metric))[0]}
            if curves:
                unit = _unit(metric, arm.runs[next(iter(curves))], declared)
                yield _summarise(arm, metric, unit, [pace[seed] for seed in curves], list(curves.values()))


def _unit(metric: str, run: RunResult, declared: Mapping[str, Metric]) -> str:
    """As it was recorded; of runs that were made elsewhere as the study declares it."""
    recorded = run.unit(CurveKey(metric))
    said = declared[metric].unit if metric in declared else ""
    return recorded or said or ("fraction" if metric == "accuracy" else "")


def _summarise(
    arm: ArmRuns, metric: str, unit: str, paces: Sequence[float | None], curves: Sequence[tuple[list[int], list[float]]]
) -> ArmCurve:
    steps, values = _align(curves)
    counts = np.isfinite(values).sum(0)
    means = np.nansum(values, 0) / counts
    with np.errstate(invalid="ignore", divide="ignore"):
        std = np.sqrt(np.nansum((values - means) ** 2, 0) / (counts - 1))
        half = np.array([critical_t(int(n)) if n > 1 else math.inf for n in counts]) * std / np.sqrt(counts)
    timed = [each for each in paces if each is not None]
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


def _align(curves: Sequence[tuple[list[int], list[float]]]) -> tuple[Sequence[int], Any]:
    """The steps at which curves are averaged, and their values there, (runs, steps): NaN where one has none."""
    first = curves[0][0]
    if all(steps == first for steps, _ in curves) and len({*first}) == len(first):
        return first, np.array([values for _, values in curves])
    each = [dict(zip(*points, strict=True)) for points in curves]
    every = sorted({step for points in each for step in points})
    shared = [step for step in every if all(step in points or step > max(points) for points in each)]
    steps = shared if len(shared) > 1 else every
    return steps, np.array([[points.get(step, math.nan) for step in steps] for points in each])
