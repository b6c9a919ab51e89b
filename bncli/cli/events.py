"""What happens while a study runs, as JSON lines: for scripts, dashboards, other languages."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from bncli.errors import BncliError
from bncli.executors.loop import Finished, Progress
from bncli.plan import Job

Event = Mapping[str, Any]


class Events:
    """Tells every event to `tell`, and shows it as the display inside does.

    Events: `started` (runs of a stage), `progress` (a job's step, level, loss, lr), `finished` (one run: status, last
    accuracy and loss), and `findings` at the end (headlines and verdicts).
    """

    def __init__(self, tell: Callable[[Event], None], inside: Any, jobs: Sequence[Job]) -> None:
        self._tell, self._inside, self._jobs = tell, inside, jobs

    def __enter__(self) -> "Events":
        self._tell({"event": "started", "jobs": len(self._jobs), "runs": sum(len(job.runs) for job in self._jobs)})
        self._inside.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._inside.__exit__(kind, error, trace)

    def progress(self, event: Progress) -> None:
        """A job evaluated its network; level is its runs' mean accuracy, or loss without classes."""
        job = self._jobs[event.job]
        self._tell({
            "event": "progress", "variant": job.runs[0].variant, "seeds": [run.seed for run in job.runs],
            "step": event.step, "steps": job.runs[0].training.steps, "level": event.level, "loss": event.loss,
            "lr": event.lr,
        })  # fmt: skip
        self._inside.progress(event)

    def finished(self, event: Finished) -> None:
        """A job's runs ended."""
        for run, result in zip(self._jobs[event.job].runs, event.results, strict=True):
            curves = {quantity: result.curve(quantity)[1] for quantity in ("accuracy", "loss")}
            last = {quantity: curve[-1] if curve else None for quantity, curve in curves.items()}
            self._tell({
                "event": "finished", "variant": run.variant, "setting": dict(run.setting), "seed": run.seed,
                "id": run.id, "status": result.info.status, "step": result.info.step, "reason": result.info.reason,
                **last,
            })  # fmt: skip
        self._inside.finished(event)


class Quiet:
    """A display that shows nothing."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        pass

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def progress(self, event: Progress) -> None:
        """Nothing."""

    def finished(self, event: Finished) -> None:
        """Nothing."""


def display_and_tell(place: str | None) -> tuple[Callable[[Sequence[Job]], Any], Callable[[Event], None]]:
    """What makes the display of a command, and where its events go: nowhere, a file, or stdout for `-`.

    Raises:
        BncliError: if the file cannot be written.
    """
    from bncli.cli.progress import display

    if place is None:
        return display, lambda event: None
    try:
        stream = sys.stdout if place == "-" else Path(place).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
    except OSError as error:
        raise BncliError(f"--events {place}: cannot write ({error.strerror})") from None

    def tell(event: Event) -> None:
        print(line(event), file=stream, flush=True)

    return telling(tell, display), tell


def telling(tell: Callable[[Event], None], inside: Callable[[Sequence[Job]], Any]) -> Callable[[Sequence[Job]], Any]:
    """A display's maker that tells events as well."""

    def make(jobs: Sequence[Job]) -> AbstractContextManager[Any]:
        return Events(tell, inside(jobs), jobs)

    return make


def line(event: Event) -> str:
    """One event as one line of JSON; what is not finite is null."""
    return json.dumps({key: _finite(value) for key, value in event.items()}, allow_nan=False)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and value - value != 0 else value
