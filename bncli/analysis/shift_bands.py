"""Percentiles of activations over training: the paper's figure 1 b and c, of the median unit and of a typical one."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch

import numpy as np

from bncli.analysis.ask import ArmRuns
from bncli.findings import Band
from bncli.records import RunResult

SHARES = (15, 50, 85)


def bands(arm: ArmRuns, layers: Sequence[str]) -> Iterator[Band]:
    """Of the median over units at every site, mean over seeds; and of one unit in one run, if single ones are recorded.

    The typical unit is, of those recorded of the first seed, the one whose band moved as much as the median of them
    did: a choice that is stated, and not one picked by eye.
    """
    runs = [arm.runs[seed] for seed in sorted(arm.runs)]
    sites = list(dict.fromkeys(r.layer for run in runs for r in run.records if r.quantity == "percentile_50:median"))
    for site in sites:
        if layers and not any(fnmatch(site.partition("/")[0], pattern) for pattern in layers):
            continue
        yield _band(arm, runs, site, "median")
        if typical := _typical(runs[0], site):
            yield _band(arm, runs[:1], site, typical)


def _band(arm: ArmRuns, runs: Sequence[RunResult], site: str, unit: str) -> Band:
    steps, curves = _curves(runs, site, unit)
    low, middle, high = (tuple(curve.tolist()) for curve in curves)
    return Band(
        arm.variant, arm.setting, site, "median of units" if unit == "median" else unit, steps, low, middle, high
    )


def _curves(runs: Sequence[RunResult], site: str, unit: str) -> tuple[tuple[int, ...], np.ndarray]:
    """Steps that all runs have, and the three percentiles over them, mean over runs: (3, T)."""
    found = [
        [dict(zip(*run.curve(f"percentile_{share}:{unit}", site), strict=True)) for share in SHARES] for run in runs
    ]
    steps = sorted(set.intersection(*(set(curve) for curves in found for curve in curves)))
    return tuple(steps), np.mean([[[curve[s] for s in steps] for curve in curves] for curves in found], 0)


def _typical(run: RunResult, site: str) -> str:
    units = list(dict.fromkeys(
        r.quantity.partition(":")[2] for r in run.records
        if r.layer == site and r.quantity.startswith("percentile_50:unit")
    ))  # fmt: skip
    if not units:
        return ""
    moved = [float(np.abs(np.diff(_curves([run], site, unit)[1])).sum()) for unit in units]
    middle = np.median(moved)
    return min(zip(units, moved, strict=True), key=lambda pair: abs(pair[1] - middle))[0]
