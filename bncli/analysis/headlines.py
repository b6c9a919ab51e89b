"""What the comparisons on the first measure say, in sentences."""

from collections.abc import Sequence

from bncli.analysis.ask import Ask
from bncli.findings import Arm, Comparison, Measure
from bncli.measures import CROSSINGS, MEASURES
from bncli.notation import written_comparison, written_setting

CLAIM_PAIRS = 10  # below it a result is labelled indicative: intervals at few seeds are wide and hide skew


def headlines(arms: Sequence[Arm], measure: Measure, ask: Ask) -> tuple[str, ...]:
    """One sentence for each arm that is compared; one for all of them where none has two seeds."""
    compared = [(arm, c) for arm in arms for c in arm.comparisons if c.measure == measure.name]
    if compared and all(c.pairs == 1 for _, c in compared):
        return ("no claim is made: one seed says nothing about the spread between seeds",)
    return tuple(_at(arm) + _sentence(arm, comparison, measure, ask) for arm, comparison in compared)


def level(accuracy: float) -> str:
    """An accuracy as a target is written: `95 %`, `97.13 %`."""
    return f"{100 * accuracy:.2f}".rstrip("0").rstrip(".") + " %"


def _at(arm: Arm) -> str:
    return f"at {written_setting(arm.setting)}: " if arm.setting else ""


def _sentence(arm: Arm, c: Comparison, measure: Measure, ask: Ask) -> str:
    if c.verdict == "not comparable":
        return f"{c.variant} and {c.reference} cannot be compared: {c.reason}"
    if c.pairs == 1:
        return f"no claim is made about {c.variant}: one paired seed says nothing about the spread between seeds"
    seeds = f"{c.pairs} paired seeds" + (", indicative" if c.pairs < CLAIM_PAIRS else "")
    seeds += f"; about {c.more_seeds} more would decide" if c.more_seeds else ""
    if measure.name in CROSSINGS:
        return f"{_of_steps(arm, c, measure, ask)} ({seeds})"
    return f"{_of_difference(c, measure, MEASURES[measure.name].noun.format(split=ask.split))} ({seeds})"


def _of_steps(arm: Arm, c: Comparison, measure: Measure, ask: Ask) -> str:
    ratio = written_comparison(c, measure, sentence=True)
    target = f"{level(arm.target)} {ask.split} accuracy" if arm.target is not None else "the target"
    sooner = f"{c.variant} reaches {target} in fewer {measure.unit} than {c.reference}"
    if c.low is None and c.high is None:
        return f"whether {sooner} is open: {c.reason}"
    if c.verdict == "inconclusive":
        return f"whether {sooner} is open: {ratio} the {measure.unit}"
    if c.verdict == "equivalent":
        return f"{c.variant} and {c.reference} reached {target} in as many {measure.unit}, within the margin: {ratio}"
    if arm.reached == arm.seeds:
        return f"{c.variant} reached {target} in {ratio} the {measure.unit} of {c.reference}"
    runs = f"{arm.reached} of {arm.seeds} runs"
    return f"{c.variant} reached {target} in {runs} and takes {ratio} the {measure.unit} of {c.reference}"


def _of_difference(c: Comparison, measure: Measure, noun: str) -> str:
    difference = written_comparison(c, measure, sentence=True)
    if c.low is None and c.high is None:
        return f"whether {c.variant} and {c.reference} differ in {noun} is open: {c.reason}"
    if c.verdict == "inconclusive":
        return f"whether {c.variant} and {c.reference} differ in {noun} is open: {difference}"
    if c.verdict == "equivalent":
        return f"{c.variant} and {c.reference} have the same {noun}, within the margin: {difference}"
    higher = (c.verdict == "better") == (measure.direction == "higher")
    return f"{c.variant} has a {'higher' if higher else 'lower'} {noun} than {c.reference}: {difference}"
