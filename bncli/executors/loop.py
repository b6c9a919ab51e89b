"""The loop over jobs: through any executor to workers, results and progress out, whatever happens to the workers."""

import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bncli.engine.work import Surroundings, give_up, work
from bncli.errors import BncliError, HandedBack
from bncli.executors import WorkerLostError, Workers
from bncli.files import make_temporary_folder
from bncli.plan import Job
from bncli.records import RunResult
from bncli.streams import interrupts_held

POLL_SECONDS = 0.25
ATTEMPTS = 2  # a job whose worker died is tried once more
LOSSES = 4  # of workers elsewhere, which others end as well, after which their job is given up


@dataclass(frozen=True)
class Progress:
    """How far a job is: steps taken by each of its runs, and their means."""

    job: Job
    step: int
    metrics: Mapping[str, float]  # accuracy, where there are classes, and loss; of a task its own
    lr: float | None = None
    notes: Sequence[str] = ()  # what the user should know, one line each


@dataclass(frozen=True)
class Finished:
    """A job's results; every run of it is done, diverged, timed out or failed."""

    job: Job
    results: tuple[RunResult, ...]


@dataclass(frozen=True)
class WorkerDied:
    """A worker died; the jobs that ran then are tried again: one at a time, where not one of them is known to be it."""

    jobs: tuple[Job, ...]
    why: str = ""  # in words, where the worker of one job is gone and the others go on


def run_jobs(
    jobs: Sequence[Job], open_workers: Callable[[], Workers],
    surroundings: Callable[[Job], Surroundings] = lambda job: Surroundings(),
    on_poll: Callable[[], None] = lambda: None, max_in_flight: int | None = None, shared: Path | None = None,
) -> Iterator[Progress | Finished | WorkerDied]:  # fmt: skip
    """Run every job and yield what happens, in the order in which it happens.

    About twice as many jobs are in flight as there are slots. A worker that is killed breaks a standard pool with
    everything in it: the loop then opens a new one, repeats the jobs that were running one by one, so that only the
    one that kills its worker again is given up, and goes on with the rest. At the end it stops the workers that it
    opened, and nothing else.

    Args:
        jobs: what is to be trained.
        open_workers: called for the first pool, and for another where one broke.
        surroundings: what a job needs beside its runs; the loop adds signs of life where workers share files, and
            takes checkpoints away where they do not. Called for a job whenever it is handed to the executor.
        on_poll: called several times a second, whatever happens.
        max_in_flight: jobs that workers are given at once; None is two for each slot.
        shared: a folder that this machine and all workers see, where those see no other file of it.

    Raises:
        BncliError: what a job raised because of a mistake of the user's, such as wrong data.
    """
    try:
        folder, remove = make_temporary_folder(shared)
    except OSError:  # a full disk, say: training goes on without signs of life
        folder, remove = None, lambda: None
    try:
        crew = _Crew(jobs, open_workers, _Heartbeats(folder), surroundings, max_in_flight)
        try:
            while crew.busy():
                crew.submit()
                on_poll()
                yield from crew.collect()
        finally:
            for future in crew.running:
                future.cancel()
            crew.workers.stop()
    finally:
        remove()


