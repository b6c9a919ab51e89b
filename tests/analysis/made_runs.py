"""Runs made by hand, for tests of the analysis and of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from bncli.analysis import ArmRuns, Ask
from bncli.records import Record, RunInfo, RunResult, Status

MARGINS = {"ratio": 0.05, "accuracy": 0.002, "loss": 0.01, "bias_growth": 0.01, "share": 0.05, "decades": 0.1}


def run_of(
    accuracy: Mapping[int, float] | None = None,
    loss: Mapping[int, float] | None = None,
    norms: Mapping[str, Mapping[int, float]] | None = None,
    *,
    budget: int = 1000,
    status: Status = "done",
    step: int | None = None,
    classes: int = 10,
) -> RunResult:
    """A run with the given curves, {step: value}; `norms` by parameter; 0.5 ms a step."""
    records = [Record("accuracy", s, v, "fraction") for s, v in (accuracy or {}).items()]
    records += [Record("loss", s, v, "nats") for s, v in (loss or {}).items()]
    for name, curve in (norms or {}).items():
        records += [Record("parameter_norm", s, v, "1", name) for s, v in curve.items()]
    step = budget if step is None else step
    info = RunInfo("id", status, step, seconds={"training": 0.0005 * step, "evaluation": 0.1}, parameters=1234)
    return RunResult({"training": {"steps": budget, "batch_size": 60}, "classes": classes}, info, tuple(records))


def reaching(step: int | None, final: float | None = None, *, budget: int = 1000, every: int = 100) -> RunResult:
    """A run on an even grid that is at 0.5, from `step` on at 0.95, at the end at `final`.

    `step` None never gets to 0.95; `final` is 0.97 unless said, 0.5 without a step.
    """
    final = (0.5 if step is None else 0.97) if final is None else final
    grid = range(0, budget + 1, every)
    accuracy = {s: 0.95 if step is not None and s >= step else 0.5 for s in grid}
    return run_of(accuracy | {budget: final}, budget=budget)


def arm_of(variant: str, runs: Sequence[RunResult], setting: Mapping[str, Any] | None = None) -> ArmRuns:
    """An arm whose runs have seeds 0, 1, ..."""
    return ArmRuns(variant, setting or {}, dict(enumerate(runs)))


def ask_of(*measures: str, target: float | None = 0.95, final_of: str | None = None) -> Ask:
    """A question about `none` as the reference."""
    return Ask(
        "figure1",
        "does batch normalisation train the paper's MNIST network in fewer steps?",
        "mnist · mlp 784-100-100-100-10 sigmoid · batch 60 · sgd lr 0.1 · 50,000 steps · 5 paired seeds · cpu",
        "none",
        measures or ("steps_to_target", "final_accuracy"),
        target,
        final_of,
        MARGINS,
        "test",
        (),
        {"torch": "2.6"},
    )
