"""What a running job shows on a terminal."""

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bncli.cli.progress import Bars, Lines
from bncli.config import Study
from bncli.executors.loop import Finished, Progress
from bncli.plan import Job, jobs_of, runs_of
from bncli.records import Record, RunInfo, RunResult
from bncli.session.events import Started


def shown(job: Job, *events: Progress, height: int = 20) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=height, color_system=None)
    bars = Bars(console)
    bars(Started((job,)))
    for event in events:
        bars(event)
    bars.close()
    with console.capture() as captured:
        console.print(bars._bars.get_renderable())
    return captured.get()


def test_a_running_job_shows_its_curve_accuracy_loss_and_rate(tiny: Callable[..., Study]) -> None:
    job = jobs_of(runs_of(tiny(), "cpu"))[0]
    signs = [(0, 0.1, 2.3, 0.5), (10, 0.5, 1.2, 0.25), (20, 0.9, 0.4, 0.25)]
    text = shown(job, *(Progress(job, step, {"accuracy": top1, "loss": loss}, lr) for step, top1, loss, lr in signs))
    assert "▁▅█  90.0 %  loss 0.4  lr 0.25" in text


def test_a_terminal_with_room_shows_the_curves_of_what_is_running(
    tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bncli.cli.progress._REDRAW", -1.0)
    job = jobs_of(runs_of(tiny(), "cpu"))[0]
    signs = [Progress(job, step, {"accuracy": value}) for step, value in ((0, 0.1), (10, 0.5), (20, 0.9))]
    lines = shown(job, *signs, height=30).splitlines()
    (axis,) = [k for k, line in enumerate(lines) if line.lstrip().startswith("+---")]
    assert lines[axis + 1].split() == ["0", "20", "steps"]
    assert lines[axis + 2].strip() == f"a {job.runs[0].variant} x{len(job.runs)}"
    assert (lines[axis - 8].rstrip()[-1], lines[axis - 1].partition("|")[2][0]) == ("a", "a")
    assert "+---" not in shown(job, *signs)


def test_a_job_whose_lanes_have_all_diverged_is_shown_without_a_crash(tiny: Callable[..., Study]) -> None:
    job = jobs_of(runs_of(tiny(), "cpu"))[0]
    assert "nan" in shown(job, Progress(job, 10, {"accuracy": float("nan"), "loss": float("nan")}, 0.5))


REGRESSION = {"data": "offset", "model": "shift", "measures": ["final_loss"], "variants": {"none": "none"}}


def test_a_loss_between_0_and_1_is_no_percentage(
    tiny: Callable[..., Study], capsys: pytest.CaptureFixture[str]
) -> None:
    job = jobs_of(runs_of(tiny(**REGRESSION), "cpu"))[0]
    assert "loss 0.5  lr 0.25" in (text := shown(job, Progress(job, 10, {"loss": 0.5}, 0.25)))
    assert "%" not in text
    run = job.runs[0]
    lines, records = Lines(), (Record("loss", 10, 0.25, "squared error"),)
    lines(Started((job,)))
    lines(Finished(job, tuple(RunResult(run.spec(), RunInfo(run.id, "done", 10), records) for run in job.runs)))
    assert f"none seed {run.seed}: done, loss 0.25\n" in capsys.readouterr().err


def test_a_name_that_looks_like_markup_does_not_end_the_bars(tiny: Callable[..., Study]) -> None:
    job = jobs_of(runs_of(tiny(variants={"[/b]\x1b[2J": "none"}, reference="[/b]\x1b[2J"), "cpu"))[0]
    assert r"[/b]\x1b[2J x" in shown(job, Progress(job, 10, {"accuracy": 0.5, "loss": 0.5}, 0.5))


def test_bars_move_on_a_terminal_and_show_no_escape_sequence_as_text(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = ["train", "smoke", "--variants", "batch", "--store", str(tmp_path / "runs")]
    command = subprocess.Popen(
        [sys.executable, "-m", "bncli", *arguments], stdout=subprocess.DEVNULL, stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # that is how a terminal ends on Linux
        pass
    os.close(ours)
    assert command.wait() == 0
    assert b"\x1b[" in shown
    assert b"\\x1b" not in shown
