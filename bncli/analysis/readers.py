"""What the analysis is given, and what is read off one run: crossings, levels, divergence, shift metrics."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from bncli.findings import Claim, Looks, Note, Value
from bncli.measures import ACCURACY, LOSS, MeasureRow, Metric, measure_row
from bncli.records import RunResult


@dataclass(frozen=True)
class TrialRuns:
    """The runs of one trial of a search: one point of its space."""

    point: Mapping[str, Any]  # searched keys and their values
    rungs: Sequence[Mapping[int, RunResult]]  # by seed, at each rung that it was trained to; of some there are none


@dataclass(frozen=True)
class ArmRuns:
    """The finished runs of one variant at one setting of the sweep."""

    variant: str
    setting: Mapping[str, Any]  # swept keys and their values; empty without a sweep
    runs: Mapping[int, RunResult]  # by seed; a seed whose run failed or is missing is absent
    # by seed: the runs that were tried beforehand to tune or to bisect, with the value tried, in order of values
    search: Mapping[int, Sequence[tuple[float, RunResult]]] = field(default_factory=dict)
    trials: Sequence[TrialRuns] = ()  # that were tried beforehand by a search over several keys, in order


@dataclass(frozen=True)
class Ask:
    """What a study wants to know."""

    name: str  # of the preset
    question: str
    setup: str  # one line that says what was trained
    reference: str  # the variant that the others are compared with
    measures: tuple[str, ...]  # names for `bncli.measures.measure_row`; the headlines are about the first
    target_level: float | None  # a fixed level of `aim`, in its unit
    target_final_of: str | None  # or the median final value of this variant at the same setting
    margins: Mapping[str, float]  # too small to matter: ratio, accuracy, loss, bias_growth, metrics.NAME of another
    split: str  # that the network is evaluated on, for words: "test" or "validation"
    warnings: tuple[str, ...]  # that arose before the analysis
    environment: Mapping[str, Any]
    claims: tuple[Claim, ...] = ()
    searched: str = ""  # the key that was tuned or bisected
    chosen_by: str = ""  # by what it was tuned or searched; empty where nothing was chosen
    space: Mapping[str, Any] = field(default_factory=dict)  # of a search over several keys, as the preset has it
    sampler: str = ""  # which drew its trials
    looks: Looks = field(default_factory=Looks)
    metrics: Mapping[str, Metric] = field(default_factory=dict)  # that the study declares, by name
    aim: Metric = ACCURACY  # the metric that has a target
    made: Literal["here", "by a task", "elsewhere"] = "here"  # the runs: what can be changed about them, for remedies
    notes: tuple[Note, ...] = ()  # on what is compared, which the plan knows

    def row(self, measure: str) -> MeasureRow:
        """What a measure is."""
        return measure_row(measure, self.metrics, self.aim)

    def aimed(self) -> str:
        """What is brought to the target, in a sentence: "test accuracy"."""
        return f"{self.split} accuracy".strip() if self.aim == ACCURACY else self.aim.noun


AVERAGES = ("", "mean")  # statistics that stand for a layer: of a metric of the whole layer, and over its units


def curve(result: RunResult, *key: Any) -> tuple[list[int], list[float]]:
    """Steps and finite values of one curve (a metric, or a whole `CurveKey`), in order of steps."""
    steps, values = result.curve(*key)
    if math.isfinite(sum(values)):  # none is infinite, nor no number: half of the time of ten thousand runs
        return steps, values
    found = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
    return [s for s, _ in found], [v for _, v in found]


def budget(result: RunResult) -> int:
    """Steps the run was allowed to train."""
    return int(result.spec["training"]["steps"])


def final_accuracy(seed: int, result: RunResult) -> Value:
    """Accuracy of the last evaluation, a fraction; a diverged run guesses: 1 / classes."""
    if result.info.status == "diverged" and (classes := result.spec.get("classes")):
        return exact(seed, 1 / classes)
    return final_value(seed, result, ACCURACY)


def final_value(seed: int, result: RunResult, metric: Metric) -> Value:
    """The last value of a metric; of a diverged run it is unbounded, and no better than it began."""
    _, values = curve(result, metric.name)
    if not values:
        return unknown(seed, f"{metric.noun} was not measured")
    if result.info.status == "diverged":
        return _no_better(seed, result, values[0], metric)
    return exact(seed, values[-1])


def best_value(seed: int, result: RunResult, metric: Metric) -> Value:
    """The best value of all; what was reached before a divergence counts."""
    _, values = curve(result, metric.name)
    if not values:
        return unknown(seed, f"{metric.noun} was not measured")
    return exact(seed, max(values) if metric.better == "higher" else min(values))


def mean_value(seed: int, result: RunResult, metric: Metric) -> Value:
    """Area under a metric's curve by the trapezoid rule over the steps at which it was measured: its mean."""
    steps, values = curve(result, metric.name)
    if not steps:
        return unknown(seed, f"{metric.noun} was not measured")
    if result.info.status == "diverged":
        return _no_better(seed, result, values[0], metric)
    return _area(seed, steps, values, metric.noun)


