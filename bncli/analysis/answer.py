"""The answer to a study's question in one sentence: what is best, by how much, how sure; or what it takes to say so."""

import math
from collections import Counter
from collections.abc import Sequence

from bncli.analysis.readers import ArmRuns, Ask, curve
from bncli.analysis.text import (
    ONE_SEED,
    Compared,
    aimed_at,
    at_setting,
    compared_on,
    headline,
    how_sure,
    nobody_reached,
    noun_of,
    reached_in,
    with_seeds,
    written_level,
)
from bncli.analysis.warnings import ENOUGH_SEEDS
from bncli.findings import Arm, Comparison, Measure
from bncli.format import worded_comparison, written, written_option, written_ratio, written_setting
from bncli.measures import COSTS, CROSSINGS

_LISTED = 3  # settings of a sweep that are said one by one


def find_answer(arms: Sequence[Arm], measures: Sequence[Measure], runs: Sequence[ArmRuns], ask: Ask) -> str:
    """One sentence that answers the question, with what to do where there is no answer yet."""
    first, compared = measures[0], compared_on(arms, measures[0])
    results = [run for arm in runs for run in arm.runs.values()]
    if not results and not any(arm.search for arm in runs):
        return "no run has numbers, so nothing is compared; bncli train shows how each ended"
    if len(results) > 1 and all(run.info.status == "diverged" for run in results):
        lr = results[0].spec.get("training", {}).get("lr")
        lower = f" (--set training.lr={lr / 10:g})" if isinstance(lr, int | float) and ask.made == "here" else ""
        return f"every run diverged, so nothing is known of the {noun_of(first)}; lower the learning rate{lower}"
    if not compared:
        add = "" if ask.made == "elsewhere" else " with --variants"
        return f"nothing is compared: there are runs of {ask.reference} alone; add other variants{add}"
    known = [(arm, c) for arm, c in compared if c.verdict != "not comparable"]
    if not known:
        return f"nothing can be compared: {compared[0][1].reason}"
    if all(c.pairs == 1 for _, c in known):
        arm, c = _best(known, first)
        alone = f" (in this one {c.variant} {_by_how_much(arm, c, first, ask)})" if c.estimate is not None else ""
        return f"no answer yet: {ONE_SEED}{alone}; use {ENOUGH_SEEDS} or more{with_seeds(ENOUGH_SEEDS, ask)}"
    swept = len({repr(arm.setting) for arm, _ in known}) > 1
    if said := _over_settings(arms, known, first, ask) if swept else _decided(known, first, ask):
        return ("" if swept else _best_of_each(arms)) + said
    said = _what_is_missing(arms, known, first, runs, ask)
    for other in (
        measure for measure in measures[1:] if measure.name not in COSTS
    ):  # what a step costs answers nothing
        there = [(arm, c) for arm, c in compared_on(arms, other) if c.verdict != "not comparable"]
        if clear := [(arm, c) for arm, c in there if c.verdict in ("better", "worse")]:
            differs = _over_settings(arms, there, other, ask) if swept else _decided(clear, other, ask)
            return f"{said}; but {differs}"
    return said


def _best_of_each(arms: Sequence[Arm]) -> str:
    """`each at its own best lr (none 0.5, batch 2), `; nothing where nothing was chosen."""
    chosen = [arm for arm in arms if arm.chosen]
    if not chosen:
        return ""
    keys = " and ".join(key.rsplit(".", 1)[-1] for key in chosen[0].chosen)
    said = ", ".join(f"{arm.variant} {' and '.join(map(written_option, arm.chosen.values()))}" for arm in chosen)
    return f"each at its own best {keys} ({said}), "


def _what_is_missing(
    arms: Sequence[Arm], compared: Sequence[Compared], measure: Measure, runs: Sequence[ArmRuns], ask: Ask
) -> str:
    """Why the first measure decides nothing, and what to change."""
    if measure.name not in CROSSINGS or not any(arm.reached is not None and arm.reached < arm.seeds for arm in arms):
        return _inconclusive(compared, measure, ask)
    said = nobody_reached(arms, measure, ask)
    best = f"; {_best_run(runs, ask)}" if said else ""
    return f"{said or _too_few(arms, ask)}{best}; {_what_to_change(arms, runs, ask)}"


