"""What is read off one run: steps to a target, final accuracy and loss, growth of the biases."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bncli.findings import Direction, Scale, Value
from bncli.records import RunResult

# Accuracies are counts over at most a million examples; a level is met despite the rounding of float32 (6e-8).
_ROUNDING = 1e-7

Reader = Callable[[int, RunResult, float | None], Value]  # (seed, result, target level) -> value


@dataclass(frozen=True)
class MeasureKind:
    """One measure: how it is read off a run, and how it is compared."""

    read: Reader
    label: str  # heads the table's column
    noun: str  # in a sentence; {split} is the evaluation split
    unit: str
    direction: Direction
    scale: Scale
    margin: str  # its key in `Ask.margins`


def curve(result: RunResult, quantity: str, layer: str = "") -> tuple[list[int], list[float]]:
    """Steps and finite values of one quantity, in order of steps."""
    found = [(s, v) for s, v in zip(*result.curve(quantity, layer), strict=True) if math.isfinite(v)]
    return [s for s, _ in found], [v for _, v in found]


def budget(result: RunResult) -> int:
    """Steps the run was allowed to train."""
    return int(result.spec["training"]["steps"])


def steps_to_target(seed: int, result: RunResult, target: float | None) -> Value:
    """First evaluation at or above `target`, bracketed by the evaluation before it.

    A run that never got there, or diverged before, is right-censored at its budget: it would not have got there within
    it, whenever it broke off.
    """
    steps, accuracies = curve(result, "accuracy")
    if target is None:
        return _unknown(seed, "there is no target accuracy")
    if not steps and result.info.status != "diverged":
        return _unknown(seed, "accuracy was not measured")
    for index, (step, accuracy) in enumerate(zip(steps, accuracies, strict=True)):
        if accuracy >= target - _ROUNDING:
            before = steps[index - 1] if index else min(step, 0)
            return Value(seed, float(step), float(before), float(step))
    end = f", diverged at step {result.info.step:,}" if result.info.status == "diverged" else ""
    limit = budget(result)
    return Value(seed, None, float(limit), None, f"not reached within {limit:,} steps{end}")


def final_accuracy(seed: int, result: RunResult, target: float | None = None) -> Value:
    """Accuracy of the last evaluation, a fraction; a diverged run guesses: 1 / classes."""
    classes, (_, accuracies) = int(result.spec["classes"]), curve(result, "accuracy")
    if not classes or not (accuracies or result.info.status == "diverged"):
        return _unknown(seed, "accuracy was not measured")
    return _exact(seed, 1 / classes if result.info.status == "diverged" else accuracies[-1])


def final_loss(seed: int, result: RunResult, target: float | None = None) -> Value:
    """Loss of the last evaluation, nats; that of a diverged run is unbounded, and no lower than it began."""
    _, losses = curve(result, "loss")
    if not losses:
        return _unknown(seed, "loss was not measured")
    if result.info.status == "diverged":
        return Value(seed, None, losses[0], None, f"diverged at step {result.info.step:,}")
    return _exact(seed, losses[-1])


def loss_change(seed: int, result: RunResult, target: float | None = None) -> Value:
    """Loss of the last evaluation less that of the first, nats: below 0 where training helped."""
    final, (_, losses) = final_loss(seed, result), curve(result, "loss")
    if final.value is not None:
        return _exact(seed, final.value - losses[0])
    return final if final.low is None else Value(seed, None, 0.0, None, final.reason)


def bias_growth(seed: int, result: RunResult, target: float | None = None) -> Value:
    """Growth of the L2 norm over all parameters called `bias`, per step, from the first evaluation to the last."""
    if result.info.status == "diverged":
        return _unknown(seed, f"diverged at step {result.info.step:,}")
    squares = _squared_bias_norms(result)
    if len(squares) < 2:
        return _unknown(seed, "no bias was measured twice")
    first, last = min(squares), max(squares)
    return _exact(seed, (math.sqrt(squares[last]) - math.sqrt(squares[first])) / (last - first))


def _squared_bias_norms(result: RunResult) -> Mapping[int, float]:
    layers = {r.layer for r in result.records if r.quantity == "parameter_norm"}
    squares: dict[int, float] = {}
    for layer in sorted(layers):
        if layer.rsplit(".", 1)[-1] == "bias":
            for step, norm in zip(*curve(result, "parameter_norm", layer), strict=True):
                squares[step] = squares.get(step, 0.0) + norm**2
    return squares


def _exact(seed: int, value: float) -> Value:
    return Value(seed, value, value, value)


def _unknown(seed: int, reason: str) -> Value:
    return Value(seed, None, None, None, reason)


MEASURES: Mapping[str, MeasureKind] = {
    "steps_to_target": MeasureKind(
        steps_to_target, "steps to target", "steps to the target {split} accuracy", "steps", "lower", "ratio", "ratio"
    ),
    "final_accuracy": MeasureKind(
        final_accuracy, "final accuracy", "final {split} accuracy", "fraction", "higher", "difference", "accuracy"
    ),
    "final_loss": MeasureKind(
        final_loss, "final loss", "final {split} loss", "nats", "lower", "difference", "loss"
    ),
    # lower is better: the loss fell further
    "loss_change": MeasureKind(
        loss_change, "loss change", "change of the {split} loss", "nats", "lower", "difference", "loss"
    ),
    "bias_growth": MeasureKind(
        bias_growth, "bias growth (per step)", "growth of the bias norm", "norm per step", "lower", "difference",
        "bias_growth",
    ),
}  # fmt: skip
