"""A history: a line a run, and the commits at which the gate's own tests say that something stepped."""

import json
import random
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bncli.findings import Measure, Value
from bncli.report.history import lay_out_history, list_rows
from bncli.session.history import describe_bench, describe_commit, describe_study, list_trends, read_history
from tests.report.made_bench import record
from tests.report.made_findings import figure1

MACHINE = {"processor": "a processor", "device": "cpu", "torch": "2.13.0", "python": "3.12"}
CASE = "batch/train-forward/N8C16/f32/nc/cpu"


def bench_line(number: int, level: float, machine: Mapping[str, Any] = MACHINE, processes: int = 3) -> dict[str, Any]:
    """A run whose processes say that the case takes `level` times torch's time, each within 1 %."""
    chance = random.Random(number)
    readings = [(level * (1 + chance.uniform(-0.01, 0.01)), 1e-3) for _ in range(processes)]
    row = {
        "case": CASE,
        "rival": "native",
        "value": level,
        "low": level * 0.99,
        "high": level * 1.01,
        "readings": readings,
    }
    return {
        "schema": "bncli/history/1", "kind": "bench", "name": "bench-ci", "time": f"2026-11-{number + 1:02}T08:00:00+00:00",
        "commit": f"{number:040}", "dirty": False, "bncli": "0.1.0", "torch": "2.13.0", "machine": machine, "rows": [row],
    }  # fmt: skip


def study_line(number: int, steps: Sequence[float]) -> dict[str, Any]:
    """A run of five seeds that reached the target after these steps."""
    measure = Measure("steps_to_target", "steps to 95 %", "steps", "lower", "ratio")
    values = [vars(Value(seed, value, value, value)) for seed, value in enumerate(steps)]
    row = {
        "arm": "batch", "measure": vars(measure), "margin": 0.05, "value": 0.5, "low": 0.4, "high": 0.6,
        "reference": "none", "values": values,
    }  # fmt: skip
    return {**bench_line(number, 1.0), "kind": "study", "name": "figure1", "rows": [row]}


