"""Runs on a terminal, line by line."""

import pytest

from bncli.records import Record, RunInfo, RunResult, StudyRun
from bncli.report.study.runs import show_accounting, show_runs, sparkline
from report.made_findings import console, printed


def run(accuracies, *, status="done", step=1000, reason=""):
    records = [Record("accuracy", 100 * i, a, "fraction") for i, a in enumerate(accuracies)]
    records += [Record("loss", 0, 2.3, "nats"), Record("loss", 100, 0.1234, "nats")]
    records += [Record("train_loss", 100, 0.2, "nats")]
    return RunResult(
        {}, RunInfo("id", status, step, reason, seconds={"training": 1.5, "evaluation": 0.25}), tuple(records)
    )


ROWS = [
    StudyRun("none", {"training.lr": 0.5}, 0, "a", run([0.1, 0.46, 0.8])),
    StudyRun(
        "batch", {"training.lr": 0.5}, 0, "b", run([0.1, 0.1], status="diverged", step=340, reason="loss was nan")
    ),
    StudyRun("zca", {"training.lr": 0.5}, 1, "c", None),
]


def lines_at(width, rows=ROWS):
    into = console(width)
    show_runs(rows, into)
    return printed(into)


def test_where_the_seconds_went_is_one_sentence():
    info = RunInfo(
        "id", "done", 9, seconds={"training": 1.5, "evaluation": 0.25, "compilation": 0.0},
        samples_per_second=51234.4, peak_memory=400_000_000,
    )  # fmt: skip
    into = console(200)
    show_accounting([RunResult({}, info), RunResult({}, RunInfo("old", "done", 9, seconds={"training": 0.5}))], into)
    assert printed(into) == [
        "training 2.0 s; evaluation 0.2 s; 51,234 training examples a second and worker; a worker held at most 400 MB"
    ]


def test_nothing_is_said_of_runs_that_know_nothing():
    into = console(200)
    show_accounting([], into)
    assert printed(into) == []


def test_each_run_has_a_line():
    assert lines_at(120) == [
        " variant    lr   seed   status            train loss     loss   accuracy   accuracy curve   seconds",
        " none      0.5      0   done                  0.2000   0.1234     80.0 %   ▁▅█                  1.8",
        " batch     0.5      0   diverged at 340       0.2000   0.1234     10.0 %   ▁▁                   1.8",
        " zca       0.5      1   missing                    -        -          -                          -",
        "batch, training.lr 0.5, seed 0 diverged: loss was nan",
    ]


def test_a_narrow_terminal_goes_without_curves():
    lines = lines_at(90)
    assert lines[0] == " variant    lr   seed   status            train loss     loss   accuracy   seconds"
    assert not any("█" in line for line in lines)


def test_a_very_narrow_terminal_gets_a_list():
    assert lines_at(50)[:9] == [
        "none",
        "  lr              0.5",
        "  seed            0",
        "  status          done",
        "  train loss      0.2000",
        "  loss            0.1234",
        "  accuracy        80.0 %",
        "  accuracy curve  ▁▅█",
        "  seconds         1.8",
    ]


def test_no_runs_are_said_to_be_none():
    assert lines_at(80, []) == ["no runs"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([0.5], "▅"), ([0.0, 1.0], "▁█"), ([i / 31 for i in range(32)], "▁▁▂▂▃▃▄▄▅▅▆▆▇▇██")],
)
def test_a_sparkline_has_at_most_16_characters(values, expected):
    assert sparkline(values, 0.0, 1.0) == expected


def test_equal_values_are_a_flat_sparkline():
    assert sparkline([0.1, 0.1], 0.1, 0.1) == "▁▁"
