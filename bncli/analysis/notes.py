"""How the numbers of a study are to be read: footnotes, what matters most first, with a paragraph each."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from bncli.analysis.readers import ArmRuns, Ask
from bncli.analysis.text import with_seeds, written_level, written_margin
from bncli.findings import Arm, Comparison, Looks, Measure, Note
from bncli.format import written_arm
from bncli.measures import CROSSINGS, OF_AIM

CLAIM_PAIRS = 10  # below it a result is a first indication: intervals at few seeds are wide and hide skew


def find_notes(runs: Sequence[ArmRuns], arms: Sequence[Arm], measures: Sequence[Measure], ask: Ask) -> Iterator[Note]:
    """A note for everything that occurs in the table and that it does not say by itself."""
    comparisons = [c for arm in arms for c in arm.comparisons]
    judged = [c for c in comparisons if c.method]
    yield from ask.notes
    yield from _target(arms, measures, ask)
    yield from _time(arms, measures)
    yield from _few_seeds(judged, arms, ask)
    if judged:
        yield _intervals(judged, arms, ask.looks)
    timed = any(measure.name in CROSSINGS for measure in measures)
    if timed and (every := grid(runs, ask.aim.name)):
        yield Note(
            f"steps are known to within {every:,}; the intervals allow for it",
            f"{ask.aim.noun.capitalize()} is measured every {every:,} steps, so a run that is first seen at the target"
            " there may have got to it up to so many steps before. Every run therefore counts as a span of steps"
            " and not as one number: an interval's lower end is computed from the early ends of these spans, its upper"
            " end from the late ones.",
        )
    if timed and any(arm.reached is not None and arm.reached < arm.seeds for arm in arms):
        yield Note(
            "a run that never reached the target counts as slower than its budget, and is never left out",
            "To drop such runs would make a variant look the better the more often it fails. What is known of them is"
            " that they need more steps than they were given: a comparison says 'at most' or 'at least' then, and a"
            " mean over seeds becomes a median.",
        )
    if any(c.verdict == "equivalent" for c in comparisons):
        margins = ", ".join(f"{written_margin(m, ask)} ({m.label})" for m in measures)
        yield Note(
            f"equivalent: the whole interval lies within {margins}",
            "That no difference was found is not that there is none. A variant is called equivalent only where"
            " the interval rules out every difference that would matter, which is what `margins:` of a preset says.",
        )
    yield from _diverged(runs, measures, ask)
    if len({c.variant for c in comparisons}) > 1:
        yield _reference_only(comparisons)
    if any(s.std is not None for a in arms for s in a.summaries):
        yield Note(
            "± is the standard deviation over seeds",
            "It says how much single runs differ from each other, not how well their mean is known: it does not shrink"
            " with more seeds, as the interval in [ ] does.",
        )
    yield from _shares(arms, measures)


def _target(arms: Sequence[Arm], measures: Sequence[Measure], ask: Ask) -> Iterator[Note]:
    """Where a target that a run has set comes from."""
    if ask.target_final_of and any(measure.name in CROSSINGS for measure in measures):
        levels = list(dict.fromkeys(written_level(arm.target, ask.aim) for arm in arms if arm.target is not None))
        which = f" of {levels[0]}" if len(levels) == 1 else ""
        yield Note(
            f"the target{which} is the final {ask.aim.noun} of {ask.target_final_of}, median over seeds",
            "So the question is how soon a variant is as good as that one is at the end of its training.",
        )


def _time(arms: Sequence[Arm], measures: Sequence[Measure]) -> Iterator[Note]:
    """That steps are no time: how long the target took in seconds."""
    if not measures or measures[0].name != "steps_to_target":
        return
    known = {a.variant: a.summaries[0].mean * a.ms_per_step for a in arms if a.ms_per_step and a.summaries[0].mean}
    against = next((a.variant for a in arms if a.is_reference), "")
    if against not in known or len(known) < 2 or len({repr(a.setting) for a in arms}) > 1:
        return
    others = ", ".join(f"{name} {seconds / known[against]:.2g}x" for name, seconds in known.items() if name != against)
    yield Note(
        f"steps are not seconds: the time to the target is {others} that of {against} (steps times ms/step, here)",
        "A step with a norm takes longer than one without, by the column ms/step, so that fewer steps can still be"
        " more time. These numbers multiply two means and have no interval;"
        " --set measures=steps_to_target,seconds_to_target measures the time and judges it.",
    )


def _few_seeds(judged: Sequence[Comparison], arms: Sequence[Arm], ask: Ask) -> Iterator[Note]:
    """That so few pairs allow no exact test, how many would; or that they are a first indication only."""
    pairs = min((c.pairs for c in judged), default=CLAIM_PAIRS)
    rough = [c for c in judged if c.method == "t-interval, rests on normality"]
    if rough:
        error, family = 1 - max(c.level for c in rough), max(c.family for c in rough)
        needed = math.ceil(math.log2(2 / error) - 1e-9)
        swept = any(arm.setting for arm in arms)
        reasons = [f"{family} {'comparisons' if swept else 'variants'}"] if family > 1 else []
        reasons += [f"{len(ask.looks.planned)} looks"] if len(ask.looks.planned) > 1 else []
        after = f" after correction for {' and '.join(reasons)}" if reasons else ""
        few = min(c.pairs for c in rough)
        yield Note(
            f"{few} seeds cannot reach p < .05{after}; {needed} can{with_seeds(needed, ask)}"
            " (until then verdicts assume normally distributed differences)",
            f"An exact test asks how often chance alone would make one variant come out ahead in as many pairs: with"
            f" {few} pairs that is at least 2 in {2**few}, however large the difference. Until there are {needed}"
            " pairs, verdicts rest on t-intervals, which take the differences between pairs to be normally"
            f" distributed. Below {CLAIM_PAIRS} pairs every result is a first indication: a single odd run can make"
            " it, and an interval computed from few runs hides how skewed they are.",
        )
    elif pairs < CLAIM_PAIRS:
        yield Note(
            f"{pairs} paired seeds are a first indication; {CLAIM_PAIRS} or more make a claim"
            f"{with_seeds(CLAIM_PAIRS, ask)}",
            "A single odd run among few can make a result, and an interval computed from few runs hides how skewed"
            " they are. More seeds cost time and settle it.",
        )


def _intervals(judged: Sequence[Comparison], arms: Sequence[Arm], looks: Looks) -> Note:
    """What [ ] is, and what it allows for: all comparisons of a measure, all looks."""
    family = max(c.family for c in judged)
    levels = sorted({c.level for c in judged})
    at = " to ".join(f"{100 * level:.4g}" for level in dict.fromkeys((levels[0], levels[-1]))) + " %"
    text = "[ ] is a 95 % interval over pairs of runs with the same seed"
    if family > 1:
        what = "comparisons" if any(arm.setting for arm in arms) else "variants"
        text += f", corrected for {family} {what}"
    said = (
        "With one seed, all variants start from the same weights, where shapes allow it, and see the same batches; what"
        " is compared is each such pair of runs. Of 100 intervals made like this, about 95 hold the true mean"
        " difference; the sign before a variant follows from its interval."
    )
    if family > 1:
        said += (
            f" Among {family} comparisons one looks large by chance more easily than a single one does: the intervals"
            f" are therefore taken at {at} (Holm's correction), so that in 95 % of studies no verdict of a column is"
            " wrong."
        )
    if looks.unplanned:
        text += f"; it allows for the reports with {_listed(looks.unplanned, 'and')} seeds before this one"
        said += (
            f" This study was reported before, with {_listed(looks.unplanned, 'and')} seeds, and then extended. Who"
            " adds seeds until a difference shows finds one in the end even where there is none, so its verdicts follow"
            f" from e-values at {at}, which hold at any number of looks and are wider."
        )
    elif len(looks.planned) > 1:
        text += f"; it allows for looks at {_listed(looks.planned, 'or')} seeds"
        said += (
            f" It was planned to look at this study with {_listed(looks.planned, 'or')} seeds, until something is"
            f" decided; so that all looks together are wrong in 5 % of studies, verdicts follow from intervals at {at}."
        )
    methods = {c.method for c in judged}
    found = [words for method, words in _METHODS.items() if method in methods]
    return Note(text, " ".join([said, *found]))


_METHODS: Mapping[str, str] = {
    "exact test": "An exact test underlies it: every assignment of signs to the differences is counted out, so that no"
    " shape of their distribution is assumed but symmetry.",
    "t-interval, rests on normality": "Where there are too few pairs for an exact test it is a t-interval, which takes"
    " the differences to be normally distributed.",
    "e-value": "Shares of runs have an e-value of their own, which assumes nothing.",
    "e-value, rests on normality": "The e-value takes differences to be normally distributed.",
}


def _diverged(runs: Sequence[ArmRuns], measures: Sequence[Measure], ask: Ask) -> Iterator[Note]:
    """How diverged runs enter the measures that the study asks for."""
    diverged = [run for arm in runs for run in arm.runs.values() if run.info.status == "diverged"]
    names = dict.fromkeys(OF_AIM.get(measure.name, measure.name).format(ask.aim.name) for measure in measures)
    if not diverged:
        return
    said = "A run whose numbers overflow ends there. To leave it out would favour the variant that breaks most often."
    if "final_accuracy" in names and (classes := diverged[0].spec.get("classes")):
        yield Note(f"a diverged run counts as chance: {100 / classes:.1f} % final accuracy", said)
    if names.keys() & {"final_loss", "loss_change"}:
        yield Note("a diverged run's loss counts as at least the loss it began with", said)
    for name in names:
        if ask.row(name).of == "metric" and not name.startswith("best_"):
            yield Note(f"a diverged run's {ask.row(name).noun} counts as no better than it began", said)


def _reference_only(comparisons: Sequence[Comparison]) -> Note:
    reference, other = comparisons[0].reference, comparisons[0].variant
    return Note(
        f"variants are compared with {reference}, not with each other; --set reference={other} compares with {other}",
        "Which of two variants that both beat the reference is the better one is not tested here, even where one's"
        " figures look better: their intervals are about the distance from the reference. With another reference the"
        " stored runs are compared anew; nothing is trained.",
    )


def _shares(arms: Sequence[Arm], measures: Sequence[Measure]) -> Iterator[Note]:
    """In how many pairs each arm was the better one, with the exact interval of that share."""
    said = (
        "The share of pairs in which the variant came out ahead, ties counted half, with its exact 95 % interval: how"
        " often it would in pairs of further seeds. It asks only who is ahead and not by how much, so a few pairs say"
        " little: all of 5 is compatible with anything from 48 % on."
    )
    for measure in measures:
        shares = [
            f"{written_arm(arm.variant, arm.setting)} in {_share(c)}"
            for arm in arms
            for c in arm.comparisons
            if c.measure == measure.name and c.probability_of_improvement is not None and c.pairs > 1
        ]
        if shares:
            reference = next(c.reference for arm in arms for c in arm.comparisons)
            yield Note(f"better than {reference} on {measure.label}: {', '.join(shares)}", said)
            said = ""


def _share(c: Comparison) -> str:
    """`5 of 5 pairs (95 % interval 48 to 100 %)`."""
    share, low, high = (
        c.probability_of_improvement or 0.0, c.probability_of_improvement_low, c.probability_of_improvement_high,
    )  # fmt: skip
    known = "" if low is None or high is None else f" (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    return f"{round(share * c.pairs, 1):g} of {c.pairs} pairs{known}"


def grid(runs: Sequence[ArmRuns], metric: str = "accuracy") -> int | None:
    """Steps between measurements of a metric, the most common of all runs; None where it was measured once at most."""
    measured = Counter(tuple(run.steps(metric)) for arm in runs for run in arm.runs.values())
    gaps: Counter[int] = Counter()
    for steps, count in measured.items():
        for a, b in pairwise(steps):
            gaps[b - a] += count
    return gaps.most_common(1)[0][0] if gaps else None


def _listed(numbers: Sequence[int], word: str) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} {word} {last}" if first else last
