"""From probes to shift findings: each metric over time, layers and seeds, and percentile bands over training."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import numpy as np

from bncli.analysis.curves import find_curves
from bncli.analysis.quantiles import t_quantile
from bncli.analysis.readers import AVERAGES, ArmRuns
from bncli.analysis.shift_text import find_notes, sentences
from bncli.analysis.stats import CONFIDENCE, half_width
from bncli.findings.shift import (
    Cell,
    Course,
    Definition,
    PercentileBand,
    ShiftArm,
    ShiftComparison,
    ShiftFindings,
    Side,
    Trend,
)
from bncli.records import PERCENTILES, CurveKey, RunResult

LayerPlace = tuple[str, str]  # a layer and a place in it
EVERYWHERE = ("", "")
MIDDLE = PERCENTILES[1]


def bands(arm: ArmRuns, layers: Sequence[str]) -> Iterator[PercentileBand]:
    """Of the median over units at every site, mean over seeds; and of one unit in one run, if single ones are recorded.

    The typical unit is, of those recorded of the first seed, the one whose band moved as much as the median of them
    did: a choice that is stated, and not one picked by eye.
    """
    runs = [arm.runs[seed] for seed in sorted(arm.runs)]
    keys = [key for run in runs for key in run.keys(MIDDLE) if key.statistic == "median"]
    for site in dict.fromkeys((key.layer, key.place) for key in keys):
        if not _is_shown(site, layers):
            continue
        yield _band(arm, runs, site, None)
        if (typical := _typical(runs[0], site)) is not None:
            yield _band(arm, runs[:1], site, typical)


def _is_shown(site: LayerPlace, layers: Sequence[str]) -> bool:
    return not layers or any(fnmatch(site[0], pattern) for pattern in layers)


def _band(arm: ArmRuns, runs: Sequence[RunResult], site: LayerPlace, index: int | None) -> PercentileBand:
    steps, curves = _curves(runs, site, index)
    low, middle, high = (tuple(curve.tolist()) for curve in curves)
    return PercentileBand(arm.variant, arm.setting, *site, index, steps, low, middle, high)


def _curves(runs: Sequence[RunResult], site: LayerPlace, index: int | None) -> tuple[tuple[int, ...], np.ndarray]:
    """Steps that all runs have, and the three percentiles over them, mean over runs: (3, T)."""
    statistic = "median" if index is None else ""
    found = [
        [dict(zip(*run.curve(name, *site, statistic, index), strict=True)) for name in PERCENTILES] for run in runs
    ]
    steps = sorted(set.intersection(*(set(curve) for curves in found for curve in curves)))
    return tuple(steps), np.mean([[[curve[s] for s in steps] for curve in curves] for curves in found], 0)


def _typical(run: RunResult, site: LayerPlace) -> int | None:
    units = [key.index for key in run.keys(MIDDLE) if (key.layer, key.place) == site and key.index is not None]
    if not units:
        return None
    moved = [float(np.abs(np.diff(_curves([run], site, unit)[1])).sum()) for unit in units]
    middle = np.median(moved)
    return min(zip(units, moved, strict=True), key=lambda pair: abs(pair[1] - middle))[0]


@dataclass(frozen=True)
class ShiftAsk:
    """What is asked of probed runs."""

    name: str  # of the preset
    question: str
    setup: str  # one line that says what was trained
    probes: str  # one line that says what was probed
    reference: str
    definitions: tuple[Definition, ...]  # in the order of the table
    layers: tuple[str, ...]  # patterns of the layers that are shown; all where there are none
    margin: float  # ratios between 1/(1 + margin) and 1 + margin are the same
    warnings: tuple[str, ...]
    environment: Mapping[str, Any]
    unmeasured: Mapping[str, str] = field(default_factory=dict)  # metrics that runs were too short for, and why


def analyse_shift(arms: Sequence[ArmRuns], ask: ShiftAsk) -> ShiftFindings:
    """Summarise every metric at every layer, compare each arm with the reference, and put it in words."""
    summarised = tuple(_arm(arm, ask) for arm in arms)
    lost = [arm for arm, of in zip(summarised, arms, strict=True) if _all_diverged(of)]
    compared = tuple(c for arm in summarised for c in _compared(arm, summarised, lost, ask))
    return ShiftFindings(
        ask.name, ask.question, ask.setup, ask.probes, ask.layers, ask.definitions, summarised, compared,
        bands=tuple(band for arm in arms for band in bands(arm, ask.layers)),
        sentences=sentences(compared, ask.definitions),
        notes=tuple(find_notes(summarised, compared, ask.definitions)),
        warnings=ask.warnings, environment=ask.environment,
        courses=tuple(course for arm in arms for course in _courses(arm, ask)),
        curves=tuple(find_curves(arms)),
    )  # fmt: skip


def _arm(arm: ArmRuns, ask: ShiftAsk) -> ShiftArm:
    runs = list(arm.runs.values())
    cells = tuple(
        cell
        for definition in ask.definitions
        for site in _sites(runs, definition.name)
        if _is_shown(site, ask.layers)
        for cell in _cell(arm.runs, definition.name, site)
    )
    shares = [r.info.seconds["probing"] / (r.info.seconds["training"] + r.info.seconds["data"]) for r in runs]
    return ShiftArm(
        arm.variant, arm.setting, arm.variant == ask.reference, len(runs), cells,
        probing=float(np.mean(shares)) if shares else None,
    )  # fmt: skip


def _courses(arm: ArmRuns, ask: ShiftAsk) -> Iterator[Course]:
    """Every metric at every layer that is shown, at the probes that all runs have."""
    runs = list(arm.runs.values())
    for definition in ask.definitions:
        for site in _sites(runs, definition.name):
            keys = [CurveKey(definition.name, *site, statistic) for statistic in AVERAGES]
            found = [dict(zip(*points, strict=True)) for r in runs for k in keys if (points := r.curve(*k))[0]]
            steps = sorted(set.intersection(*map(set, found)))
            if steps and _is_shown(site, ask.layers):
                values = tuple(float(np.mean([points[step] for points in found])) for step in steps)
                yield Course(definition.name, arm.variant, arm.setting, *site, tuple(steps), values)


def _sites(runs: Sequence[RunResult], metric: str) -> list[LayerPlace]:
    """Where a metric was recorded, in the order of the first run that has it."""
    keys = [key for run in runs for key in run.keys(metric) if key.statistic in AVERAGES]
    return list(dict.fromkeys((key.layer, key.place) for key in keys))


def _cell(runs: Mapping[int, RunResult], metric: str, site: LayerPlace) -> Iterator[Cell]:
    curves = {seed: _curve(run, metric, site) for seed, run in runs.items()}
    curves = {seed: curve for seed, curve in curves.items() if curve}
    if not curves:
        return
    values = {seed: float(np.mean(curve)) for seed, curve in curves.items()}
    mean = float(np.mean(list(values.values())))
    null = noise_edge([draw for seed in curves for draw in _draws(runs[seed], metric, site)])
    half = half_width(np.array(list(values.values()))) if len(values) > 1 else math.inf
    lost = any(run.info.status == "diverged" for run in runs.values())  # what it came to is no number, so no noise
    yield Cell(
        metric, *site, values, mean,
        std=float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else None,
        first=float(np.mean([curve[0] for curve in curves.values()])),
        last=float(np.mean([curve[-1] for curve in curves.values()])),
        trend=_trend(list(curves.values())), null=null,
        within_noise=null is not None and mean <= null and not lost,
        low=mean - half if math.isfinite(mean - half) else None,
        high=mean + half if math.isfinite(mean + half) else None,
    )  # fmt: skip


def noise_edge(draws: Sequence[float]) -> float | None:
    """Below which 95 % of what two samples of one checkpoint say lie; the edge of `bncli.shift.samples.noise_of`.

    From 19 draws on the order statistic that a further draw exceeds with at most 5 %; of fewer the upper bound of a
    further draw of a normal distribution, mean + t s sqrt(1 + 1/n) (Hahn 1969), as a mean over units nearly is. None
    of fewer than two, or where one is not finite.
    """
    n = len(draws)
    if n < 2 or not np.isfinite(draws).all():
        return None
    rank = math.ceil(CONFIDENCE * (n + 1) - 1e-9)
    if rank <= n:
        return float(np.sort(draws)[rank - 1])
    return float(np.mean(draws) + t_quantile(n - 1, CONFIDENCE) * np.std(draws, ddof=1) * math.sqrt(1 + 1 / n))


def _draws(run: RunResult, metric: str, site: LayerPlace) -> Iterator[float]:
    """Null draws of one run, each by itself; a run of before they were kept so has their means, which are no draws."""
    averaged = run.spec.get("probes", {}).get("null_draws", 1) > 1
    for key in run.keys(metric):
        if key.statistic == "null" and (key.layer, key.place) == site and (key.index is not None or not averaged):
            yield from run.curve(*key)[1]


def _curve(run: RunResult, metric: str, site: LayerPlace) -> list[float]:
    return next((values for statistic in AVERAGES if (values := run.curve(metric, *site, statistic)[1])), [])


def _trend(curves: Sequence[Sequence[float]]) -> Trend:
    """Whether the mean over the last third of the probes is surely above or below that over the first third."""
    if len(curves) < 2 or min(map(len, curves)) < 2:
        return "open"
    rises = np.array([_rise(curve) for curve in curves])
    low, high = rises.mean() - half_width(rises), rises.mean() + half_width(rises)
    return "rising" if low > 0 else "falling" if high < 0 else "open"


def _rise(curve: Sequence[float]) -> float:
    third = -(-len(curve) // 3)
    return float(np.mean(curve[-third:]) - np.mean(curve[:third]))


def _all_diverged(arm: ArmRuns) -> bool:
    return bool(arm.runs) and all(run.info.status == "diverged" for run in arm.runs.values())


def _compared(
    arm: ShiftArm, arms: Sequence[ShiftArm], lost: Sequence[ShiftArm], ask: ShiftAsk
) -> Iterator[ShiftComparison]:
    """By every definition, at each layer that both arms have and over all of them; `lost` are those that diverged."""
    if arm.is_reference:
        return
    reference = next((a for a in arms if a.is_reference and dict(a.setting) == dict(arm.setting)), None)
    if gone := [each for each in (arm, reference) if any(each is other for other in lost)]:
        names = " and ".join(each.variant for each in gone if each)
        yield from (_none(arm, d, ask, f"all runs of {names} diverged") for d in ask.definitions)
        return
    for definition in ask.definitions:
        theirs = {_site(c): c for c in reference.cells if c.metric == definition.name} if reference else {}
        pairs = [(c, theirs[_site(c)]) for c in arm.cells if c.metric == definition.name and _site(c) in theirs]
        if not pairs:
            nowhere = "there is no layer at which both were measured"
            yield _none(arm, definition, ask, ask.unmeasured.get(definition.name, nowhere))
            continue
        if len(pairs) > 1:
            yield _comparison(arm, definition, ask, pairs, EVERYWHERE)
        for pair in pairs:
            yield _comparison(arm, definition, ask, [pair], _site(pair[0]))


def _site(cell: Cell) -> LayerPlace:
    return cell.layer, cell.place


def _comparison(
    arm: ShiftArm, definition: Definition, ask: ShiftAsk, pairs: Sequence[tuple[Cell, Cell]], site: LayerPlace
) -> ShiftComparison:
    """Of one layer, or of several together."""
    shared = sorted(set.intersection(*(set(ours.values) & set(theirs.values) for ours, theirs in pairs)))
    if not shared:
        return _none(arm, definition, ask, f"no seed has a run of both {arm.variant} and {ask.reference}", site)
    by_layer = [[(a.values[seed], b.values[seed]) for seed in shared] for a, b in pairs]
    if not np.isfinite(by_layer).all():
        return _none(arm, definition, ask, "it is not a finite number in some run", site)
    if definition.scale == "ratio":
        by_layer = [points for points in by_layer if all(a > 0 and b > 0 for a, b in points)]
        if not by_layer:
            return _none(arm, definition, ask, "it is exactly 0, which has no ratio", site)
        sample = np.mean([[math.log(a / b) for a, b in points] for points in by_layer], 0)
    else:
        sample = np.mean([[a - b for a, b in points] for points in by_layer], 0)
    middle = float(np.mean(sample))
    half = half_width(sample) if len(sample) > 1 else math.inf
    ends = (middle - half, middle + half)
    write = math.exp if definition.scale == "ratio" else float
    return ShiftComparison(
        definition.name, *site, arm.variant, ask.reference, arm.setting, len(shared), write(middle),
        low=write(ends[0]) if math.isfinite(half) else None,
        high=write(ends[1]) if math.isfinite(half) else None,
        side=_side(*ends, definition, ask.margin),
        within_noise=all(a.within_noise and b.within_noise for a, b in pairs),
        reason="" if len(shared) > 1 else "one seed: no interval",
    )  # fmt: skip


def _side(low: float, high: float, definition: Definition, margin: float) -> Side:
    """What an interval of differences, of logarithms on the ratio scale, says."""
    if definition.scale == "ratio" and max(abs(low), abs(high)) <= math.log1p(margin):
        return "same"
    if low == high == 0:
        return "same"
    if low > 0:
        return "less" if definition.better == "higher" else "more"
    if high < 0:
        return "more" if definition.better == "higher" else "less"
    return "open"


def _none(
    arm: ShiftArm, definition: Definition, ask: ShiftAsk, reason: str, site: LayerPlace = EVERYWHERE
) -> ShiftComparison:
    return ShiftComparison(
        definition.name, *site, arm.variant, ask.reference, arm.setting, 0, None, None, None, "not comparable", False,
        reason,
    )  # fmt: skip
