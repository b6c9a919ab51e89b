"""How a key was tuned for every arm: what was chosen, how wide the usable range is, and what the search cost."""

from collections.abc import Iterator, Sequence

from bncli.analysis.ask import ArmRuns, Ask
from bncli.analysis.searching import best, expected_best, scores_of, usable
from bncli.findings import Tuning
from bncli.notation import written_arm, written_option, written_score


def tunings(arms: Sequence[ArmRuns], ask: Ask) -> Iterator[Tuning]:
    """One for each arm that was tuned."""
    for arm in arms:
        if arm.search and ask.chosen_by:
            yield _tuning(arm, ask)


def tuning_notes(found: Sequence[Tuning]) -> Iterator[str]:
    """The budget, and of each arm what was chosen, how wide the usable range is, and what fewer trials would give."""
    if not found:
        return
    runs, saved, steps = (sum(getattr(t, part) for t in found) for part in ("runs", "saved", "steps"))
    raced = f"; racing saved {saved} runs" if saved else ""
    first, seeds = found[0], max(len(scores) for t in found for scores in t.scores)
    yield (
        f"{_short(first.key)} was tuned for each variant over {len(first.values)} values x {seeds} seeds by"
        f" {first.by.replace('_', ' ')}: {runs} runs, {steps:,} steps{raced}; the report's seeds are fresh"
    )
    for t in found:
        yield (
            f"{_name(t)}: {_short(t.key)} {written_option(t.chosen)}; usable {written_option(t.usable_low)} to"
            f" {written_option(t.usable_high)}; best of {_trials(t)}"
        )


def tuning_doubts(found: Sequence[Tuning]) -> Iterator[str]:
    """Arms whose best value lies on the edge of the grid: it may be better beyond."""
    for t in found:
        if t.on_edge:
            yield (
                f"{_name(t)}: the best {_short(t.key)}, {written_option(t.chosen)}, is on the edge of the grid and may"
                " be better beyond; widen it for all, or set tune.extend: true"
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


def _short(key: str) -> str:
    return key.rsplit(".", 1)[-1]