def _decided(compared: Sequence[Compared], measure: Measure, ask: Ask) -> str:
    """Which variant is best, or that none beats the reference; empty where that is open."""
    better, worse, same, still_open = (
        [(arm, c) for arm, c in compared if c.verdict == verdict]
        for verdict in ("better", "worse", "equivalent", "inconclusive")
    )
    alone, reference = len(compared) == 1, compared[0][1].reference
    if better:
        arm, c = _best(better, measure)
        rest = f"; inconclusive: {_names(still_open)}" if still_open else ""
        it = "it " if measure.name in CROSSINGS else ""
        tied = [other.variant for _, other in better if other.estimate == c.estimate is not None]
        if len(tied) > 1:
            names = f"{', '.join(tied[:-1])} and {tied[-1]}"
            won = _won(measure, alone).replace("was", "were")
            return f"{names} {won} alike: each {_by_how_much(arm, c, measure, ask)}{rest}"
        return f"{c.variant} {_won(measure, alone)}: {it}{_by_how_much(arm, c, measure, ask)}{rest}"
    if still_open:
        return ""
    if same and alone:
        return f"no difference that matters: {headline(*same[0], measure, ask)}"
    if same:
        rest = f"; worse: {_names(worse)}" if worse else ""
        return f"no difference that matters in {noun_of(measure)} from {reference} to {_names(same)}{rest}"
    arm, c = _best(worse, measure)
    return f"{reference} {_won(measure, alone)}{':' if alone else '; the nearest:'} {headline(arm, c, measure, ask)}"


def _best(compared: Sequence[Compared], measure: Measure) -> Compared:
    """By the estimate, or by what bounds it."""

    def size(each: Compared) -> float:
        known = [value for value in (each[1].estimate, *each[1].interval[::-1]) if value is not None]
        return known[0] if known else 0.0

    return (min if measure.direction == "lower" else max)(compared, key=size)


def _won(measure: Measure, alone: bool) -> str:
    if measure.name in CROSSINGS:
        return "was faster" if alone else "was fastest"
    return f"had the {'better' if alone else 'best'} {noun_of(measure)}"


def _by_how_much(arm: Arm, c: Comparison, measure: Measure, ask: Ask) -> str:
    if measure.name in CROSSINGS:
        return reached_in(arm, c, measure, ask)
    against = f"that of {c.reference}" if measure.scale == "ratio" else f"against {c.reference}"
    return f"{worded_comparison(c, measure)[0]} {against}{how_sure(c, measure, ask)}"


def _names(compared: Sequence[Compared]) -> str:
    *first, last = [c.variant for _, c in compared]
    return f"{', '.join(first)} and {last}" if first else last


def _too_few(arms: Sequence[Arm], ask: Ask) -> str:
    target = next((aimed_at(arm.target, ask) for arm in arms if arm.target is not None), "the target")
    reached, seeds = Counter[str](), Counter[str]()
    for arm in filter(lambda arm: arm.seeds, arms):
        reached[arm.variant] += arm.reached or 0
        seeds[arm.variant] += arm.seeds
    counts = ", ".join(f"{variant} {reached[variant]} of {count}" for variant, count in seeds.items())
    return f"too few runs reached {target} to tell which is faster ({counts})"


def _bests(runs: Sequence[ArmRuns], ask: Ask) -> dict[str, list[float]]:
    """Of every variant the best value of each run."""
    found: dict[str, list[float]] = {}
    best = max if ask.aim.better == "higher" else min
    for arm in runs:
        for run in arm.runs.values():
            if values := curve(run, ask.aim.name)[1]:
                found.setdefault(arm.variant, []).append(best(values))
    return found


def _best_run(runs: Sequence[ArmRuns], ask: Ask) -> str:
    """`the best run, of variant batch, got to 56.3 %`."""
    values = [(value, variant) for variant, found in _bests(runs, ask).items() for value in found]
    if not values:
        return f"{ask.aim.noun} was not measured"
    value, variant = (max if ask.aim.better == "higher" else min)(values)
    return f"the best run, of variant {variant}, got to {written_level(value, ask.aim)}"


def _what_to_change(arms: Sequence[Arm], runs: Sequence[ArmRuns], ask: Ask) -> str:
    """What makes the target reachable: more steps, or a nearer level."""
    budgets = [arm.crossing.budget for arm in arms if arm.crossing]
    longer = f" (--set training.steps={2 * max(budgets):.0f})" if ask.made == "here" and budgets else ""
    nearer = ""
    if ask.target_final_of is None and (level := _reachable(runs, ask)) is not None:
        nearer = f" or set a nearer target (--set target.{ask.aim.name}={level:g})"
    return f"train longer{longer}{nearer}"


