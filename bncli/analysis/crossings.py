"""When a run first reached the target: in steps, seconds and examples, bracketed by the evaluations around it."""

from dataclasses import replace

from bncli.analysis.outcomes import budget, curve, exact, unknown
from bncli.findings import Value
from bncli.records import RunResult

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
