"""How training looks while it runs: bars on a terminal, a line a finished run elsewhere, JSON lines for `--events`."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from bncli.cli.output import is_animated, stderr
from bncli.errors import BncliError, as_line
from bncli.executors.loop import Finished, Progress, WorkerDied
from bncli.plan import Job
from bncli.report.bands import STYLES, PlottedLine, curve_lines, needs_letters
from bncli.report.study.runs import sparkline
from bncli.session.events import Event, OnEvent, Started, Warned


def tell_event(event: Event, tell: Callable[[str], None]) -> None:
    """Write an event as lines of JSON; one that says nothing to a reader as none.

    `started` (runs of a stage), `progress` (a job's step, its metrics by name, lr), `finished` (one run: status, last
    accuracy and loss; of a task every metric), `warning`; the command adds `findings` at the end (the answer, headlines
    and verdicts).
    """
    if isinstance(event, Started):
        runs = sum(len(job.runs) for job in event.jobs)
        tell(line({"event": "started", "jobs": len(event.jobs), "runs": runs}))
    elif isinstance(event, Warned):
        tell(line({"event": "warning", "text": event.text}))
    elif isinstance(event, Progress):
        first = event.job.runs[0]
        tell(line({
            "event": "progress", "variant": first.variant, "seeds": [run.seed for run in event.job.runs],
            "step": event.step, "steps": first.steps or None, "lr": event.lr, **event.metrics,
        }))  # fmt: skip
    elif isinstance(event, Finished):
        for run, result in zip(event.job.runs, event.results, strict=True):
            metrics = ("accuracy", "loss", *(result.metrics() if run.task else ()))
            curves = {metric: result.curve(metric)[1] for metric in metrics}
            last = {metric: curve[-1] if curve else None for metric, curve in curves.items()}
            tell(line({
                "event": "finished", "variant": run.variant, "setting": dict(run.setting), "seed": run.seed,
                "id": run.id, "status": result.info.status, "step": result.info.step, "reason": result.info.reason,
                **last,
            }))  # fmt: skip


def line(event: Mapping[str, Any]) -> str:
    """One event as one line of JSON; what is not finite is null."""
    return json.dumps({key: _finite(value) for key, value in event.items()}, allow_nan=False)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and value - value != 0 else value


if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_LEAST_HEIGHT, _LEAST_WIDTH = 24, 60  # characters of a terminal that has room for curves above the bars
_REDRAW = 1.0  # seconds between two drawings of them


@contextmanager
def show_progress(events: str | None = None, *, plain: bool = False) -> Iterator[tuple[OnEvent, Callable[[str], None]]]:
    """What shows a session on stderr and writes its events; Ctrl-C says that nothing is lost, and exits with 130.

    Args:
        events: where JSON lines go: a file, - for stdout, None for nowhere.
        plain: lines, also on a terminal.

    Yields:
        What takes events, and what writes a line among them.

    Raises:
        BncliError: if the file cannot be written.
    """
    with ExitStack() as stack:
        stream = None
        if events == "-":
            stream = sys.stdout
        elif events:
            try:
                stream = stack.enter_context(_open_events(Path(events)))
            except OSError as error:
                raise BncliError(f"--events {events}: cannot write ({error.strerror})") from None

        def tell(text: str) -> None:
            nonlocal stream
            if stream is None:
                return
            try:
                print(text, file=stream, flush=True)
            except OSError as error:
                with suppress(OSError):  # what is still to be written cannot be
                    stream.close()
                stream = None
                print(f"--events {events}: cannot write ({error.strerror}); no more are written", file=sys.stderr)

        display = stack.enter_context(_open_display(plain=plain))

        def take(event: Event) -> None:
            tell_event(event, tell)
            display(event)

        try:
            yield take, tell
        except KeyboardInterrupt:
            print("interrupted; finished runs are stored, the same command continues", file=sys.stderr)
            raise typer.Exit(130) from None


def _open_events(place: Path) -> TextIO:
    """Open a file for events; a named pipe is never waited for: who reads it may come later, or be too slow."""
    if not place.is_fifo():
        return place.open("w", encoding="utf-8")
    return open(os.open(place, os.O_RDWR | os.O_NONBLOCK), "w", encoding="utf-8")  # noqa: PTH123


@contextmanager
def _open_display(*, plain: bool) -> Iterator[OnEvent]:
    """The display that fits where stderr goes."""
    if plain or not is_animated():
        yield Lines()
        return
    bars = Bars()
    try:
        yield bars
    finally:
        bars.close()


def _written(job: Job, metric: str, value: float) -> str:
    """`90.0 %`, an accuracy of ours; of anything else its name and the number."""
    if job.runs[0].task:
        return f"{metric} {value:.4g}"
    return f"{100 * value:.1f} %" if metric == "accuracy" else f"{metric} {value:.3g}"


def _say(event: Event) -> None:
    """What is said on stderr whatever the display."""
    if isinstance(event, Warned):
        print(event.text, file=sys.stderr, flush=True)
    elif isinstance(event, WorkerDied):
        names = ", ".join(job.runs[0].variant for job in event.jobs) or "none"
        died = f"a worker process died (jobs running then: {names}); trying again, one at a time"
        text = f"{event.why} (it trained {names}); another one takes over" if event.why else died
        print(as_line(text), file=sys.stderr)


class Lines:
    """One line on stderr for each finished run."""

    def __init__(self) -> None:
        self._total, self._done = 0, 0

    def __call__(self, event: Event) -> None:
        """Say how each run ended, and what there is to be said besides."""
        _say(event)
        if isinstance(event, Started):
            self._total, self._done = sum(len(job.runs) for job in event.jobs), 0
        elif isinstance(event, Finished):
            self._finished(event)

    def _finished(self, event: Finished) -> None:
        for run, result in zip(event.job.runs, event.results, strict=True):
            self._done += 1
            setting = "".join(f" {key}={value}" for key, value in run.setting.items())
            metrics = result.metrics() if run.task else ("accuracy", "loss")
            metric = next((name for name in metrics if result.curve(name)[1]), "")
            last = f", {_written(event.job, metric, result.curve(metric)[1][-1])}" if metric else ""
            info = result.info
            at = f" at step {info.step:,} ({info.reason})" if info.status == "diverged" else ""
            why = "" if info.has_numbers else f" ({info.reason})"
            took = f", {sum(info.seconds.values()):.1f} s" if info.seconds else ""
            head = f"[{self._done}/{self._total}] {run.variant}{setting} seed {run.seed}: {info.status}"
            print(as_line(f"{head}{at}{why}{last}{took}"), file=sys.stderr, flush=True)


def _live(event: Progress, curve: Sequence[float]) -> str:
    """What a running job's line says: the first metric's curve so far, then the newest numbers."""
    own = event.metrics if not event.job.runs[0].task else dict([next(iter(event.metrics.items()))])
    parts = [sparkline(curve, min(curve), max(curve))]
    parts += [_written(event.job, metric, value) for metric, value in own.items()]
    if event.lr is not None:
        parts.append(f"lr {event.lr:.3g}")
    return "  ".join(parts)


class Bars:
    """A bar for the whole study and one for each running job, on a terminal."""

    def __init__(self, console: "Console | None" = None) -> None:
        from rich.console import RenderableType
        from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        bars = self
        self._console = console or stderr()
        self._tasks: dict[str, TaskID] = {}  # of running jobs, by id
        self._curves: dict[str, list[float]] = {}
        self._steps: dict[str, list[int]] = {}  # of the curves' points
        self._drawn: tuple[float, Sequence[Text]] = (-math.inf, ())  # when, and what

        class Drawn(RichProgress):
            """Bars below the curves of what is running."""

            def get_renderables(self) -> Iterable[RenderableType]:
                yield from bars.draw()
                yield from super().get_renderables()

        numbers = TextColumn("{task.fields[numbers]}", markup=False)
        columns = TextColumn("{task.description}", markup=False), BarColumn(None), numbers, TimeRemainingColumn()
        self._bars = Drawn(*columns, console=self._console, transient=True)
        self._all = TaskID(0)
        self._at: dict[str, int] = {}  # run-steps taken, likewise
        self._taken = 0  # their sum

    def draw(self) -> "Sequence[Text]":
        """The curves of the running jobs, where the terminal has room for them; drawn anew once a second at most."""
        if self._console.height < _LEAST_HEIGHT or self._console.width < _LEAST_WIDTH:
            return ()
        if not self._drawn[1] or time.monotonic() > self._drawn[0] + _REDRAW:
            self._drawn = time.monotonic(), self._lines()
        return self._drawn[1]

    def _lines(self) -> "Sequence[Text]":
        jobs = [job for job in self._tasks if len(self._steps.get(job, ())) > 1][: len(STYLES)]
        names = {job: self._bars.tasks[self._bars.task_ids.index(self._tasks[job])].description for job in jobs}
        lines = [PlottedLine(names[job], self._steps[job], self._curves[job]) for job in jobs]
        return curve_lines(lines, self._console.width, 8, letters=needs_letters(self._console))

    def __call__(self, event: Event) -> None:
        """Move the bars."""
        _say(event)
        if isinstance(event, Started):
            self._begin(event.jobs)
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Finished):
            if event.job.id in self._tasks:
                self._bars.remove_task(self._tasks.pop(event.job.id))
            self._move(event.job, event.job.runs[0].steps or self._at[event.job.id])

    def close(self) -> None:
        """Take the bars away."""
        self._bars.stop()

    def _begin(self, jobs: Sequence[Job]) -> None:
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        total = sum(job.runs[0].steps * len(job.runs) for job in jobs)
        self._all = self._bars.add_task(f"{sum(len(job.runs) for job in jobs)} runs", total=total or None, numbers="")
        self._tasks = {}
        self._at, self._taken = {job.id: 0 for job in jobs}, 0
        self._bars.start()

    def _progress(self, event: Progress) -> None:
        job, steps = event.job, event.job.runs[0].steps or None
        if job.id not in self._tasks:
            name = as_line(f"{job.runs[0].variant} x{len(job.runs)}")
            self._tasks[job.id] = self._bars.add_task(name, total=steps, numbers="")
        curve = self._curves.setdefault(job.id, [])
        if math.isfinite(first := next(iter(event.metrics.values()))):
            curve.append(first)
            self._steps.setdefault(job.id, []).append(event.step)
        self._bars.update(self._tasks[job.id], completed=event.step, numbers=_live(event, curve or [0.0]))
        self._move(job, event.step)

    def _move(self, job: Job, step: int) -> None:
        key, taken = job.id, step * len(job.runs)
        self._taken += taken - self._at[key]
        self._at[key] = taken
        self._bars.update(self._all, completed=self._taken)
