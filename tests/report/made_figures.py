"""Data for figures made by hand: a study with curves, the same swept, shift, a bench, a gate's history."""

from dataclasses import replace
from typing import Any

from bncli.findings import ArmCurve, Findings
from bncli.findings.shift import Course, ShiftFindings
from bncli.records import Record, RunInfo, RunResult, StudyRun
from bncli.report.data import ReportData
from tests.report.made_bench import record
from tests.report.made_findings import figure1
from tests.report.made_shift import LAYERS, METRICS, findings, site

STEPS = tuple(range(0, 5001, 10))


def curve(variant: str, metric: str = "accuracy", unit: str = "fraction", **changes: Any) -> ArmCurve:
    """501 points of one variant, with intervals and seconds."""
    values = [0.1 + 0.8 * step / 5000 for step in STEPS]
    ends = {"low": tuple(v - 0.01 for v in values), "high": tuple(v + 0.01 for v in values)}
    made = ArmCurve(
        variant, {}, metric, unit, STEPS, tuple(values), seconds=tuple(step * 0.002 for step in STEPS), **ends
    )
    return replace(made, **changes)


VARIANTS = ("none", "batch", "zca", "late")


def study(**changes: Any) -> ReportData:
    """Four variants with accuracy and loss, a run of each seed of two."""
    curves = [curve(v) for v in VARIANTS] + [curve(v, "loss", "nats") for v in VARIANTS]
    found = replace(figure1(), curves=tuple(curves), **changes)
    runs = [
        StudyRun(variant, setting, seed, f"{variant}{seed}", RunResult({}, RunInfo("id", "done", 5000), [
            Record("accuracy", step, 0.5 + seed / 10, "fraction") for step in STEPS
        ]))
        for variant, setting in [*((v, {}) for v in VARIANTS), ("none", {"training.lr": 0.1})]  # the last of a search
        for seed in range(2)
    ]  # fmt: skip
    return ReportData("figure1", found, runs=runs)


def swept() -> ReportData:
    """The same at three learning rates."""
    rates = [{"training.lr": rate} for rate in (0.1, 1.0, 10.0)]
    found = figure1()
    arms = [
        replace(arm, setting=at, comparisons=tuple(replace(c, setting=at) for c in arm.comparisons))
        for at in rates
        for arm in found.arms
    ]
    curves = [curve(v, setting=at) for at in rates for v in VARIANTS]
    return ReportData("swept", replace(found, arms=tuple(arms), curves=tuple(curves)))


def shift(layers: list[str] = LAYERS) -> ReportData:
    """Shift of two variants at these layers."""
    found: ShiftFindings = findings(layers)
    courses = tuple(
        Course(metric, variant, {}, *site(layer), (0, 500, 1000), (0.1, 0.2, 0.3))
        for metric in METRICS
        for variant in ("none", "batch")
        for layer in layers
    )
    return ReportData("shift", replace(found, courses=courses, curves=(curve("none"), curve("batch"))))


def bench() -> ReportData:
    """Three cases."""
    return ReportData("bench-made", record())


def history() -> list[dict[str, Any]]:
    """Two cases over four runs; one stepped at the third."""
    return [
        {"run": run, "commit": f"{run}abcdef0123456789", "time": "2026-11-27", "case": case, "value": value,
         "low": value - 0.02, "high": value + 0.02, "stepped": case == "batch" and run == 3}
        for case in ("batch", "group")
        for run, value in ((1, 1.0), (2, 1.01), (3, 1.2 if case == "batch" else 1.0), (4, 1.2))
    ]  # fmt: skip


def figures_without_curves() -> Findings:
    """A study of before curves were kept."""
    return figure1()
