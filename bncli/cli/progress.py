"""How training looks while it runs: bars on a terminal, one plain line a finished run elsewhere."""

import math
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from bncli.executors.loop import Finished, Progress
from bncli.plan import Job
from bncli.report.study.runs import sparkline

if TYPE_CHECKING:
    from rich.console import Console


def display(jobs: Sequence[Job]) -> "Bars | Lines":
    """The display that fits where stderr goes."""
    animated = sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
    return Bars(jobs) if animated else Lines(jobs)


def _steps(job: Job) -> int:
    return job.runs[0].training.steps


def _level(level: float) -> str:
    return f"{100 * level:.1f} %" if 0 <= level <= 1 else f"{level:.3g}"


class Lines:
    """One line on stderr for each finished run."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs, self._total, self._done = jobs, sum(len(job.runs) for job in jobs), 0

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def progress(self, event: Progress) -> None:
        """Plain output says nothing between runs."""

    def finished(self, event: Finished) -> None:
        """Say how each run of the job ended."""
        for run, result in zip(self._jobs[event.job].runs, event.results, strict=True):
            self._done += 1
            setting = "".join(f" {key}={value}" for key, value in run.setting.items())
            curve = result.curve("accuracy")[1] or result.curve("loss")[1]
            level = f", {_level(curve[-1])}" if curve else ""
            info = result.info
            at = f" at step {info.step:,} ({info.reason})" if info.status == "diverged" else ""
            why = f" ({info.reason})" if info.status == "failed" else ""
            took = f", {sum(info.seconds.values()):.1f} s" if info.seconds else ""
            head = f"[{self._done}/{self._total}] {run.variant}{setting} seed {run.seed}: {info.status}"
            print(f"{head}{at}{why}{level}{took}", file=sys.stderr, flush=True)


def _live(event: Progress, curve: Sequence[float]) -> str:
    """What a running job's line says: the accuracy's curve so far, then the newest numbers."""
    parts = [sparkline(curve, min(curve), max(curve)), _level(event.level)]
    if event.loss is not None and event.loss != event.level:
        parts.append(f"loss {event.loss:.3g}")
    if event.lr is not None:
        parts.append(f"lr {event.lr:.3g}")
    return "  ".join(parts)


class Bars:
    """A bar for the whole study and one for each running job, on a terminal."""

    def __init__(self, jobs: Sequence[Job], console: "Console | None" = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._jobs = jobs
        level = TextColumn("{task.fields[level]}")
        columns = TextColumn("{task.description}"), BarColumn(None), level, TimeRemainingColumn()
        self._bars = RichProgress(*columns, console=console or Console(stderr=True), transient=True)
        self._work = [_steps(job) * len(job.runs) for job in jobs]
        self._all = self._bars.add_task(f"{sum(len(j.runs) for j in jobs)} runs", total=sum(self._work), level="")
        self._tasks: dict[int, TaskID] = {}
        self._curves: dict[int, list[float]] = {}
        self._at = [0] * len(jobs)

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def progress(self, event: Progress) -> None:
        """Move the job's bar, and the study's with it."""
        job = self._jobs[event.job]
        if event.job not in self._tasks:
            name = f"{job.runs[0].variant} x{len(job.runs)}"
            self._tasks[event.job] = self._bars.add_task(name, total=_steps(job), level="")
        curve = self._curves.setdefault(event.job, [])
        if math.isfinite(event.level):
            curve.append(event.level)
        live = _live(event, curve or [0.0])
        self._bars.update(self._tasks[event.job], completed=event.step, level=live)
        self._move(event.job, event.step * len(job.runs))

    def finished(self, event: Finished) -> None:
        """Take the job's bar away."""
        if event.job in self._tasks:
            self._bars.remove_task(self._tasks[event.job])
        self._move(event.job, self._work[event.job])

    def _move(self, job: int, done: int) -> None:
        self._at[job] = done
        self._bars.update(self._all, completed=sum(self._at))
