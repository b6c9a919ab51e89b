"""The study loop: jobs through any executor, results and progress out, whatever happens to the workers."""

import json
import os
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import astuple, dataclass
from pathlib import Path

from bncli.errors import BncliError
from bncli.files import write_atomically
from bncli.plan import Job
from bncli.records import RunInfo, RunResult

POLL_SECONDS = 0.25
ATTEMPTS = 2  # a job whose worker died is tried once more


@dataclass(frozen=True)
class Progress:
    """How far a job is: steps taken by each of its runs, and their means."""

    job: int
    step: int
    level: float  # accuracy, or loss where there are no classes
    loss: float | None = None
    lr: float | None = None
    notes: Sequence[str] = ()  # what the user should know, one line each


@dataclass(frozen=True)
class Finished:
    """A job's results; every run of it is done, diverged or failed."""

    job: int
    results: tuple[RunResult, ...]


@dataclass(frozen=True)
class WorkerDied:
    """A worker died; the jobs that ran then are tried again, one at a time."""

    jobs: tuple[int, ...]


Event = Progress | Finished | WorkerDied


def run_jobs(
    jobs: Sequence[Job], open_executor: Callable[[], Executor], slots: int,
    checkpoints: Callable[[Job], Path | None] = lambda job: None,
) -> Iterator[Event]:  # fmt: skip
    """Run every job and yield what happens, in the order in which it happens.

    `checkpoints` says in which folder a job keeps its state while it trains; one that was killed goes on from there.

    About twice `slots` jobs are in flight. A worker that is killed breaks a standard pool with everything in it: the
    loop then opens a new one, repeats the jobs that were running one by one, so that only the one that kills its
    worker again is given up, and goes on with the rest.

    Raises:
        BncliError: what a job raised because of a mistake of the user's, such as wrong data.
    """
    with tempfile.TemporaryDirectory(prefix="bncli-") as folder:
        crew = _Crew(jobs, open_executor, slots, _Heartbeats(Path(folder)), checkpoints)
        try:
            while crew.busy():
                crew.submit()
                yield from crew.collect()
        finally:
            crew.executor.shutdown(wait=False, cancel_futures=True)


class _Crew:
    """The jobs that wait, run, or are tried again alone because a worker died while they ran."""

    def __init__(
        self, jobs: Sequence[Job], open_executor: Callable[[], Executor], slots: int, beats: "_Heartbeats",
        checkpoints: Callable[[Job], Path | None],
    ) -> None:  # fmt: skip
        self.checkpoints = checkpoints
        self.jobs, self.slots, self.beats, self.open_executor = jobs, slots, beats, open_executor
        self.waiting, self.suspects = deque(range(len(jobs))), deque[int]()
        self.running: dict[Future[list[RunResult]], int] = {}
        self.deaths: Counter[int] = Counter()
        self.executor, self.broken, self.barren = open_executor(), False, 0

    def busy(self) -> bool:
        return bool(self.waiting or self.suspects or self.running)

    def submit(self) -> None:
        queue, room = (self.suspects, 1) if self.suspects else (self.waiting, 2 * self.slots)
        while queue and len(self.running) < room:
            job = queue[0]
            place = self.checkpoints(self.jobs[job])
            try:
                future = self.executor.submit(work, self.jobs[job], self.beats.path(job), place)
            except BrokenExecutor:
                self.broken = True
                return
            self.running[future] = queue.popleft()

    def collect(self) -> Iterator[Event]:
        done, _ = wait(self.running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        yield from self.beats.news()
        for future in done:
            if isinstance(future.exception(), BrokenExecutor):
                self.broken = True
            else:
                yield _finished(self.jobs, self.running.pop(future), future)
        if self.broken:
            yield from self._start_again()

    def _start_again(self) -> Iterator[Event]:
        lost = sorted(self.running.values())
        started = [job for job in lost if self.beats.started(job)]
        self.barren = 0 if started else self.barren + 1
        if self.barren == ATTEMPTS:
            raise BncliError("worker processes die before they start a job; is there enough memory? try --jobs 1")
        yield WorkerDied(tuple(started))
        self.executor.shutdown(wait=False)
        self.executor, self.broken, self.running = self.open_executor(), False, {}
        self.waiting.extendleft(job for job in reversed(lost) if job not in started)
        self.deaths.update(started)
        for job in started:
            if len(started) == 1 and self.deaths[job] >= ATTEMPTS:
                yield Finished(job, _failed(self.jobs[job], f"its worker process died {self.deaths[job]} times"))
            else:
                self.suspects.append(job)


def work(job: Job, heartbeat: Path, checkpoints: Path | None = None) -> list[RunResult]:
    """What a worker does: train one job, leaving a sign of life after each evaluation."""
    from bncli.engine.train import Sign, train

    def report(sign: Sign) -> None:
        write_atomically(heartbeat, json.dumps(astuple(sign)), durable=False)

    heartbeat.touch()
    return train(job, report, checkpoints)


class _Heartbeats:
    """Files that workers replace and the loop reads: no queue or lock that a killed worker could leave broken."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, float] = {}

    def path(self, job: int) -> Path:
        path = self._folder / f"{job}.json"
        path.unlink(missing_ok=True)
        return path

    def started(self, job: int) -> bool:
        return (self._folder / f"{job}.json").exists()

    def news(self) -> Iterator[Progress]:
        for entry in os.scandir(self._folder):
            if not entry.name.endswith(".json"):  # one that is being written, and gone at any moment
                continue
            changed = entry.stat().st_mtime
            if self._seen.get(entry.name) != changed:
                self._seen[entry.name] = changed
                if beat := Path(entry.path).read_text():  # empty: started, not yet evaluated
                    yield Progress(int(entry.name.removesuffix(".json")), *json.loads(beat))


def _finished(jobs: Sequence[Job], job: int, future: Future[list[RunResult]]) -> Finished:
    error = future.exception()
    if isinstance(error, BncliError):
        raise error
    if error is not None:
        return Finished(job, _failed(jobs[job], f"{type(error).__name__}: {error}"))
    return Finished(job, tuple(future.result()))


def _failed(job: Job, reason: str) -> tuple[RunResult, ...]:
    return tuple(RunResult(run.spec(), RunInfo(run.id, "failed", 0, reason)) for run in job.runs)