class _Crew:
    """The jobs that wait, run, or are tried again alone because a worker died while they ran."""

    def __init__(
        self, jobs: Sequence[Job], open_workers: Callable[[], Workers], beats: "_Heartbeats",
        surroundings: Callable[[Job], Surroundings], max_in_flight: int | None,
    ) -> None:  # fmt: skip
        self.max_in_flight = max_in_flight
        self.jobs, self.beats, self.open_workers, self.surroundings = jobs, beats, open_workers, surroundings
        self.waiting, self.suspects = deque(range(len(jobs))), deque[int]()
        self.running: dict[Future[list[RunResult]], int] = {}
        self.deaths: Counter[int] = Counter()
        self.workers, self.broken, self.barren = open_workers(), False, 0
        self.workers.prepare(jobs)

    def busy(self) -> bool:
        return bool(self.waiting or self.suspects or self.running)

    def submit(self) -> None:
        most = self.max_in_flight or self.workers.most or 2 * self.workers.slots
        queue, room = (self.suspects, 1) if self.suspects else (self.waiting, most)
        while queue and len(self.running) < room:
            job = queue[0]
            try:
                with interrupts_held():  # a pool starts its processes here
                    future = self.workers.executor.submit(work, self.jobs[job], self._at(job))
            except BrokenExecutor:
                self.broken = True
                return
            except Exception as error:
                raise BncliError(f"--executor: it took no job ({type(error).__name__}: {error})") from error
            if not isinstance(future, Future):
                raise BncliError(
                    f"--executor: expected a concurrent.futures.Future of its submit, got {type(future).__name__}"
                )
            self.running[future] = queue.popleft()

    def _at(self, job: int) -> Surroundings:
        at = self.surroundings(self.jobs[job])
        if not self.workers.is_remote:
            at = replace(at, files=())
        if self.workers.shares_files:
            return replace(at, heartbeat=self.beats.path(job))
        return replace(at, heartbeat=None, checkpoints=None)

    def collect(self) -> Iterator[Progress | Finished | WorkerDied]:
        done, _ = wait(self.running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for job, sign in self.beats.news():
            yield Progress(self.jobs[job], *sign)
        for future in done:
            error = future.exception()
            if isinstance(error, BrokenExecutor):
                self.broken = True
            elif isinstance(error, HandedBack | WorkerLostError):
                yield self._lost(self.running.pop(future), error)
            else:
                job = self.running.pop(future)
                self.beats.path(job)  # a sign of life that nobody will give any more, looked at with every poll
                yield self._finished(self.jobs[job], future)
        if self.broken:
            yield from self._start_again()

    def _lost(self, job: int, error: Exception) -> Finished | WorkerDied:
        """A job comes back without results: it waits again, unless it has lost too many workers."""
        self.deaths[job] += error.losses if isinstance(error, WorkerLostError) else 0
        if self.deaths[job] >= LOSSES:
            reason = f"its workers were lost, time after time ({error})"
            return Finished(self.jobs[job], tuple(give_up(self.jobs[job], reason)))
        self.waiting.append(job)
        return WorkerDied((self.jobs[job],), str(error) or "a worker had to leave")

    def _finished(self, job: Job, future: Future[list[RunResult]]) -> Finished:
        error = future.exception()
        if isinstance(error, BncliError):
            raise error
        if error is not None:
            return Finished(job, tuple(give_up(job, f"{type(error).__name__}: {error}")))
        results: Any = future.result()
        wanted = [run.id for run in job.runs]
        whole = isinstance(results, list) and all(isinstance(result, RunResult) for result in results)
        if not whole or [result.info.id for result in results] != wanted:
            raise BncliError(
                "--executor: a job did not come back with the results of its runs; its submit must call the function"
                f" that it is given, got {results!r:.60}"
            )
        return Finished(job, tuple(results))

    def _start_again(self) -> Iterator[Finished | WorkerDied]:
        lost = sorted(self.running.values())
        beating = self.workers.shares_files and self.beats.are_there()
        started = [job for job in lost if self.beats.started(job)] if beating else lost
        self.barren = 0 if started else self.barren + 1
        if self.barren == ATTEMPTS:
            raise BncliError(
                f"worker processes die before they start a job{_unguarded()}; is there enough memory? try --jobs 1"
            )
        yield WorkerDied(tuple(self.jobs[job] for job in started))
        before = self.workers
        before.stop()
        self.workers, self.broken, self.running = self.open_workers(), False, {}
        if self.workers.executor is before.executor:
            raise BncliError(
                "--executor: a worker of the pool that you have opened died, and the pool with it; what is done is"
                " stored. Run it again with a new pool, or give the function that opens one: bncli calls it again"
            )
        self.waiting.extendleft(job for job in reversed(lost) if job not in started)
        self.deaths.update(started)
        for job in started:
            if len(started) == 1 and self.deaths[job] >= ATTEMPTS:
                reason = f"its worker process died {self.deaths[job]} times"
                yield Finished(self.jobs[job], tuple(give_up(self.jobs[job], reason)))
            else:
                self.suspects.append(job)


def _unguarded() -> str:
    """What a script must have for workers to be started from it, as they import it first."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None or Path(script).parent.name == "bncli" or Path(script).stem == "bncli":
        return ""
    return f'; {script} must call bncli under `if __name__ == "__main__":`, since every worker imports it'


class _Heartbeats:
    """Files that workers replace and the loop reads: no queue or lock that a killed worker could leave broken."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._seen: dict[str, float] = {}

    def are_there(self) -> bool:
        """Whether their folder is: somebody may have tidied up temporary folders, or the disk is full."""
        return self._folder is not None and self._folder.is_dir()

    def path(self, job: int) -> Path | None:
        if self._folder is None:
            return None
        path = self._folder / f"{job}.json"
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return path

    def started(self, job: int) -> bool:
        return self._folder is not None and (self._folder / f"{job}.json").exists()

    def news(self) -> Iterator[tuple[int, list[Any]]]:
        try:
            entries = list(os.scandir(self._folder)) if self._folder else []
        except OSError:  # training goes on without them
            return
        for entry in entries:
            if not entry.name.endswith(".json"):  # one that is being written, and gone at any moment
                continue
            with suppress(OSError, ValueError):  # so may any other be, or cut short by a full disk
                changed = entry.stat().st_mtime
                if self._seen.get(entry.name) != changed:
                    self._seen[entry.name] = changed
                    if beat := Path(entry.path).read_text():  # empty: started, not yet evaluated
                        yield int(entry.name.removesuffix(".json")), json.loads(beat)
