"""What a search over several keys says of each arm: its best trial, what each key mattered, and doubts about it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bncli.analysis.readers import TrialRuns
from bncli.analysis.tuning import score
from bncli.records import RunResult

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
