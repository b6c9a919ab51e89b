"""What a search over several keys says of each arm: its best trial, how much each key mattered, and warnings."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bncli.analysis.readers import ArmRuns, Ask, TrialRuns
from bncli.analysis.tuning import score, short_key
from bncli.findings import Importance, Note, SearchFindings, Trial
from bncli.format import written_arm, written_option, written_score
from bncli.records import RunResult

QUARTERS = 4  # groups of a range: the least that sees a best in the middle, and not only a rise
LEAST_OF_GROUP = 5  # trials: the chi-squared distribution of Kruskal's H holds from about here on
EDGE = 0.05  # of a range

Rating = tuple[
    int, float
]  # how many seeds have a number, and their median score, higher is better: what trials rank by


def rate(runs: Mapping[int, RunResult], by: str) -> Rating:
    """Of a trial's runs at one rung; (0, -inf) of one without any."""
    scores = [score(result, by) for result in runs.values()]
    return len(scores), float(np.median(scores)) if scores else -math.inf


def rank(trials: Sequence[TrialRuns], rung: int, by: str) -> list[TrialRuns]:
    """Those that have numbers at a rung, the best first, of equals the earlier; those that lack seeds come last."""
    there = [trial for trial in trials if len(trial.rungs) > rung and trial.rungs[rung]]
    return sorted(there, key=lambda trial: rate(trial.rungs[rung], by), reverse=True)


def find_searches(arms: Sequence[ArmRuns], ask: Ask) -> Iterator[SearchFindings]:
    """One for each arm that was searched, and of which a trial came to its end with a number."""
    for arm in arms:
        last = max((len(trial.rungs) for trial in arm.trials), default=0) - 1
        if ranked := rank(arm.trials, last, ask.chosen_by):
            yield _search(arm, ranked[0], ask)


def _search(arm: ArmRuns, best: TrialRuns, ask: Ask) -> SearchFindings:
    trials = [_trial(trial, ask.chosen_by) for trial in arm.trials if trial.rungs[0]]
    results = [result for trial in arm.trials for rung in trial.rungs for result in rung.values()]
    longest = [
        [rung[seed] for rung in trial.rungs if seed in rung][-1] for trial in arm.trials for seed in trial.rungs[0]
    ]
    return SearchFindings(
        variant=arm.variant,
        setting=arm.setting,
        by=ask.chosen_by,
        sampler=ask.sampler,
        space=ask.space,
        rungs=tuple(sorted({result.budget or result.info.step for result in results})),
        trials=tuple(trials),
        chosen=best.point,
        best_so_far=tuple(accumulate((trial.first for trial in trials), max)),
        importances=tuple(weigh_keys(trials, ask.space)),
        on_edge=tuple(key for key, kind in ask.space.items() if _on_edge(best.point[key], kind)),
        runs=len(results),
        steps=sum(result.info.step for result in longest),
    )


def _trial(trial: TrialRuns, by: str) -> Trial:
    reached = [rung for rung in trial.rungs if rung][-1]
    scores = {seed: score(result, by) for seed, result in sorted(reached.items())}
    steps = max(result.budget or result.info.step for result in reached.values())
    return Trial(trial.point, rate(trial.rungs[0], by)[1], steps, scores, rate(reached, by)[1])


