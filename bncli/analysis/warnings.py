"""Doubts about a result, in words: too few seeds, diverged or missing runs, a grid too coarse."""

from collections import Counter
from collections.abc import Iterator, Sequence

from bncli.analysis.comparisons import log_margin, paired
from bncli.analysis.readers import ArmRuns, Ask, grew_most
from bncli.analysis.stats import differences, half_width, interval, observed
from bncli.findings import Arm, Measure, Value
from bncli.format import written_arm
from bncli.measures import COSTS, OF_AIM

ENOUGH_SEEDS = 5
_LISTED = 5  # diverged runs named one by one, before the rest is counted


def find_warnings(runs: Sequence[ArmRuns], arms: Sequence[Arm], measures: Sequence[Measure], ask: Ask) -> Iterator[str]:
    """Every warning that the runs give rise to, the gravest first."""
    seeds = sorted({seed for arm in runs for seed in arm.runs})
    yield from _few_seeds(len(seeds))
    for arm in runs:
        yield from _diverged(arm)
    yield from _counted_as(runs, measures, ask)
    if any(measure.name in COSTS for measure in measures):
        yield "seconds, rates and memory are those of this machine and of whatever else ran on it then"
    for arm in runs:
        yield from _missing(arm, seeds)
    for row in arms:
        yield from _met_before_training(row)
    for measure in measures:
        yield from _coarse_grid(arms, measure, ask)


def _few_seeds(seeds: int) -> Iterator[str]:
    if seeds == 1:
        yield f"1 seed: no claim is made; use {ENOUGH_SEEDS} or more"
    elif 1 < seeds < ENOUGH_SEEDS:
        yield f"{seeds} seeds: intervals are wide and rest on few runs; use {ENOUGH_SEEDS} or more"


def _diverged(arm: ArmRuns) -> Iterator[str]:
    places = [f"seed {s} at step {run.info.step:,}" for s, run in arm.runs.items() if run.info.status == "diverged"]
    if places:
        more = f", {len(places) - _LISTED} more" if len(places) > _LISTED else ""
        said = f"{_name(arm)}: {len(places)} of {len(arm.runs)} runs diverged ({', '.join(places[:_LISTED])}{more})"
        yield said + _blown_up(arm)


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


def _counted_as(runs: Sequence[ArmRuns], measures: Sequence[Measure], ask: Ask) -> Iterator[str]:
    """How diverged runs enter the measures that the study asks for."""
    diverged = [run for arm in runs for run in arm.runs.values() if run.info.status == "diverged"]
    names = dict.fromkeys(OF_AIM.get(measure.name, measure.name).format(ask.aim.name) for measure in measures)
    if not diverged:
        return
    if "final_accuracy" in names and (classes := diverged[0].spec.get("classes")):
        yield f"a diverged run counts as chance: {100 / classes:.1f} % final accuracy"
    if names.keys() & {"final_loss", "loss_change"}:
        yield "a diverged run's loss counts as at least the loss it began with"
    for name in names:
        if ask.row(name).of == "metric" and not name.startswith("best_"):
            yield f"a diverged run's {ask.row(name).noun} counts as no better than it began"


def _missing(arm: ArmRuns, seeds: Sequence[int]) -> Iterator[str]:
    absent = [seed for seed in seeds if seed not in arm.runs]
    if absent:
        listed = ", ".join(map(str, absent[:_LISTED])) + (", ..." if len(absent) > _LISTED else "")
        yield (
            f"{_name(arm)}: no run for {'seed' if len(absent) == 1 else 'seeds'} {listed}; "
            f"{len(arm.runs)} of {len(seeds)} seeds remain"
        )


def _met_before_training(arm: Arm) -> Iterator[str]:
    values = [v for s in arm.summaries if s.measure == "steps_to_target" for v in s.values]
    met = sum(value.value == 0 for value in values)
    if met:
        yield f"{_name(arm)}: {met} of {len(values)} runs met the target before training; the target is too low"


def _coarse_grid(arms: Sequence[Arm], measure: Measure, ask: Ask) -> Iterator[str]:
    margin = log_margin(ask.margins[measure.margin], measure)
    names = [_name(arm) for arm in arms if not arm.is_reference and _grid_dominates(arm, arms, measure, margin)]
    if names:
        yield (
            f"{measure.label}: over half of the interval's width comes from the evaluation grid, not from the seeds "
            f"({', '.join(names)}); evaluate more often for a narrower one"
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
