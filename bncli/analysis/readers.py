"""What the analysis is given, and what is read off one run: crossings, levels, divergence, shift metrics."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from bncli.findings import Claim, Looks, Value
from bncli.measures import MEASURES
from bncli.records import RunResult


@dataclass(frozen=True)
class ArmRuns:
    """The finished runs of one variant at one setting of the sweep."""

    variant: str
    setting: Mapping[str, Any]  # swept keys and their values; empty without a sweep
    runs: Mapping[int, RunResult]  # by seed; a seed whose run failed or is missing is absent
    # by seed: the runs that were tried beforehand to tune or to bisect, with the value tried, in order of values
    search: Mapping[int, Sequence[tuple[float, RunResult]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """What a study wants to know."""

    name: str  # of the preset
    question: str
    setup: str  # one line that says what was trained
    reference: str  # the variant that the others are compared with
    measures: tuple[str, ...]  # names in `bncli.analysis.measures.MEASURES`; the headlines are about the first
    target_accuracy: float | None  # a fixed level, as a fraction
    target_final_of: str | None  # or the median final accuracy of this variant at the same setting
    margins: Mapping[str, float]  # too small to matter: ratio, accuracy, loss, bias_growth
    split: str  # that the network is evaluated on, for words: "test" or "validation"
    warnings: tuple[str, ...]  # doubts that arose before the analysis
    environment: Mapping[str, Any]
    claims: tuple[Claim, ...] = ()
    searched: str = ""  # the key that was tuned or bisected
    chosen_by: str = ""  # by what it was tuned; empty where nothing was chosen
    looks: Looks = field(default_factory=Looks)


AVERAGES = ("", "mean")  # statistics that stand for a layer: of a metric of the whole layer, and over its units


def curve(result: RunResult, *key: Any) -> tuple[list[int], list[float]]:
    """Steps and finite values of one curve (a metric, or a whole `CurveKey`), in order of steps."""
    found = [(s, v) for s, v in zip(*result.curve(*key), strict=True) if math.isfinite(v)]
    return [s for s, _ in found], [v for _, v in found]


def budget(result: RunResult) -> int:
    """Steps the run was allowed to train."""
    return int(result.spec["training"]["steps"])


def final_accuracy(seed: int, result: RunResult, target: float | None = None) -> Value:
    """Accuracy of the last evaluation, a fraction; a diverged run guesses: 1 / classes."""
    classes, (_, accuracies) = int(result.spec["classes"]), curve(result, "accuracy")
    if not classes or not (accuracies or result.info.status == "diverged"):
        return unknown(seed, "accuracy was not measured")
    return exact(seed, 1 / classes if result.info.status == "diverged" else accuracies[-1])


def best_accuracy(seed: int, result: RunResult, target: float | None = None) -> Value:
    """Highest accuracy of all evaluations, a fraction; what was reached before a divergence counts."""
    _, accuracies = curve(result, "accuracy")
    return exact(seed, max(accuracies)) if accuracies else unknown(seed, "accuracy was not measured")


def accuracy_area(seed: int, result: RunResult, target: float | None = None) -> Value:
    """Area under the accuracy curve by the trapezoid rule over the budget's steps: the mean accuracy of training.

    After a divergence accuracy counts as chance, 1 / classes.
    """
    steps, accuracies = curve(result, "accuracy")
    if not steps:
        return unknown(seed, "accuracy was not measured")
    end = budget(result)
    if result.info.status == "diverged" and steps[-1] < end:
        chance = 1 / int(result.spec["classes"])
        steps, accuracies = [*steps, result.info.step, end], [*accuracies, chance, chance]
    if steps[-1] == steps[0]:
        return unknown(seed, "accuracy was measured once")
    parts = [(b - a) * (u + v) / 2 for (a, u), (b, v) in pairwise(zip(steps, accuracies, strict=True))]
    return exact(seed, sum(parts) / (steps[-1] - steps[0]))


def diverged(seed: int, result: RunResult, target: float | None = None) -> Value:
    """1 where the run diverged, else 0: its mean over seeds is the share."""
    return exact(seed, float(result.info.status == "diverged"))


def final_loss(seed: int, result: RunResult, target: float | None = None) -> Value:
    """Loss of the last evaluation, nats; that of a diverged run is unbounded, and no lower than it began."""
    _, losses = curve(result, "loss")
    if not losses:
        return unknown(seed, "loss was not measured")
    if result.info.status == "diverged":
        return Value(seed, None, losses[0], None, f"diverged at step {result.info.step:,}")
    return exact(seed, losses[-1])


def loss_change(seed: int, result: RunResult, target: float | None = None) -> Value:
    """Loss of the last evaluation less that of the first, nats: below 0 where training helped."""
    final, (_, losses) = final_loss(seed, result), curve(result, "loss")
    if final.value is not None:
        return exact(seed, final.value - losses[0])
    return final if final.low is None else Value(seed, None, 0.0, None, final.reason)


def grew_most(result: RunResult) -> tuple[str, float, int] | None:
    """The parameter whose norm had grown most by the last evaluation, by what factor, and when; where a run blew up.

    None if no norm was measured twice, or none grew. Between evaluations nothing is seen: of a run that diverges within
    a few steps this says where it was going, not which tensor overflowed first.
    """
    found = []
    for key in result.keys("parameter_norm"):
        steps, norms = curve(result, *key)
        if len(steps) > 1 and norms[0] > 0 and norms[-1] > norms[0]:
            found.append((key.layer, norms[-1] / norms[0], steps[-1]))
    return max(found, key=lambda each: each[1], default=None)


def bias_growth(seed: int, result: RunResult, target: float | None = None) -> Value:
    """Growth of the L2 norm over all parameters called `bias`, per step, from the first evaluation to the last."""
    if result.info.status == "diverged":
        return unknown(seed, f"diverged at step {result.info.step:,}")
    squares = _squared_bias_norms(result)
    if len(squares) < 2:
        return unknown(seed, "no bias was measured twice")
    first, last = min(squares), max(squares)
    return exact(seed, (math.sqrt(squares[last]) - math.sqrt(squares[first])) / (last - first))


def _squared_bias_norms(result: RunResult) -> Mapping[int, float]:
    squares: dict[int, float] = {}
    for key in sorted(result.keys("parameter_norm"), key=lambda key: key.layer):
        if key.layer.rsplit(".", 1)[-1] == "bias":
            for step, norm in zip(*curve(result, *key), strict=True):
                squares[step] = squares.get(step, 0.0) + norm**2
    return squares


def exact(seed: int, value: float) -> Value:
    """A value with nothing left open."""
    return Value(seed, value, value, value)


def unknown(seed: int, reason: str) -> Value:
    """No value, and why."""
    return Value(seed, None, None, None, reason)


def values_of(name: str, arm: ArmRuns, target: float | None) -> list[Value]:
    """One value a seed, in order of seeds; `target` is the level timed at the arm's setting."""
    read = MEASURES.load(name)
    if MEASURES[name].of == "search":
        return [read(seed, trials) for seed, trials in sorted(arm.search.items())]
    if MEASURES[name].of == "probe":
        ratio = MEASURES[name].scale == "ratio"
        return [read(seed, run, name, ratio=ratio) for seed, run in sorted(arm.runs.items())]
    return [read(seed, run, target) for seed, run in sorted(arm.runs.items())]


