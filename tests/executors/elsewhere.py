"""Executors for tests: workers that share no file with this process, and one that breaks when it is told to."""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from bncli.engine.work import give_up
from bncli.executors import Workers
from bncli.plan import Job, Run
from bncli.records import Record, RunInfo, RunResult


def _move_away() -> None:
    """As on another host: another working directory, another place for temporary files, and no old paths."""
    place = tempfile.mkdtemp(prefix="elsewhere-")
    os.chdir(place)
    os.environ["TMPDIR"] = tempfile.tempdir = place


def open_elsewhere(workers: int | None, device: str) -> Executor:
    """Processes with another working directory and another TMPDIR than this one's; a plain executor, as anybody's."""
    return ProcessPoolExecutor(workers or 2, mp_context=get_context("spawn"), initializer=_move_away)


def open_thread(workers: int | None, device: str) -> Executor:
    """One thread of this process, which is waited for: the next test trains here too."""

    class Patient(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(cancel_futures=cancel_futures)

    return Patient(1)


def open_threads(workers: int | None, device: str) -> Executor:
    """Two threads, hidden in an executor that nobody knows: it must not train two jobs in one process."""

    class Hidden(Executor):
        def __init__(self) -> None:
            self._pool = ThreadPoolExecutor(2)

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            return self._pool.submit(fn, *args, **kwargs)

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            self._pool.shutdown(cancel_futures=cancel_futures)  # waits: the next test trains here too

    return Hidden()


class Breaking(ThreadPoolExecutor):
    """One thread that trains what it is given, until `breaks` says of a call that it kills its worker.

    From then on it is broken, with everything in it, as the standard pool.
    """

    def __init__(self, breaks: Callable[..., bool]) -> None:
        super().__init__(1)
        self._breaks, self._now_broken = breaks, False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._now_broken:
            raise BrokenProcessPool
        if self._breaks(*args):
            self._now_broken = True
            lost: Future[Any] = Future()
            lost.set_exception(BrokenProcessPool())
            return lost
        return super().submit(fn, *args, **kwargs)


def breaking(breaks: Callable[..., bool]) -> Callable[[], Workers]:
    """Opens one after the other."""

    def open_one() -> Workers:
        pool = Breaking(breaks)
        return Workers(pool, 2, stop=lambda: pool.shutdown(wait=True, cancel_futures=True))

    return open_one


class NoWork(Executor):
    """Jobs that are done when they are submitted, with made-up numbers; those of `fails` have failed."""

    def __init__(self, fails: Callable[[Job], bool] = lambda job: False) -> None:
        self.trained: list[str] = []
        self._fails = fails

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        job: Job = args[0]
        future: Future[list[RunResult]] = Future()
        if not self._fails(job):
            self.trained += [run.id for run in job.runs]
        future.set_result(give_up(job, "made to fail") if self._fails(job) else [make_up(run) for run in job.runs])
        return future


def make_up(run: Run) -> RunResult:
    """A run that was not trained, with the numbers that it must have."""
    last, level = run.training.steps, 1 / (2 + run.seed)
    records = []
    for step in sorted({*range(0, last, run.evaluation.every), last}):
        records += [Record("loss", step, level, "nats"), Record("accuracy", step, 1 - level, "fraction")]
    return RunResult(run.spec(), RunInfo(run.id, "done", last, seconds={"training": 1.0}), tuple(records))