def steps_of(lines: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [[point.step for point in trend.points] for trend in list_trends(json.loads(json.dumps(lines)))]


def test_the_run_at_which_a_case_became_slower_is_found_and_what_follows_is_held_against_it() -> None:
    lines = [bench_line(i, 1.0 if i < 4 else 1.3) for i in range(8)]
    assert steps_of(lines) == [["", "", "", "", "worse", "", "", ""]]


def test_a_case_that_becomes_faster_steps_too() -> None:
    assert steps_of([bench_line(i, 1.0 if i < 4 else 0.7) for i in range(7)])[0][4] == "better"


def test_a_single_slow_run_is_no_step_and_the_newest_is_only_suspected() -> None:
    levels = [1.0, 1.0, 1.0, 1.3, *[1.0] * 6, 1.3]
    assert steps_of([bench_line(i, level) for i, level in enumerate(levels)]) == [[*[""] * 10, "suspected"]]


def test_runs_that_differ_by_more_than_their_processes_seldom_step_and_a_large_change_still_does() -> None:
    chance = random.Random(0)
    levels = [[chance.gauss(1.0, 0.03) for _ in range(25)] for _ in range(8)]
    found = [steps_of([bench_line(i, level) for i, level in enumerate(each)])[0] for each in levels]
    assert sum(step in ("worse", "better") for each in found for step in each) <= 2  # of 200 runs
    jumped = [[level * (1.3 if i >= 12 else 1) for i, level in enumerate(each)] for each in levels]
    found = [steps_of([bench_line(i, level) for i, level in enumerate(each)])[0] for each in jumped]
    assert sum("worse" in each[11:14] for each in found) >= 7


def test_what_does_not_change_does_not_step() -> None:
    assert steps_of([bench_line(i, 1.0) for i in range(10)]) == [[""] * 10]


def test_other_machines_are_other_series() -> None:
    other = {**MACHINE, "processor": "another"}
    lines = [bench_line(i, 1.0 if i % 2 else 2.0, MACHINE if i % 2 else other) for i in range(6)]
    assert steps_of(lines) == [["", "", ""]] * 2


def test_one_process_says_nothing_of_steps() -> None:
    assert steps_of([bench_line(i, float(i + 1), processes=1) for i in range(3)]) == [["", "", ""]]


def test_an_arm_steps_where_the_runs_of_the_same_seeds_do() -> None:
    before = [1000.0, 1100.0, 1050.0, 990.0, 1010.0, 1020.0]
    slower = [value * 1.5 + 10 * i for i, value in enumerate(before)]
    lines = [study_line(i, before if i < 2 else slower) for i in range(4)]
    assert steps_of(lines) == [["", "", "worse", ""]]


def test_damaged_lines_are_named_and_left_out(tmp_path: Path) -> None:
    place = tmp_path / "gate.jsonl"
    lines = [json.dumps(bench_line(0, 1.0)), "{", "", '{"schema": "x"}', json.dumps(bench_line(1, 1.0))[:-40]]
    lines.append(
        json.dumps({**bench_line(2, 1.0), "rows": [{"case": "x", "value": "fast", "low": None, "high": None}]})
    )
    place.write_text("\n".join(lines))
    entries, problems = read_history(place)
    assert len(entries) == 1
    assert [problem.split(": ")[0] for problem in problems] == [f"{place}:{number}" for number in (2, 4, 5, 6)]
    assert problems[3] == f"{place}:6: no line of a history (ValueError: a value is no number); it is left out"


def test_the_sentence_names_the_commit(tmp_path: Path) -> None:
    trends = list(list_trends([bench_line(i, 1.0 if i < 3 else 1.3) for i in range(6)]))
    sheet = lay_out_history("gate", trends, ["gate.jsonl:2: no line"])
    assert sheet.sentences == (
        f"000000000000 (2026-11-04 08:00): {CASE}, time / native stepped to the worse: 1.30x [1.29, 1.31]",
    )
    ((heading, columns),) = sheet.tables
    assert heading == "bench-ci on a processor, cpu, torch 2.13.0, python 3.12"
    assert [column.cells[0].plain for column in columns][2:] == [
        "6", "▁▁▁███", "1.30x [1.29, 1.31]", "worse at 000000000000 (2026-11-04 08:00)",
    ]  # fmt: skip
    assert sheet.warnings == ("gate.jsonl:2: no line",)
    rows = list_rows(trends)
    assert [row["stepped"] for row in rows] == [False, False, False, True, False, False]
    assert [row["run"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_a_record_and_findings_make_lines_that_are_read_back(tmp_path: Path) -> None:
    environment = {
        "processor": "p", "system": "Linux x86_64", "device": "cpu", "torch": "2.13.0", "python": "3.12.1", "bncli": "0.1.0",
    }  # fmt: skip
    lines = [
        describe_bench(record(environment=environment)),
        describe_study(figure1(), {"margins": {"ratio": 0.05}, "metrics": {}}),
    ]
    place = tmp_path / "gate.jsonl"
    place.write_text("".join(json.dumps(line) + "\n" for line in lines))
    entries, problems = read_history(place)
    assert problems == []
    trends = list(list_trends(entries))
    bench, study = ([trend for trend in trends if trend.name == name] for name in ("bench-made", "figure1"))
    assert [trend.points[0].value for trend in bench] == [0.587, 1.002, 2.7]
    assert [(trend.what, trend.measure) for trend in study][:3] == [
        ("none", "steps to 95 %"), ("none", "final accuracy"), ("batch", "steps to 95 %, against none"),
    ]  # fmt: skip


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    assert describe_commit(tmp_path) == ("", False)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    (tmp_path / "a").write_text("1")
    for words in (["init", "-q"], ["add", "a"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    commit, dirty = describe_commit(tmp_path)
    assert (len(commit), dirty) == (40, False)
    (tmp_path / "a").write_text("2")
    assert describe_commit(tmp_path) == (commit, True)