def over_training(seed: int, result: RunResult, metric: str, *, ratio: bool) -> Value:
    """The metric averaged over the probes of a run, then over layers: geometrically where it is compared by ratio.

    Layers at which it is exactly 0 have no logarithm and are left out there, as those of which it is 0 by construction.
    """
    keys = [key for key in result.keys(metric) if key.statistic in AVERAGES]
    curves = [values for key in keys if (values := curve(result, *key)[1])]
    means = [sum(values) / len(values) for values in curves]
    if ratio:
        means = [math.log(mean) for mean in means if mean > 0]
    if not means:
        return unknown(seed, f"{metric} was not probed")
    centre = sum(means) / len(means)
    return exact(seed, math.exp(centre) if ratio else centre)


# Accuracies are counts over at most a million examples; a level is met despite the rounding of float32 (6e-8).
_ROUNDING = 1e-7


def steps_to_target(seed: int, result: RunResult, target: float | None) -> Value:
    """First evaluation at or above `target`, bracketed by the evaluation before it.

    A run that never got there, or diverged before, is right-censored at its budget: it would not have got there within
    it, whenever it broke off.
    """
    steps, accuracies = curve(result, "accuracy")
    if target is None:
        return unknown(seed, "there is no target accuracy")
    if not steps and result.info.status != "diverged":
        return unknown(seed, "accuracy was not measured")
    for index, (step, accuracy) in enumerate(zip(steps, accuracies, strict=True)):
        if accuracy >= target - _ROUNDING:
            before = steps[index - 1] if index else min(step, 0)
            return Value(seed, float(step), float(before), float(step))
    end = f", diverged at step {result.info.step:,}" if result.info.status == "diverged" else ""
    limit = budget(result)
    return Value(seed, None, float(limit), None, f"not reached within {limit:,} steps{end}")


def examples_to_target(seed: int, result: RunResult, target: float | None) -> Value:
    """Training examples seen until then, epochs counted as often as they were seen."""
    return _scaled(steps_to_target(seed, result, target), float(result.spec["training"]["batch_size"]))


def seconds_to_target(seed: int, result: RunResult, target: float | None) -> Value:
    """Seconds of training and of reading data until then: this run's share of its job, evaluations not counted."""
    seconds, steps = result.info.seconds, result.info.step
    if "training" not in seconds or not steps:
        return unknown(seed, "training time was not recorded")
    return _scaled(steps_to_target(seed, result, target), (seconds["training"] + seconds.get("data", 0.0)) / steps)


def restricted_steps(seed: int, result: RunResult, target: float | None) -> Value:
    """Steps to the target, or the budget where it was not reached; the mean over seeds is the restricted mean."""
    value = steps_to_target(seed, result, target)
    return value if value.value is not None or value.low is None else exact(seed, value.low)


def reached(seed: int, result: RunResult, target: float | None) -> Value:
    """1 where the run reached the target within its budget, else 0: its mean over seeds is the share."""
    value = steps_to_target(seed, result, target)
    return value if value.value is None and value.low is None else exact(seed, float(value.value is not None))


def spent(result: RunResult, value: Value) -> float:
    """Steps that a run took to get to the target, or in vain until it ended or diverged."""
    return float(result.info.step) if value.value is None else value.value


def _scaled(value: Value, unit: float) -> Value:
    """Steps in another unit; a bracket begins at step one at the earliest."""

    def scaled(steps: float | None) -> float | None:
        return None if steps is None else max(steps, 1.0) * unit

    return replace(value, value=scaled(value.value), low=scaled(value.low), high=scaled(value.high))
