"""A loop of somebody's own on the command line: its statuses, its words, and what it prints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command

# what happens is the variant's name
ENDS = """
import os, sys, time

def train(run, steps: int = 2):
    print("hello from", run.variant)
    os.system("echo hello from a child process")
    for step in range(1, steps + 1):
        yield {"step": step, "score": step, "loss": float("nan") if run.variant == "diverges" else 1.0}
        if run.variant == "raises":
            raise ValueError("no such thing")
        if run.variant == "exits":
            sys.exit("enough")
        if run.variant == "dies":
            os._exit(3)
        while run.variant == "forever":
            time.sleep(0.1)
"""
THREAD = ["--executor", "thread", "--device", "cpu"]


def run(folder: Path, variants: str, *options: str) -> tuple[int, Any, str]:
    """Exit code, document and stderr of a comparison of these ends with one that has nothing the matter."""
    (folder / "loop.py").write_text(ENDS)
    each = ", ".join(f"{variant}: none" for variant in ["fine", *variants.split()])
    (folder / "ends.yaml").write_text(f"task: null\nvariants: {{{each}}}\nreference: fine\nseeds: 1\n")
    command = [sys.executable, "-m", "bncli", "compare", "ends.yaml", "--task", "loop.py:train", "--json", "-"]
    done = subprocess.run([*command, "--jobs", "1", *options], cwd=folder, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout), done.stderr


def statuses(document: Any) -> dict[str, tuple[str, str]]:
    return {run["variant"]: (run["info"]["status"], run["info"]["reason"]) for run in document["runs"]}


def test_loops_that_fail_leave_the_others_alone_and_print_nothing_into_the_document(tmp_path: Path) -> None:
    code, document, stderr = run(tmp_path, "diverges raises exits")
    assert code == 5
    assert statuses(document) == {
        "fine": ("done", ""),
        "diverges": ("diverged", "loss is nan (loop.py:8)"),
        "raises": ("failed", "ValueError: no such thing (loop.py:10)"),
        "exits": ("failed", "SystemExit: enough (loop.py:12)"),
    }
    assert "hello from fine" in stderr
    assert "hello from a child process" in stderr
    assert stderr.splitlines()[-1].startswith(
        "2 of 4 runs failed: SystemExit: enough (loop.py:12); ValueError: no such"
    )


@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.parametrize("limit", [[], ["--time-limit", "30"]])
def test_loops_that_kill_their_worker_or_never_end_leave_the_others_alone(limit: list[str], tmp_path: Path) -> None:
    code, document, _ = run(tmp_path, "dies forever" if limit else "dies", *limit)
    ended = statuses(document)
    assert (code, ended.pop("fine")) == (5, ("done", ""))
    died = "its process died (exit status 3)" if limit else "its worker process died 2 times"
    assert ended == {
        "dies": ("failed", died), **({"forever": ("timed out", "not done within 30 s")} if limit else {}),
    }  # fmt: skip


def test_train_shows_the_last_of_everything_that_a_loop_yields(tmp_path: Path, bncli: Command) -> None:
    (tmp_path / "loop.py").write_text(ENDS)
    code, out, _ = bncli("train", "--task", "loop.py:train", "--seeds", "1", "--variants", "batch", *THREAD)
    assert code == 0
    assert [line.split()[:5] for line in out.splitlines()[:3]] == [
        ["variant", "seed", "status", "score", "loss"],
        ["none", "0", "done", "2", "1"], ["batch", "0", "done", "2", "1"],
    ]  # fmt: skip


def test_events_have_every_metric_and_as_many_steps_as_are_known(tmp_path: Path, bncli: Command) -> None:
    (tmp_path / "loop.py").write_text(ENDS)
    events = ["--events", "-", "--seeds", "1", "--variants", "batch", "--set", "metrics.score.better=higher"]
    _, out, _ = bncli("compare", "--task", "loop.py:train", *events, *THREAD)
    told = [json.loads(line) for line in out.splitlines()]
    progress, finished = (next(e for e in told if e["event"] == kind) for kind in ("progress", "finished"))
    assert "level" not in progress
    assert (progress["step"], progress["steps"], progress["score"], progress["loss"]) == (1, 2, 1.0, 1.0)
    assert told[-1]["answer"].startswith("no answer yet: one seed says nothing about how much runs differ by chance")
    assert (finished["score"], finished["loss"], finished["accuracy"]) == (2.0, 1.0, None)


def test_a_plan_says_that_nobody_knows_how_long_it_takes(tmp_path: Path, bncli: Command) -> None:
    (tmp_path / "loop.py").write_text(ENDS)
    code, out, _ = bncli("compare", "--task", "loop.py:train", "--dry-run", "--seeds", "1")
    assert code == 0
    assert out.splitlines()[0] == "task: 4 runs (0 stored in .bncli)"
    assert out.splitlines()[2:4] == [
        "expected: how long a task takes is not known",
        "  none: 1 run (seed 0), 0 stored",
    ]


def test_tasks_of_plugins_are_listed_with_their_first_line(tmp_path: Path, bncli: Command) -> None:
    assert bncli("ls", "tasks")[1].strip() == "none; --task FILE.py:NAME and --plugin bring them"
    (tmp_path / "mine.py").write_text('def train(run):\n    """Counts."""\n    yield\n\nTASKS = {"count": train}\n')
    assert bncli("ls", "tasks", "--plugin", "mine.py")[1].split() == ["count", "Counts", "[mine.py]"]


def test_a_task_and_runs_made_elsewhere_exclude_each_other(tmp_path: Path, bncli: Command) -> None:
    (tmp_path / "runs.csv").write_text("variant,seed,step,loss\na,0,0,1\nb,0,0,1\n")
    code, _, err = bncli("compare", "--from", "runs.csv", "--task", "loop.py:train")
    assert (code, err.splitlines()[-1].partition(": --from")[0]) == (2, "--task")


def test_data_and_a_task_exclude_each_other(tmp_path: Path, bncli: Command) -> None:
    (tmp_path / "loop.py").write_text(ENDS)
    code, _, err = bncli("compare", "--task", "loop.py:train", "--data", "digits", *THREAD)
    assert code == 2
    assert "--data digits: data: a task brings its own data, model and training; leave it out" in err
