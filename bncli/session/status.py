"""Notes in the store how far a stage is while it is trained, for `bncli status` on this machine or another."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType

from bncli.executors.loop import Finished, Progress, WorkerDied
from bncli.plan import Job, seconds_of
from bncli.session.events import Event, Warned
from bncli.session.study import Session
from bncli.store.status import EVERY_SECONDS, CommandStatus, forget_status, note_status
from bncli.store.studies import study_id


class StatusNotes:
    """What is noted of one stage, every few seconds at most, and taken away at its end.

    A store that takes no notes loses nothing else.
    """

    def __init__(self, session: Session, missing: Sequence[Job], clock: Callable[[], float] = time.time) -> None:
        runs, now = sum(len(job.runs) for job in missing), clock()
        key = study_id(session.study.model_dump(mode="json"))
        self._folder, self._clock = session.store.folder, clock
        left = None if session.study.task else session.expected_seconds(missing)  # of a task nobody knows
        self._status = CommandStatus(key, session.name, runs, seconds_left=left, started=now, time=now)
        self._expected = {job.id: seconds_of(job) for job in missing}
        self._all = sum(self._expected.values())
        self._at_work: dict[str, tuple[int, float]] = {}  # by job: its runs, and the seconds of its work that are done
        self._worked = 0.0  # of jobs that have ended
        self._noted = now - EVERY_SECONDS

    def __enter__(self) -> "StatusNotes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        forget_status(self._folder, self._status)

    def hand_over(self, job: Job) -> None:
        """A job goes to the executor."""
        self._at_work[job.id] = len(job.runs), 0.0

    def take(self, event: Event) -> None:
        """Something has happened."""
        status = self._status
        if isinstance(event, WorkerDied):
            self._at_work = {}  # of those that go on it is told again
            self._status = replace(status, said="a worker process died; what it trained is trained again")
        elif isinstance(event, Warned):
            self._status = replace(status, said=event.text)
        elif isinstance(event, Progress):
            if (steps := event.job.runs[0].steps) and event.job.id in self._at_work:
                worked = self._expected[event.job.id] * min(1.0, event.step / steps)
                self._at_work[event.job.id] = len(event.job.runs), worked
        elif isinstance(event, Finished):
            key, run, ended = event.job.id, event.job.runs[-1], [r.info.has_numbers for r in event.results]
            self._at_work.pop(key, None)
            self._worked += self._expected[key]
            info = event.results[-1].info
            why = f" ({info.reason})" if info.reason else ""
            self._status = replace(
                status, done=status.done + sum(ended), failed=status.failed + len(ended) - sum(ended),
                said=f"{run.variant} seed {run.seed}: {info.status}{why}",
            )  # fmt: skip

    def note(self) -> None:
        """Note it, unless that was done just now."""
        now = self._clock()
        if 0 <= now - self._noted < EVERY_SECONDS:
            return
        self._noted = now
        in_flight, worked = sum(runs for runs, _ in self._at_work.values()), self._worked
        worked += sum(part for _, part in self._at_work.values())
        status = replace(self._status, in_flight=in_flight, time=now)
        if worked > 0:  # what is left takes as long as what was done took
            status = replace(status, seconds_left=(now - status.started) * (self._all - worked) / worked)
        with suppress(OSError):  # a full or read-only store
            note_status(self._folder, status)