def _reachable(runs: Sequence[ArmRuns], ask: Ask) -> float | None:
    """A level that every run came to in training, or else every run of one variant, in two digits; None if none."""
    sign = 1 if ask.aim.better == "higher" else -1
    curves = (curve(run, ask.aim.name)[1] for arm in runs for run in arm.runs.values())
    at_first = [sign * values[0] for values in curves if values]
    worst = [min(sign * value for value in values) for values in _bests(runs, ask).values()]
    if not worst:
        return None
    for level in (min(worst), max(worst)):
        digit = 10.0 ** (math.floor(math.log10(abs(level))) - 1) if level else 1.0
        rounded = math.floor(level / digit + 1e-9) * digit
        if max(at_first) < rounded < (math.inf if ask.target_level is None else sign * ask.target_level):
            return sign * rounded
    return None


def _inconclusive(compared: Sequence[Compared], measure: Measure, ask: Ask) -> str:
    """By how much the most promising variant may differ, and how many more seeds would decide."""
    if len(compared) == 1:
        return headline(*compared[0], measure, ask)
    still_open = [(arm, c) for arm, c in compared if c.verdict == "inconclusive"]
    arm, c = _best(still_open, measure)
    said = headline(arm, c, measure, ask).removeprefix("inconclusive: ")
    return f"inconclusive: no variant is surely better than {c.reference}; the most promising: {at_setting(arm)}{said}"


def _over_settings(arms: Sequence[Arm], compared: Sequence[Compared], measure: Measure, ask: Ask) -> str:
    """Who was best at which settings of a sweep, or at how many; the best of all. Empty where nothing is decided."""
    places = {repr(arm.setting): arm.setting for arm, _ in compared}
    by_place = {key: [(arm, c) for arm, c in compared if repr(arm.setting) == key] for key in places}
    winners = {key: _winner(there, measure, ask) for key, there in by_place.items()}
    counts = Counter(winners.values()).most_common()
    if {*winners.values()} == {"?"}:
        return ""
    keys = " and ".join(dict.fromkeys(key.rsplit(".", 1)[-1] for setting in places.values() for key in setting))
    alone = all(len(there) == 1 for there in by_place.values())
    if len(counts) == 1 and counts[0][0] not in _NO_WINNER:
        sizes = [
            c.estimate for there in by_place.values() for _, c in there if c.variant == counts[0][0] and c.estimate
        ]
        ends = f"{written_ratio(min(sizes))} to {written_ratio(max(sizes))}" if sizes else ""
        ratios = f": {ends} the {measure.unit} of {compared[0][1].reference}"
        said = f"{counts[0][0]} {_won(measure, alone)} at each of {len(places)} settings of {keys}"
        said += ratios if measure.name in CROSSINGS and len(sizes) == len(places) else ""
    else:
        parts = []
        for name, count in counts:
            there = [written_setting(places[key]) for key, who in winners.items() if who == name]
            where = " and ".join(there) if len(places) <= _LISTED else f"{count} of {len(places)} settings of {keys}"
            parts.append(f"{_NO_WINNER.get(name) or f'{name} {_won(measure, alone)}'} at {where}")
        said = "; ".join(parts)
    return said + _best_of_all(arms, measure)


_NO_WINNER = {"?": "nothing is decided", "=": "no difference matters"}


def _winner(there: Sequence[Compared], measure: Measure, ask: Ask) -> str:
    """The best variant at one setting, or a key of `_NO_WINNER`."""
    if better := [(arm, c) for arm, c in there if c.verdict == "better"]:
        return _best(better, measure)[1].variant
    if not _decided(there, measure, ask):
        return "?"
    return "=" if any(c.verdict == "equivalent" for _, c in there) else there[0][1].reference


def _best_of_all(arms: Sequence[Arm], measure: Measure) -> str:
    """The arm with the best mean over all settings; nothing where they were timed to levels of their own."""
    means = [(s.mean, arm) for arm in arms for s in arm.summaries if s.measure == measure.name and s.mean is not None]
    if not means or len({arm.target for arm in arms}) > 1:
        return ""
    mean, arm = (min if measure.direction == "lower" else max)(means, key=lambda each: each[0])
    value = f"{measure.label}: {written(mean, measure.unit)}"
    return f"; best of all: {arm.variant} at {written_setting(arm.setting)} ({value})"