def weigh_keys(trials: Sequence[Trial], space: Mapping[str, Any]) -> Iterator[Importance]:
    """How much of the differences between trials each key explains by itself.

    The correlation ratio of the scores' ranks: trials are put into groups by the key alone, quarters of a range or the
    values of a list, and eta squared is the share of the ranks' variance that lies between groups. It is a first-order
    sensitivity index estimated from given data (Plischke, Borgonovo & Smith 2013), without what so many groups have by
    chance: (H - k + 1) / (n - k), H being that of Kruskal & Wallis (1952), whose p stands beside it. Ranks, because
    trials that diverge are as far off as one likes. It knows no interplay of keys, and is of the points that were
    tried: a sampler that keeps to the good ones leaves less to explain.
    """
    _, places, counts = np.unique([trial.first for trial in trials], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # of equals the mean
    for key, kind in space.items():
        groups = _groups([trial.values[key] for trial in trials], kind)
        n, k = len(trials), len(groups)
        if n < LEAST_OF_GROUP * k:
            yield Importance(key, None, None, reason=f"{n} trials; it takes {LEAST_OF_GROUP * k}")
        elif k < 2 or len(counts) < 2:
            yield Importance(key, None, None, reason="all trials have one value, or one score")
        else:
            between = sum(len(group) * (ranks[group].mean() - ranks.mean()) ** 2 for group in groups)
            h = (n - 1) * float(between / np.sum((ranks - ranks.mean()) ** 2))
            from scipy.special import chdtrc  # only now: most searches have no such test to make

            p = float(chdtrc(k - 1, h))
            yield Importance(key, min(max((h - k + 1) / (n - k), 0.0), 1.0), p, distinct=p < 0.05 / len(space))


def _groups(values: Sequence[Any], kind: Any) -> list[NDArray[np.intp]]:
    """Places of the trials that are compared as one: those of a quarter of a range, or of one value of a list."""
    if isinstance(kind, Mapping):
        return np.array_split(np.argsort(np.asarray(values, dtype=np.float64), kind="stable"), QUARTERS)
    there = [[i for i, value in enumerate(values) if value == each] for each in kind]
    return [np.asarray(places) for places in there if places]


def _on_edge(value: Any, kind: Any) -> bool:
    """Whether it lies within a twentieth of a range from one of its ends, or is first or last of ascending numbers."""
    if isinstance(kind, Mapping):
        ((scale, (low, high)),) = kind.items()
        share = math.log(value / low) / math.log(high / low) if scale == "log" else (value - low) / (high - low)
        return not EDGE <= share <= 1 - EDGE
    ascending = all(type(v) in (int, float) for v in kind) and all(a < b for a, b in pairwise(kind))
    return ascending and len(kind) > 2 and value in (kind[0], kind[-1])


def search_notes(found: Sequence[SearchFindings]) -> Iterator[Note]:
    """The budget; of each arm what was chosen and which keys mattered; and how that is to be read."""
    if not found:
        return
    first, keys = found[0], _listed([short_key(key) for key in found[0].space])
    seeds = max(len(trial.scores) for each in found for trial in each.trials)
    halved = f", the better third going on after {' and '.join(f'{steps:,}' for steps in first.rungs[:-1])} steps"
    runs, steps = sum(each.runs for each in found), sum(each.steps for each in found)
    yield Note(
        f"{keys} {'was' if len(first.space) == 1 else 'were'} searched for each variant by {len(first.trials)} trials x"
        f" {seeds} seed{'s' if seeds > 1 else ''} of {first.sampler}{halved if first.rungs[1:] else ''}, by"
        f" {first.by.replace('_', ' ')}: {runs} runs, {steps:,} steps; the report's seeds are fresh",
        "Each variant gets as many trials, each a point of the same space, keeps the one that did best on data that the"
        " report does not use, and is then trained again with other seeds: what is reported was not picked for being"
        " lucky.",
    )
    for each in found:
        unit = " %" if each.by == "validation_accuracy" else ""
        best = next(trial.median for trial in each.trials if trial.values == each.chosen)
        point = ", ".join(f"{short_key(key)} {written_option(value)}" for key, value in each.chosen.items())
        yield Note(f"{_name(each)}: {point} was best ({written_score(best, each.by)}{unit}); {_importance(each)}")
    if any(weight.share is not None for each in found for weight in each.importances):
        yield Note(
            "a key explains what its value alone says of a trial's rank, among the points that were tried; the rest is"
            " the interplay of keys and the luck of seeds",
            "Trials are ranked by their score and grouped by one key (quarters of a range, or the values of a list)."
            " Explained is the share of the ranks' variance that lies between the groups (eta squared), less what so"
            " many groups would show by chance; a key whose share Kruskal and Wallis's test does not tell from chance"
            " is said to explain no more than that.",
        )


def _importance(found: SearchFindings) -> str:
    weights = sorted(found.importances, key=lambda weight: -(weight.share or 0))
    if all(weight.share is None for weight in weights):
        return f"how much each key mattered is not known ({weights[0].reason})"
    clear = [weight for weight in weights if weight.distinct]
    said = [f"{short_key(each.key)} explains {100 * (each.share or 0):.0f} %" for each in clear]
    if others := [short_key(each.key) for each in weights if each.p is not None and each not in clear]:
        said.append(f"{_listed(others)} explain{'s' * (len(others) == 1)} no more than chance would")
    said += [f"of {short_key(each.key)} it is not known ({each.reason})" for each in weights if each.p is None]
    return f"of the differences between its trials {'; '.join(said)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def find_search_warnings(found: Sequence[SearchFindings]) -> Iterator[str]:
    """Arms whose best trial lies at the edge of the space: it may be better beyond."""
    for each in found:
        for key in each.on_edge:
            best = f"{short_key(key)}, {written_option(each.chosen[key])}"
            beyond = "is at the edge of the space and may be better beyond; widen it for all"
            yield f"{_name(each)}: the best {best}, {beyond}"


def _name(found: SearchFindings) -> str:
    return written_arm(found.variant, found.setting)
