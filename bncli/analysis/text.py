"""Sentences about a study: headlines on the first measure, and the footnotes that say how to read the numbers."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from bncli.analysis.readers import ArmRuns, Ask
from bncli.findings import Arm, Comparison, Looks, Measure, Method
from bncli.format import written, written_comparison, written_setting
from bncli.measures import ACCURACY, CROSSINGS, Metric

_TOO_FEW = "so few seeds decide nothing in a study that was reported before"
CLAIM_PAIRS = 10  # below it a result is labelled indicative: intervals at few seeds are wide and hide skew


def headlines(arms: Sequence[Arm], measure: Measure, ask: Ask) -> tuple[str, ...]:
    """One sentence for each arm that is compared; one for all of them where none has two seeds."""
    compared = [(arm, c) for arm in arms for c in arm.comparisons if c.measure == measure.name]
    if compared and all(c.pairs == 1 for _, c in compared):
        return ("no claim is made: one seed says nothing about the spread between seeds",)
    return tuple(_at(arm) + _sentence(arm, comparison, measure, ask) for arm, comparison in compared)


def level(value: float, aim: Metric) -> str:
    """A target as it is written: `95 %`, `97.13 %`, `30 points`."""
    if aim.unit == "fraction":
        return f"{100 * value:.2f}".rstrip("0").rstrip(".") + " %"
    return f"{value:g} {aim.unit}".strip()


def _at(arm: Arm) -> str:
    return f"at {written_setting(arm.setting)}: " if arm.setting else ""


def _sentence(arm: Arm, c: Comparison, measure: Measure, ask: Ask) -> str:
    if c.verdict == "not comparable":
        return f"{c.variant} and {c.reference} cannot be compared: {c.reason}"
    if c.pairs == 1:
        return f"no claim is made about {c.variant}: one paired seed says nothing about the spread between seeds"
    seeds = f"{c.pairs} paired seeds" + (", indicative" if c.pairs < CLAIM_PAIRS else "")
    seeds += f"; about {c.more_seeds} more would decide, judged as an extended study" if c.more_seeds else ""
    if measure.name in CROSSINGS:
        return f"{_of_steps(arm, c, measure, ask)} ({seeds})"
    return f"{_of_difference(c, measure, measure.noun)} ({seeds})"


def _of_steps(arm: Arm, c: Comparison, measure: Measure, ask: Ask) -> str:
    ratio = written_comparison(c, measure, sentence=True, corrected=True)
    target = "the target" if arm.target is None else _aimed_at(arm.target, ask)
    sooner = f"{c.variant} reaches {target} in fewer {measure.unit} than {c.reference}"
    if c.corrected_low is None and c.corrected_high is None:
        return f"whether {sooner} is open: {c.reason or _TOO_FEW}"
    if c.verdict == "inconclusive":
        return f"whether {sooner} is open: {ratio} the {measure.unit}"
    if c.verdict == "equivalent":
        return f"{c.variant} and {c.reference} reached {target} in as many {measure.unit}, within the margin: {ratio}"
    if arm.reached == arm.seeds:
        return f"{c.variant} reached {target} in {ratio} the {measure.unit} of {c.reference}"
    runs = f"{arm.reached} of {arm.seeds} runs"
    return f"{c.variant} reached {target} in {runs} and takes {ratio} the {measure.unit} of {c.reference}"


def _aimed_at(value: float, ask: Ask) -> str:
    """`95 % test accuracy`, `a bleu of 30 points`."""
    written_level = level(value, ask.aim)
    return f"{written_level} {ask.aimed()}" if ask.aim == ACCURACY else f"a {ask.aimed()} of {written_level}"


def _of_difference(c: Comparison, measure: Measure, noun: str) -> str:
    difference = written_comparison(c, measure, sentence=True, corrected=True)
    if c.corrected_low is None and c.corrected_high is None:
        return f"whether {c.variant} and {c.reference} differ in {noun} is open: {c.reason or _TOO_FEW}"
    if c.verdict == "inconclusive":
        return f"whether {c.variant} and {c.reference} differ in {noun} is open: {difference}"
    if c.verdict == "equivalent":
        return f"{c.variant} and {c.reference} have the same {noun}, within the margin: {difference}"
    higher = (c.verdict == "better") == (measure.direction == "higher")
    return f"{c.variant} has a {'higher' if higher else 'lower'} {noun} than {c.reference}: {difference}"


def notes(runs: Sequence[ArmRuns], arms: Sequence[Arm], measures: Sequence[Measure], ask: Ask) -> tuple[str, ...]:
    """What the grid, ±, [ ], the margins and `indicative` mean, as far as they occur."""
    return tuple(_notes(runs, arms, measures, ask))


def grid(runs: Sequence[ArmRuns], metric: str = "accuracy") -> int | None:
    """Steps between measurements of a metric, the most common of all runs; None where it was measured once at most."""
    gaps: Counter[int] = Counter()
    for arm in runs:
        for run in arm.runs.values():
            steps, _ = run.curve(metric)
            gaps.update(b - a for a, b in pairwise(steps))
    return gaps.most_common(1)[0][0] if gaps else None


def _notes(runs: Sequence[ArmRuns], arms: Sequence[Arm], measures: Sequence[Measure], ask: Ask) -> Iterator[str]:
    every, comparisons = grid(runs, ask.aim.name), [c for arm in arms for c in arm.comparisons]
    timed = any(measure.name in CROSSINGS for measure in measures)
    if timed and every:
        yield (
            f"{ask.aim.noun} is measured every {every:,} steps, so a crossing is known to lie between two evaluations; "
            "[ ] includes that"
        )
    if any(s.std is not None for arm in arms for s in arm.summaries):
        yield "± is the standard deviation over seeds"
    yield from _of_intervals([c for c in comparisons if c.method], ask.looks)
    if timed and any(arm.reached is not None and arm.reached < arm.seeds for arm in arms):
        yield "a run that never reached the target is counted as later than its budget, never dropped"
    if any(c.verdict == "equivalent" for c in comparisons):
        yield f"equivalent: the whole interval lies within {', '.join(_margin(m, ask) for m in measures)}"
    if any(1 < c.pairs < CLAIM_PAIRS for c in comparisons):
        yield f"indicative: fewer than {CLAIM_PAIRS} paired seeds"


def _of_intervals(comparisons: Sequence[Comparison], looks: Looks) -> Iterator[str]:
    """What the intervals are, those of the table and those that verdicts follow from, and what they rest on."""
    if not comparisons:
        return
    yield "[ ] is a 95 % interval over pairs of runs with the same seed, each comparison for itself"
    family, levels = max(c.family for c in comparisons), sorted({c.level for c in comparisons})
    at = " to ".join(f"{100 * level:.4g}" for level in dict.fromkeys((levels[0], levels[-1]))) + " %"
    if family > 1:
        yield (
            f"verdicts, signs and headlines hold for all {family} comparisons of a measure at once (Holm): they follow"
            f" from intervals at {at}"
        )
    if looks.unplanned:
        yield (
            f"this study was reported before, with {_listed(looks.unplanned, 'and')} seeds, and then extended: its"
            f" verdicts follow from e-values at {at}, which allow for any number of looks"
        )
    elif len(looks.planned) > 1:
        yield (
            f"until decided: planned to be looked at with {_listed(looks.planned, 'or')} seeds; so that all looks"
            f" together are wrong in 5 % of studies, verdicts follow from intervals at {at}"
        )
    for method in sorted({c.method for c in comparisons if c.method}):
        yield _METHODS[method].format(**_reach([c for c in comparisons if c.method == method]))


_METHODS: Mapping[Method, str] = {
    "exact test": "verdicts at {pairs} pairs are those of an exact test",
    "t-interval, rests on normality": "verdicts at {pairs} pairs rest on t-intervals, which take differences to be"
    " normal: no exact test reaches {error} % below {needed} pairs",
    "e-value": "verdicts on shares are those of an e-value",
    "e-value, rests on normality": "these e-values take differences to be normal",
}


def _reach(comparisons: Sequence[Comparison]) -> Mapping[str, str]:
    error = 1 - max(c.level for c in comparisons)
    pairs = sorted({c.pairs for c in comparisons})
    needed = math.ceil(math.log2(2 / error) - 1e-9)
    return {"pairs": _listed(pairs, "and"), "error": f"{100 * error:.3g}", "needed": str(needed)}


def _listed(numbers: Sequence[int], word: str) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} {word} {last}" if first else last


def _margin(measure: Measure, ask: Ask) -> str:
    margin = ask.margins[measure.margin]
    if measure.scale == "ratio":
        return f"1/{1 + margin:g} to {1 + margin:g}x ({measure.label})"
    return f"±{written(margin, measure.unit).replace(' %', ' points')} ({measure.label})"
