"""`--events`: what happens while a study runs, as JSON lines: for scripts, dashboards, other languages."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from bncli.executors.loop import Finished, Progress
from bncli.session.events import Event, Started, Warned


def tell_event(event: Event, tell: Callable[[str], None]) -> None:
    """Write an event as lines of JSON; one that says nothing to a reader as none.

    `started` (runs of a stage), `progress` (a job's step, level, loss, lr), `finished` (one run: status, last accuracy
    and loss), `warning`; the command adds `findings` at the end (headlines and verdicts).
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
            "step": event.step, "steps": first.training.steps, "level": event.level, "loss": event.loss,
            "lr": event.lr,
        }))  # fmt: skip
    elif isinstance(event, Finished):
        for run, result in zip(event.job.runs, event.results, strict=True):
            curves = {quantity: result.curve(quantity)[1] for quantity in ("accuracy", "loss")}
            last = {quantity: curve[-1] if curve else None for quantity, curve in curves.items()}
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
