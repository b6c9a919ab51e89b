"""Warnings about a result, each with what to do: too few seeds, diverged or missing runs, a grid too coarse."""

from collections import Counter
from collections.abc import Iterator, Sequence

from bncli.analysis.comparisons import log_margin, paired
from bncli.analysis.notes import grid
from bncli.analysis.readers import ArmRuns, Ask, grew_most
from bncli.analysis.stats import differences, half_width, interval, observed
from bncli.analysis.text import with_seeds
from bncli.findings import Arm, Measure, Value
from bncli.format import written_arm
from bncli.measures import COSTS

ENOUGH_SEEDS = 5
_LISTED = 5  # runs and arms named one by one, before the rest is counted


def find_warnings(runs: Sequence[ArmRuns], arms: Sequence[Arm], measures: Sequence[Measure], ask: Ask) -> Iterator[str]:
    """Every warning that the runs give rise to, the gravest first."""
    seeds = sorted({seed for arm in runs for seed in arm.runs})
    if 0 < len(seeds) < ENOUGH_SEEDS:
        found = "1 seed: no claim is made" if len(seeds) == 1 else f"{len(seeds)} seeds: intervals rest on few runs"
        yield f"{found}; use {ENOUGH_SEEDS} or more{with_seeds(ENOUGH_SEEDS, ask)}"
    for arm in runs:
        yield from _diverged(arm, ask)
    if any(measure.name in COSTS for measure in measures):
        yield (
            "seconds, rates and memory are those of this machine and of whatever else ran on it then; end other"
            " programs and compare within this table only"
        )
    for arm in runs:
        yield from _missing(arm, seeds, ask)
    for row in arms:
        yield from _met_before_training(row, ask)
    for measure in measures:
        yield from _coarse_grid(runs, arms, measure, ask)


def _diverged(arm: ArmRuns, ask: Ask) -> Iterator[str]:
    places = [f"seed {s} at step {run.info.step:,}" for s, run in arm.runs.items() if run.info.status == "diverged"]
    if places:
        more = f", {len(places) - _LISTED} more" if len(places) > _LISTED else ""
        said = f"{_name(arm)}: {len(places)} of {len(arm.runs)} runs diverged ({', '.join(places[:_LISTED])}{more})"
        lower = "training.lr, or set training.clip" if ask.made == "here" else "the learning rate"
        yield f"{said}{_blown_up(arm)}; lower {lower}"


def _blown_up(arm: ArmRuns) -> str:
    """Which layers stopped being finite first; or else which parameter had grown most, as far as evaluations show."""
    diverged = [run for run in arm.runs.values() if run.info.status == "diverged"]
    if layers := Counter(run.info.layer for run in diverged if run.info.layer):
        return f"; the first layer to overflow was {', '.join(f'{layer} ({n})' for layer, n in layers.most_common())}"
    found = grew_most(min(diverged, key=lambda run: run.info.step))
    if found is None:
        return ""
    layer, factor, step = found
    return f"; by step {step:,} the norm of {layer} had grown most, {factor:.3g}x"


def _missing(arm: ArmRuns, seeds: Sequence[int], ask: Ask) -> Iterator[str]:
    absent = [seed for seed in seeds if seed not in arm.runs]
    if absent:
        listed = ", ".join(map(str, absent[:_LISTED])) + (", ..." if len(absent) > _LISTED else "")
        yield (
            f"{_name(arm)}: no run for {'seed' if len(absent) == 1 else 'seeds'} {listed}; "
            f"{len(arm.runs)} of {len(seeds)} seeds remain; "
            + ("add its runs" if ask.made == "elsewhere" else "the same command trains what is missing")
        )


def _met_before_training(arm: Arm, ask: Ask) -> Iterator[str]:
    values = [v for s in arm.summaries if s.measure == "steps_to_target" for v in s.values]
    met = sum(value.value == 0 for value in values)
    if met:
        harder = f"set a harder one (--set target.{ask.aim.name}=LEVEL)"
        yield f"{_name(arm)}: {met} of {len(values)} runs met the target before training; {harder}"


def _coarse_grid(runs: Sequence[ArmRuns], arms: Sequence[Arm], measure: Measure, ask: Ask) -> Iterator[str]:
    margin = log_margin(ask.margins[measure.margin], measure)
    names = [_name(arm) for arm in arms if not arm.is_reference and _grid_dominates(arm, arms, measure, margin)]
    if names:
        every = grid(runs, ask.aim.name) or 0
        names = names[:_LISTED] + ["..."] * (len(names) > _LISTED)
        option = f" (--set evaluation.every={every // 2})" if ask.made == "here" and every > 1 else ""
        yield (
            f"{measure.label}: over half of the interval's width comes from how seldom runs are evaluated, not from "
            f"the seeds ({', '.join(names)}); evaluate more often{option}"
        )


def _grid_dominates(arm: Arm, arms: Sequence[Arm], measure: Measure, margin: float) -> bool:
    """Whether brackets make up over half of an interval, and are wider than what counts as equivalent."""
    reference = next((a for a in arms if a.is_reference and dict(a.setting) == dict(arm.setting)), None)
    pairs: list[tuple[Value, Value]] = paired(arm, reference, measure.name) if reference is not None else []
    points = observed(pairs, measure.scale) if len(pairs) > 1 else None
    if points is None:
        return False
    (low, high), (lows, highs) = interval(pairs, measure.scale), differences(pairs, measure.scale)
    bracket = float((highs - lows).mean())
    return bracket > 2 * margin and (high - low) > 4 * half_width(points)


def _name(arm: ArmRuns | Arm) -> str:
    return written_arm(arm.variant, arm.setting)
