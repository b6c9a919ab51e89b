"""Whole reports made by hand: a study of any size with every run behind it, shift, kernels."""

import math
from collections.abc import Sequence
from typing import Any

from bncli.analysis import analyse
from bncli.findings import Findings
from bncli.records import Record, RunInfo, RunResult, StudyRun
from bncli.report.data import ReportData
from tests.analysis.made_runs import arm_of, ask_of
from tests.report import made_bench
from tests.report.made_shift import findings as shift_findings


def made_run(place: int, seed: int, points: int) -> RunResult:
    """A run that learns the sooner the higher its `place`; every seed is a little different."""
    records = []
    for point in range(points):
        pace = (place + 1) * (1 + 0.03 * math.sin(7 * seed + place))
        learned = 1 - math.exp(-3 * pace * point / points) + 0.003 * math.sin(5 * point + 3 * seed + place)
        step = 50 * point
        records += [
            Record("accuracy", step, 0.1 + 0.87 * max(learned, 0), "fraction"),
            Record("loss", step, 2.3 - 2.1 * learned, "nats"),
            Record("train_loss", step, 2.3 - 2.2 * learned, "nats"),
        ]
    last = 50 * (points - 1)
    info = RunInfo(f"{place}-{seed}", "done", last, seconds={"training": 0.0005 * last * (1 + place)}, parameters=1234)
    return RunResult({"training": {"steps": last, "batch_size": 60}, "classes": 10}, info, tuple(records))


def study_report(variants: Sequence[str] = ("none", "batch", "zca"), seeds: int = 5, points: int = 41) -> ReportData:
    """A study of these variants, the first of which is the reference and must be called none."""
    runs = {name: [made_run(place, seed, points) for seed in range(seeds)] for place, name in enumerate(variants)}
    found = analyse([arm_of(name, made) for name, made in runs.items()], ask_of())
    assert isinstance(found, Findings)
    every = tuple(
        StudyRun(name, {}, seed, run.info.id, run) for name, made in runs.items() for seed, run in enumerate(made)
    )
    study: dict[str, Any] = {"question": found.question, "variants": {name: {"norm": name} for name in variants}}
    return ReportData(found.name, found, study, every, (), "bncli compare figure1 --seeds 5")


def shift_report() -> ReportData:
    """Shift at two layers."""
    return ReportData("study", shift_findings(["hidden.0/norm", "hidden.1/norm"]), None, (), (), "bncli shift-report")


def bench_report() -> ReportData:
    """Three cases."""
    return ReportData("bench-made", made_bench.record(), None, (), (), "bncli bench")


REPORTS = {"study": study_report, "shift": shift_report, "bench": bench_report}
