"""The exit codes that no other test shows: bncli's own bug, and runs that failed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bncli.cli import main
from bncli.executors.loop import Finished
from bncli.findings import Check
from bncli.records import RunInfo, RunResult

BUG = """
import sys
import bncli.presets
from bncli.cli import main

bncli.presets.preset_path = lambda name: 1 / 0
sys.argv = ["bncli", "compare"]
main()
"""


def test_a_bug_of_ours_keeps_its_traceback_and_exits_with_1() -> None:
    done = subprocess.run([sys.executable, "-c", BUG], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_runs_that_fail_are_said_and_exit_with_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(jobs: Any, *others: Any) -> Iterator[Finished]:
        for job in jobs:
            infos = [RunInfo(run.id, "failed", 0, "out of memory") for run in job.runs]
            yield Finished(job, tuple(RunResult(run.spec(), info) for run, info in zip(job.runs, infos, strict=True)))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bncli.session.training.run_jobs", failing)
    monkeypatch.setattr(sys, "argv", ["bncli", "compare", "smoke", "--seeds", "2", "--json", "found.json"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 5
    assert capsys.readouterr().err.endswith("4 of 4 runs failed: out of memory\n")
    assert Path("found.json").exists()


@pytest.mark.parametrize(
    ("outcomes", "code"), [(("passed", "failed", "undecided"), 3), (("undecided",), 5), (("passed",), 5)]
)
def test_a_regression_exits_with_3_whatever_else_failed_and_its_checks_are_written(
    outcomes: tuple[Any, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def failing(jobs: Any, *others: Any) -> Iterator[Finished]:
        for job in jobs:
            infos = [RunInfo(run.id, "failed", 0, "out of memory") for run in job.runs]
            yield Finished(job, tuple(RunResult(run.spec(), info) for run, info in zip(job.runs, infos, strict=True)))

    checks = [Check(outcome, outcome, "measured", outcome) for outcome in outcomes]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bncli.session.training.run_jobs", failing)
    monkeypatch.setattr("bncli.session.regression.check_same", lambda findings: checks)
    monkeypatch.setattr(sys, "argv", ["bncli", "compare", "smoke", "--seeds", "2", "--aa", "--junit", "checks.xml"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == code
    assert Path("checks.xml").read_text().count("<testcase") == len(outcomes)


LONG = "é" * 130  # 260 bytes, and a file's name has at most 255


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", LONG], ["compare", LONG], ["bench", LONG], ["compare", "smoke", "--save-baseline", LONG],
        ["compare", "smoke", "--baseline", f"{LONG}/main.json"], ["compare", "smoke", "--plugin", f"{LONG}.py"],
        ["compare", "smoke", "--data", LONG], ["compare", "smoke", "--store", LONG], ["compare", "--from", LONG],
        ["ls", "studies", "--store", LONG], ["store", "verify", "--store", LONG],
    ],
)  # fmt: skip
def test_a_name_that_is_too_long_is_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bncli", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
