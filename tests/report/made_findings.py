"""Findings made by hand: the figure of the paper, with one arm of each verdict."""

import io
from typing import Any

from rich.console import Console

from bncli.findings import Arm, Comparison, Findings, Measure, Note, Summary, Value

STEPS = Measure("steps_to_target", "steps to 95 %", "steps", "lower", "ratio")
ACCURACY = Measure("final_accuracy", "final accuracy", "fraction", "higher", "difference")


def summary(measure: Measure, mean: float | None, std: float | None) -> Summary:
    value = Value(0, mean, mean or 50000.0, mean, "" if mean else "not reached within 50,000 steps")
    return Summary(measure.name, (value,), mean, std, "" if mean else "1 of 1 runs have no value")


def comparison(measure: Measure, variant: str, numbers: tuple[Any, ...], verdict: Any) -> Comparison:
    estimate, low, high, probability_of_improvement = numbers
    reason = "none in 1 of 5 pairs: not reached" if None in numbers else ""
    return Comparison(
        measure.name, variant, "none", {}, 5, estimate, low, high, probability_of_improvement, verdict, reason
    )


def arm(variant: str, steps: tuple[Any, Any], accuracy: tuple[float, float], comparisons: Any, ms: float | None) -> Arm:
    """One arm of five runs; `comparisons` are (numbers, verdict) on steps and on accuracy, none for the reference."""
    return Arm(
        variant,
        {},
        is_reference=not comparisons,
        seeds=5,
        target=0.95,
        reached=5 if steps[0] else 1,
        statuses={"done": 5},
        summaries=(summary(STEPS, *steps), summary(ACCURACY, *accuracy)),
        comparisons=tuple(comparison(m, variant, *c) for m, c in zip((STEPS, ACCURACY), comparisons, strict=False)),
        ms_per_step=ms,
        parameters=89610,
    )


def figure1() -> Findings:
    """Four arms: the reference, a better one, an equivalent one, one that is not reached and not comparable."""
    batch = (((0.408, 0.361, 0.468, 1.0), "better"), ((0.004, 0.002, 0.006, 1.0), "better"))
    zca = (((1.001, 0.981, 1.021, 0.5), "equivalent"), ((0.0003, -0.0012, 0.0018, 0.6), "inconclusive"))
    late = (((None, 3.856, None, 0.0), "worse"), ((None, None, None, None), "not comparable"))
    return Findings(
        "figure1",
        "does batch normalisation train the paper's MNIST network in fewer steps?",
        "mnist · mlp 784-100-100-100-10 sigmoid · batch 60 · sgd lr 0.1 · 50,000 steps · 5 paired seeds · cpu",
        (
            "batch reached 95 % test accuracy in 0.41x the steps of none (95 % interval 0.36 to 0.47)",
            "zca reached 95 % test accuracy in 1.00x the steps of none (95 % interval 0.98 to 1.02)",
            "late did not reach 95 % test accuracy in any of 5 runs and takes at least 3.86x the steps of none",
        ),
        (STEPS, ACCURACY),
        (
            arm("none", (12500.0, 310.0), (0.971, 0.001), (), 0.61),
            arm("batch", (5100.0, 280.0), (0.975, 0.001), batch, 0.74),
            arm("zca", (12510.0, 320.0), (0.9713, 0.0012), zca, 1.9),
            arm("late", (None, None), (0.5, 0.02), late, None),
        ),
        (Note("± is the standard deviation over seeds"),),
        ("late: 4 of 5 runs diverged (seed 0 at step 300)",),
        {"torch": "2.6"},
        answer="batch was fastest: it reached 95 % test accuracy in 0.41x the steps of none (95 % interval 0.36 to 0.47)",
    )


def console(width: int, **options: Any) -> Console:
    """A console that writes into memory."""
    return Console(file=io.StringIO(), width=width, **options)


def printed(into: Console) -> list[str]:
    """The lines that a console of `console` was given."""
    assert isinstance(into.file, io.StringIO)
    return into.file.getvalue().splitlines()
