"""Sentences about single comparisons: who was better than the reference, by how much, how sure; or what it takes."""

from collections.abc import Sequence

from bncli.analysis.readers import Ask
from bncli.findings import Arm, Comparison, Measure
from bncli.format import worded_comparison, written, written_setting
from bncli.measures import ACCURACY, CROSSINGS, Metric

Compared = tuple[Arm, Comparison]
ONE_SEED = "one seed says nothing about how much runs differ by chance"


def headlines(arms: Sequence[Arm], measure: Measure, ask: Ask) -> tuple[str, ...]:
    """One sentence for each arm that is compared; one for all of them where none has two seeds, or none got there."""
    compared = compared_on(arms, measure)
    if compared and all(c.pairs == 1 for _, c in compared):
        return (f"no claim is made: {ONE_SEED}",)
    if compared and (nobody := nobody_reached([arm for arm in arms if arm.seeds], measure, ask)):
        return (nobody,)
    return tuple(at_setting(arm) + headline(arm, comparison, measure, ask) for arm, comparison in compared)


def compared_on(arms: Sequence[Arm], measure: Measure) -> list[Compared]:
    """Every arm that is compared with the reference, with its comparison on one measure."""
    return [(arm, c) for arm in arms for c in arm.comparisons if c.measure == measure.name]


def headline(arm: Arm, c: Comparison, measure: Measure, ask: Ask) -> str:
    """What one comparison says, in a sentence without the setting."""
    if c.verdict == "not comparable":
        return f"{c.variant} and {c.reference} cannot be compared: {c.reason}"
    if c.pairs == 1:
        return f"no claim is made about {c.variant}: {ONE_SEED}"
    size, noun = worded_comparison(c, measure)[0], noun_of(measure)
    still_open = c.verdict == "inconclusive"
    if not size:
        said = f"{c.variant} and {c.reference} cannot be told apart in {noun}"
    elif measure.name in CROSSINGS:
        said = f"{c.variant} {reached_in(arm, c, measure, ask)}"
    elif measure.scale == "ratio":
        said = f"{c.variant} had {size} the {noun} of {c.reference}{how_sure(c, measure, ask)}"
    elif c.verdict == "equivalent":
        said = f"{c.variant} and {c.reference} have the same {noun}: {size}{how_sure(c, measure, ask)}"
    elif still_open:
        said = f"{c.variant} and {c.reference} differ in {noun} by {size}{how_sure(c, measure, ask)}"
    else:
        higher = (c.verdict == "better") == (measure.direction == "higher")
        more = f"a {'higher' if higher else 'lower'} {noun}"
        said = f"{c.variant} has {more} than {c.reference}: {size}{how_sure(c, measure, ask)}"
    return f"inconclusive: {said}{_why_open(c)}{_more_seeds(c, ask)}" if still_open else said


def noun_of(measure: Measure) -> str:
    """What a sentence calls it: `final test accuracy`; of a target `steps to 95 %`."""
    return measure.label if measure.name in CROSSINGS or not measure.noun else measure.noun


def reached_in(arm: Arm, c: Comparison, measure: Measure, ask: Ask) -> str:
    """`reached 95 % test accuracy in 0.41x the steps of none (95 % interval 0.36 to 0.47), better in 5 of 5 pairs`."""
    size, sure = worded_comparison(c, measure)[0], how_sure(c, measure, ask)
    target = "the target" if arm.target is None else aimed_at(arm.target, ask)
    if not arm.reached:
        missed = f"did not reach {target} in any of {arm.seeds} runs"
        return f"{missed} and takes {size} the {measure.unit} of {c.reference}{sure}"
    few = "" if arm.reached == arm.seeds else f" in {arm.reached} of {arm.seeds} runs,"
    why = f"; {c.reason}" if c.estimate is None and c.verdict != "inconclusive" else ""
    return f"reached {target}{few} in {size} the {measure.unit} of {c.reference}{sure}{why}"


def how_sure(c: Comparison, measure: Measure, ask: Ask) -> str:
    """` (95 % interval 0.36 to 0.47), better in 5 of 5 pairs`; of what is equivalent the margin in place of pairs."""
    interval = worded_comparison(c, measure)[1]
    if c.verdict == "equivalent":
        return f" ({interval}, within the margin of {written_margin(measure, ask)})"
    share = c.probability_of_improvement
    if share is None or c.pairs == 1:
        return f" ({interval})" if interval else ""
    worse = share < 0.5 if c.verdict == "inconclusive" else c.verdict == "worse"
    count = round(c.pairs * (1 - share if worse else share), 1)
    ties = "" if count == int(count) else " (ties count half)"
    pairs = f", {'worse' if worse else 'better'} in {count:g} of {c.pairs} pairs{ties}"
    return (f" ({interval})" if interval else "") + pairs


def _more_seeds(c: Comparison, ask: Ask) -> str:
    """How many more seeds would decide, and how to ask for them; nothing where that is not known."""
    if not c.more_seeds:
        return ""
    some = "1 more seed" if c.more_seeds == 1 else f"{c.more_seeds} more seeds"
    return f"; about {some} would decide{with_seeds(c.pairs + c.more_seeds, ask)}"


def with_seeds(seeds: int, ask: Ask) -> str:
    """The option that asks for so many; nothing where runs were made elsewhere."""
    return "" if ask.made == "elsewhere" else f": --seeds {seeds}"


def nobody_reached(arms: Sequence[Arm], measure: Measure, ask: Ask) -> str:
    """That no run of these arms reached the target, and within how many steps; empty where some did."""
    if not arms or measure.name not in CROSSINGS or any(arm.reached != 0 for arm in arms):
        return ""
    targets = {arm.target for arm in arms}
    target = aimed_at(targets.pop() or 0.0, ask) if len(targets) == 1 else "its target"
    budgets = [arm.crossing.budget for arm in arms if arm.crossing]
    return f"no run reached {target}" + (f" within {max(budgets):,.0f} steps" if budgets else "")


def written_level(value: float, aim: Metric) -> str:
    """A target as it is written: `95 %`, `97.13 %`, `30 points`."""
    if aim.unit == "fraction":
        return f"{100 * value:.2f}".rstrip("0").rstrip(".") + " %"
    return f"{value:g} {aim.unit}".strip()


def aimed_at(value: float, ask: Ask) -> str:
    """`95 % test accuracy`, `a bleu of 30 points`."""
    level = written_level(value, ask.aim)
    return f"{level} {ask.aimed()}" if ask.aim == ACCURACY else f"a {ask.aimed()} of {level}"


def at_setting(arm: Arm) -> str:
    """`at lr 0.5: `; nothing without a sweep."""
    return f"at {written_setting(arm.setting)}: " if arm.setting else ""


def _why_open(c: Comparison) -> str:
    few = "so few seeds decide nothing in a study that was reported before"
    reason = c.reason or (few if c.method and c.method.startswith("e-value") and c.interval == (None, None) else "")
    return f"; {reason}" if reason else ""


def written_margin(measure: Measure, ask: Ask) -> str:
    """What is too small to matter: `1/1.05 to 1.05x`, `±0.2 points`."""
    margin = ask.margins[measure.margin]
    if measure.scale == "ratio":
        return f"1/{1 + margin:g} to {1 + margin:g}x"
    return f"±{written(margin, measure.unit).replace(' %', ' points')}"