def _no_better(seed: int, result: RunResult, value: float, metric: Metric) -> Value:
    low, high = (None, value) if metric.better == "higher" else (value, None)
    return Value(seed, None, low, high, f"diverged at step {result.info.step:,}")


def _area(seed: int, steps: Sequence[int], values: Sequence[float], noun: str) -> Value:
    if steps[-1] == steps[0]:
        return unknown(seed, f"{noun} was measured once")
    parts = [(b - a) * (u + v) / 2 for (a, u), (b, v) in pairwise(zip(steps, values, strict=True))]
    return exact(seed, sum(parts) / (steps[-1] - steps[0]))


def best_accuracy(seed: int, result: RunResult) -> Value:
    """Highest accuracy of all evaluations, a fraction; what was reached before a divergence counts."""
    return best_value(seed, result, ACCURACY)


def accuracy_area(seed: int, result: RunResult) -> Value:
    """Area under the accuracy curve by the trapezoid rule over the budget's steps: the mean accuracy of training.

    After a divergence accuracy counts as chance, 1 / classes.
    """
    steps, accuracies = curve(result, "accuracy")
    if not steps:
        return unknown(seed, "accuracy was not measured")
    end = budget(result)
    if result.info.status == "diverged" and steps[-1] < end:
        if not (classes := result.spec.get("classes")):
            return _no_better(seed, result, accuracies[0], ACCURACY)
        steps, accuracies = [*steps, result.info.step, end], [*accuracies, 1 / classes, 1 / classes]
    return _area(seed, steps, accuracies, "accuracy")


def diverged(seed: int, result: RunResult) -> Value:
    """1 where the run diverged, else 0: its mean over seeds is the share."""
    return exact(seed, float(result.info.status == "diverged"))


def final_loss(seed: int, result: RunResult) -> Value:
    """Loss of the last evaluation, nats; that of a diverged run is unbounded, and no lower than it began."""
    return final_value(seed, result, LOSS)


def bits_per_character(seed: int, result: RunResult) -> Value:
    """Loss of the last evaluation in bits for each predicted character; of a diverged run as `final_loss`."""
    return _rescaled(final_loss(seed, result), lambda nats: nats / math.log(2))


def perplexity(seed: int, result: RunResult) -> Value:
    """Exponential of the loss of the last evaluation: as unsure as among so many tokens that are equally likely."""
    return _rescaled(final_loss(seed, result), lambda nats: math.exp(min(nats, 700.0)))  # float64 ends there


def _rescaled(value: Value, scale: Callable[[float], float]) -> Value:
    found, low, high = (None if end is None else scale(end) for end in (value.value, value.low, value.high))
    return replace(value, value=found, low=low, high=high)


def loss_change(seed: int, result: RunResult) -> Value:
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


def bias_growth(seed: int, result: RunResult) -> Value:
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


def seconds_per_step(seed: int, result: RunResult) -> Value:
    """Seconds of training and of reading data a step: this run's share of its job, evaluations not counted."""
    seconds, steps = result.info.seconds, result.info.step
    if "training" not in seconds or not steps:
        return unknown(seed, "training time was not recorded")
    return exact(seed, (seconds["training"] + seconds.get("data", 0.0)) / steps)


def examples_per_second(seed: int, result: RunResult) -> Value:
    """Training examples a second, reading them counted in: of a run trained beside others as lanes, of all of them."""
    rate = result.info.samples_per_second
    return exact(seed, rate) if rate else unknown(seed, "training examples were not counted")


