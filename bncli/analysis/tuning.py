"""What tuning and bisection say of each arm: choice, survivors, usable range, cost, and warnings."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bncli.analysis.readers import ArmRuns, Ask, curve, final_accuracy, final_loss
from bncli.analysis.stats import half_width
from bncli.findings import Note, Tuning, Value
from bncli.format import written_arm, written_option, written_score
from bncli.records import RunResult

USABLE = 0.01  # within one point of the best accuracy
TRAINED = 0.9  # of the first evaluation's loss: above it a network has learned nothing to speak of

Trials = Sequence[tuple[float, RunResult]]  # of one arm and seed: (value, run), in order of values


@dataclass(frozen=True)
class Scores:
    """What one value of the tuned key scored, by tuning seed; higher is better."""

    value: float
    by_seed: Mapping[int, float]

    @property
    def median(self) -> float:
        """Median over its seeds; minus infinity without one."""
        return float(np.median(list(self.by_seed.values()))) if self.by_seed else -math.inf


def score(result: RunResult, by: str) -> float:
    """`validation_accuracy` of the last evaluation, chance where it diverged; or minus `validation_loss`."""
    if by == "validation_accuracy":
        found = final_accuracy(0, result)
        return -math.inf if found.value is None else found.value
    found = final_loss(0, result)
    return -math.inf if found.value is None else -found.value


def scores_of(search: Mapping[int, Trials], by: str) -> list[Scores]:
    """Scores of every value of a search, in order of values."""
    found: dict[float, dict[int, float]] = {}
    for seed, trials in sorted(search.items()):
        for value, result in trials:
            found.setdefault(value, {})[seed] = score(result, by)
    return [Scores(value, found[value]) for value in sorted(found)]


def best(scores: Sequence[Scores]) -> Scores:
    """The highest median among those that were tried on the most seeds; the smaller value of equals."""
    most = max(len(s.by_seed) for s in scores)
    return max((s for s in scores if len(s.by_seed) == most), key=lambda s: (s.median, -s.value))


def survivors(scores: Sequence[Scores]) -> list[float]:
    """Values that get more seeds: all but those whose 95 % t-interval of the difference to the best is below 0."""
    if not scores:
        return []
    leader = best(scores)
    return [s.value for s in scores if s is leader or not _surely_worse(s, leader)]


def usable_range(seed: int, trials: Trials) -> Value:
    """Decades between the least and the greatest value around the best that are within a point of its accuracy.

    Where the range ends between two values of the grid is open: the least it can be is between the outermost usable
    values, the most between their unusable neighbours. A range that touches the grid's edge has no upper bound.
    """
    values, found = [value for value, _ in trials], [score(result, "validation_accuracy") for _, result in trials]
    if not found or not math.isfinite(max(found)):
        return Value(seed, None, None, None, "accuracy was not measured")
    first, last = usable(found)
    width = math.log10(values[last] / values[first])
    if first == 0 or last == len(values) - 1:
        return Value(seed, None, width, None, "usable up to the edge of the grid")
    return Value(seed, width, width, math.log10(values[last + 1] / values[first - 1]))


def usable(accuracies: Sequence[float]) -> tuple[int, int]:
    """First and last index of the values around the best that are within a point of it."""
    first = last = max(range(len(accuracies)), key=lambda i: (accuracies[i], -i))
    floor = accuracies[first] - USABLE - 1e-9
    while first > 0 and accuracies[first - 1] >= floor:
        first -= 1
    while last < len(accuracies) - 1 and accuracies[last + 1] >= floor:
        last += 1
    return first, last


def stable(result: RunResult) -> bool:
    """Whether a run trained to the end, and to a loss clearly below that it began with (a dead network's stays)."""
    _, losses = curve(result, "loss")
    return result.info.status == "done" and bool(losses) and losses[-1] <= TRAINED * losses[0]


def bracket(trials: Trials) -> tuple[float | None, float | None]:
    """Greatest value below all unstable ones that was stable, and the least that was not; None where there is none."""
    unstable = min((value for value, result in trials if not stable(result)), default=None)
    below = [v for v, result in trials if stable(result) and (unstable is None or v < unstable)]
    return max(below, default=None), unstable


def largest_stable(seed: int, trials: Trials) -> Value:
    """The largest value that trains stably, bracketed by the least that was seen not to."""
    low, high = bracket(trials)
    if low is None:
        return Value(seed, None, None, high, "no value that was tried trains stably")
    if high is None:
        return Value(seed, None, low, None, f"stable up to {low:g}, the largest tried")
    return Value(seed, low, low, high)


def expected_best(scores: Sequence[float]) -> list[float]:
    """Expected best score of 1, 2, ... trials drawn from these with replacement (Dodge et al. 2019, section 3.1).

    E[max of n] = sum over sorted scores v_i of v_i ((i / N)^n - ((i - 1) / N)^n), i = 1 .. N.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    edges = np.arange(len(ordered) + 1) / len(ordered)
    return [float(ordered @ np.diff(edges**n)) for n in range(1, len(ordered) + 1)]


def _surely_worse(scores: Scores, leader: Scores) -> bool:
    seeds = sorted(scores.by_seed.keys() & leader.by_seed.keys())
    gaps = np.array([scores.by_seed[seed] - leader.by_seed[seed] for seed in seeds])
    if len(gaps) < 2 or not np.isfinite(gaps).all():
        return bool(len(gaps)) and bool(np.all(gaps == -np.inf))
    return bool(gaps.mean() + half_width(gaps) < 0)


def tunings(arms: Sequence[ArmRuns], ask: Ask) -> Iterator[Tuning]:
    """One for each arm that was tuned."""
    for arm in arms:
        if arm.search and ask.chosen_by:
            yield _tuning(arm, ask)


def tuning_notes(found: Sequence[Tuning]) -> Iterator[Note]:
    """The budget, and of each arm what was chosen, how wide the usable range is, and what fewer trials would give."""
    if not found:
        return
    runs, saved, steps = (sum(getattr(t, part) for t in found) for part in ("runs", "saved", "steps"))
    raced = f"; racing saved {saved} runs" if saved else ""
    first, seeds = found[0], max(len(scores) for t in found for scores in t.scores)
    yield Note(
        f"{short_key(first.key)} was tuned for each variant over {len(first.values)} values x {seeds} seeds by"
        f" {first.by.replace('_', ' ')}: {runs} runs, {steps:,} steps{raced}; the report's seeds are fresh",
        "At one value for all, the variant for which it happens to be right wins. Here each variant gets as many values"
        " to choose from, picks the one with the best median on data that the report does not use, and is then trained"
        " again with other seeds: what is reported was not picked for being lucky.",
    )
    explanation = (
        "Usable are the values around the best whose median accuracy is within a point of it: the wider, the less it"
        " matters what is chosen. The figures behind 'to be expected' say what somebody with fewer trials would have"
        " found: the mean of the best of so many values drawn at random from those tried."
    )
    for t in found:
        yield Note(
            f"{_name(t)}: {short_key(t.key)} {written_option(t.chosen)}; usable {written_option(t.usable_low)} to"
            f" {written_option(t.usable_high)}; best of {_trials(t)}",
            explanation,
        )
        explanation = ""


def find_tuning_warnings(found: Sequence[Tuning]) -> Iterator[str]:
    """Arms whose best value lies on the edge of the grid: it may be better beyond."""
    for t in found:
        if t.on_edge:
            yield (
                f"{_name(t)}: the best {short_key(t.key)}, {written_option(t.chosen)}, is on the edge of the grid and"
                " may be better beyond; widen it for all, or set tune.extend: true"
            )


def _tuning(arm: ArmRuns, ask: Ask) -> Tuning:
    scores = scores_of(arm.search, ask.chosen_by)
    chosen = best(scores)
    medians = [s.median for s in scores]
    first, last = usable([s.median for s in scores_of(arm.search, "validation_accuracy")])
    runs = [result for trials in arm.search.values() for _, result in trials]
    return Tuning(
        variant=arm.variant,
        setting=arm.setting,
        key=ask.searched,
        by=ask.chosen_by,
        values=tuple(s.value for s in scores),
        scores=tuple(s.by_seed for s in scores),
        medians=tuple(medians),
        chosen=chosen.value,
        on_edge=chosen.value in (scores[0].value, scores[-1].value),
        usable_low=scores[first].value,
        usable_high=scores[last].value,
        expected_best=tuple(expected_best(medians)),
        runs=len(runs),
        saved=len(scores) * len(arm.search) - len(runs),
        steps=sum(result.info.step for result in runs),
    )


def _trials(tuning: Tuning) -> str:
    """`1, 3, 7 values drawn at random: 71.2, 90.3, 94.1 %`."""
    total = len(tuning.expected_best)
    counts = sorted({1, max(1, total // 2), total})
    levels = ", ".join(written_score(tuning.expected_best[n - 1], tuning.by) for n in counts)
    unit = " %" if tuning.by == "validation_accuracy" else ""
    return f"{', '.join(map(str, counts))} values drawn at random: {levels}{unit} to be expected"


def _name(tuning: Tuning) -> str:
    return written_arm(tuning.variant, tuning.setting)


def short_key(key: str) -> str:
    """`lr` of `training.lr`."""
    return key.rsplit(".", 1)[-1]
