"""What is read off one run: accuracy and loss at the end, at best and on average, divergence, growth of the biases."""

import math
from collections.abc import Mapping
from itertools import pairwise

from bncli.findings import Value
from bncli.records import RunResult


def curve(result: RunResult, quantity: str, layer: str = "") -> tuple[list[int], list[float]]:
    """Steps and finite values of one quantity, in order of steps."""
    found = [(s, v) for s, v in zip(*result.curve(quantity, layer), strict=True) if math.isfinite(v)]
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
    for layer in dict.fromkeys(r.layer for r in result.records if r.quantity == "parameter_norm"):
        steps, norms = curve(result, "parameter_norm", layer)
        if len(steps) > 1 and norms[0] > 0 and norms[-1] > norms[0]:
            found.append((layer, norms[-1] / norms[0], steps[-1]))
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
    layers = {r.layer for r in result.records if r.quantity == "parameter_norm"}
    squares: dict[int, float] = {}
    for layer in sorted(layers):
        if layer.rsplit(".", 1)[-1] == "bias":
            for step, norm in zip(*curve(result, "parameter_norm", layer), strict=True):
                squares[step] = squares.get(step, 0.0) + norm**2
    return squares


def exact(seed: int, value: float) -> Value:
    """A value with nothing left open."""
    return Value(seed, value, value, value)


def unknown(seed: int, reason: str) -> Value:
    """No value, and why."""
    return Value(seed, None, None, None, reason)