def peak_memory(seed: int, result: RunResult) -> Value:
    """Bytes held at most while the run was trained: on a GPU by its tensors, else by the whole process."""
    if not result.info.job_memory:
        return unknown(seed, "its memory is not known apart from that of other runs (--engine plain trains one by one)")
    return exact(seed, float(result.info.job_memory))


def exact(seed: int, value: float) -> Value:
    """A value with nothing left open."""
    return Value(seed, value, value, value)


def unknown(seed: int, reason: str) -> Value:
    """No value, and why."""
    return Value(seed, None, None, None, reason)


def values_of(name: str, arm: ArmRuns, target: float | None, ask: Ask) -> list[Value]:
    """One value a seed, in order of seeds; `target` is the level timed at the arm's setting."""
    row = ask.row(name)
    read, runs = row.reader(), sorted(arm.runs.items())
    match row.of:
        case "search":
            return [read(seed, trials) for seed, trials in sorted(arm.search.items())]
        case "probe":
            return [read(seed, run, name, ratio=row.scale == "ratio") for seed, run in runs]
        case "target":
            return [read(seed, run, target, ask.aim) for seed, run in runs]
        case "metric":
            return [read(seed, run, row.metric) for seed, run in runs]
    return [read(seed, run) for seed, run in runs]


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


def steps_to_target(seed: int, result: RunResult, target: float | None, aim: Metric = ACCURACY) -> Value:
    """First evaluation at `target` or better, bracketed by the evaluation before it.

    A run that never got there, or diverged before, is right-censored at its budget: it would not have got there within
    it, whenever it broke off.
    """
    steps, values = curve(result, aim.name)
    if target is None:
        return unknown(seed, f"there is no target {aim.noun}")
    if not steps and result.info.status != "diverged":
        return unknown(seed, f"{aim.noun} was not measured")
    sign = 1 if aim.better == "higher" else -1
    for index, (step, value) in enumerate(zip(steps, values, strict=True)):
        if sign * (value - target) >= -_ROUNDING:
            before = steps[index - 1] if index else min(step, 0)
            return Value(seed, float(step), float(before), float(step))
    end = f", diverged at step {result.info.step:,}" if result.info.status == "diverged" else ""
    limit = budget(result)
    return Value(seed, None, float(limit), None, f"not reached within {limit:,} steps{end}")


def examples_to_target(seed: int, result: RunResult, target: float | None, aim: Metric = ACCURACY) -> Value:
    """Training examples seen until then, epochs counted as often as they were seen."""
    return _scaled(steps_to_target(seed, result, target, aim), float(result.spec["training"]["batch_size"]))


def seconds_to_target(seed: int, result: RunResult, target: float | None, aim: Metric = ACCURACY) -> Value:
    """Seconds of training and of reading data until then: this run's share of its job, evaluations not counted."""
    one = seconds_per_step(seed, result)
    return one if one.value is None else _scaled(steps_to_target(seed, result, target, aim), one.value)


def restricted_steps(seed: int, result: RunResult, target: float | None, aim: Metric = ACCURACY) -> Value:
    """Steps to the target, or the budget where it was not reached; the mean over seeds is the restricted mean."""
    value = steps_to_target(seed, result, target, aim)
    return value if value.value is not None or value.low is None else exact(seed, value.low)


def reached(seed: int, result: RunResult, target: float | None, aim: Metric = ACCURACY) -> Value:
    """1 where the run reached the target within its budget, else 0: its mean over seeds is the share."""
    value = steps_to_target(seed, result, target, aim)
    return value if value.value is None and value.low is None else exact(seed, float(value.value is not None))


def spent(result: RunResult, value: Value) -> float:
    """Steps that a run took to get to the target, or in vain until it ended or diverged."""
    return float(result.info.step) if value.value is None else value.value


def _scaled(value: Value, unit: float) -> Value:
    """Steps in another unit; a bracket begins at step one at the earliest."""

    def scaled(steps: float | None) -> float | None:
        return None if steps is None else max(steps, 1.0) * unit

    return replace(value, value=scaled(value.value), low=scaled(value.low), high=scaled(value.high))
