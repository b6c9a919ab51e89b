"""What a worker does with one job, wherever it runs: one job a process at a time, in a time limit if there is one.

`main` is the process that a job with a time limit runs in, because only a process can be ended, and each rank of a run
of several: it reads (job, surroundings) from its stdin, writes when it ended and its results to its stdout, both
pickled, and ends with its parent.
"""

import contextlib
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

from bncli.engine.environment import keep_freed_memory
from bncli.errors import BncliError, HandedBack
from bncli.files import make_temporary_folder, write_atomically
from bncli.plan import Job
from bncli.plugins import Shipped, using
from bncli.records import RunInfo, RunResult, Status
from bncli.streams import guard_streams, interrupts_held

_BUSY = threading.Lock()  # generators and threads of torch are the process's: two jobs would draw from one another
_LEAVING = threading.Event()  # the job that this process is at ends at its next sign of life
_HANDING_BACK = threading.Event()  # the same, and it keeps its state: this process must leave
_CHILDREN = set["subprocess.Popen[bytes]"]()  # that jobs with a time limit, or with ranks, run in
WAIT_SECONDS = 1_800.0  # that a rank waits for another: for an evaluation, say
LAST_SECONDS = 5.0  # that a rank has to end by itself once another has ended


@dataclass(frozen=True)
class Meeting:
    """Where the ranks of a job find each other, as one of them is told; all are on this machine."""

    rank: int
    ranks: int
    file: Path  # a new one
    seconds: float  # that a rank waits for another


@dataclass(frozen=True)
class Surroundings:
    """What a job needs of the place where it runs, beside its runs; plain data that travels with the job."""

    heartbeat: Path | None = None  # file for signs of life, where the worker sees the coordinator's files
    checkpoints: Path | None = None  # folder for the job's state while it trains, likewise
    data: Path | None = None  # folder with data sets' files, before the places where they are looked for
    plugins: tuple[Shipped, ...] = ()  # whose names the runs may have
    seconds: float | None = None  # after which the job is ended
    files: tuple[tuple[str, bytes], ...] = ()  # small ones of data, by name, for a machine that lacks them
    meeting: Meeting | None = None  # of one rank of several, with the others


def work(job: Job, at: Surroundings) -> list[RunResult]:
    """Train one job; the same numbers on one thread wherever it runs.

    Raises:
        BncliError: for a mistake of the user's, such as wrong data; or if this process trains a job already. What
            else is raised is the reason why the runs have failed: not every exception can travel.
    """
    _end_with_coordinator(os.getpid())
    if at.seconds is not None or (job.runs[0].training.ranks > 1 and at.meeting is None):
        return _work_apart(job, at)
    if not _BUSY.acquire(blocking=_LEAVING.is_set()):
        raise BncliError(
            "--executor: it runs two jobs in one process at once, whose random numbers would mix; give each worker a"
            " process of its own, or one thread in all"
        )
    _LEAVING.clear()
    try:
        with using(at.plugins):  # a worker may live longer than this state of their code
            return _train(job, at)
    except (BncliError, HandedBack):
        raise
    except Exception as error:
        return give_up(job, f"{type(error).__name__}: {error}")
    finally:
        _BUSY.release()


def leave() -> None:
    """Have the job that a thread of this process is at end at its next evaluation; nobody waits for its results."""
    if _BUSY.locked():
        _LEAVING.set()
    for child in list(_CHILDREN):
        child.kill()


def hand_back() -> None:
    """Have the job that this process is at keep its state at its next evaluation, and raise HandedBack."""
    _HANDING_BACK.set()
    for child in list(_CHILDREN):
        child.terminate()


def is_leaving() -> bool:
    """Whether this process has been told to hand back what it is at."""
    return _HANDING_BACK.is_set()


@cache
def _end_with_coordinator(pid: int) -> None:
    """End a worker of `multiprocessing` when the process that opened it is gone: it would train on unseen."""
    if parent := multiprocessing.parent_process():

        def wait() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def fetch_data(jobs: Iterable[Job], folder: Path | None, say: Callable[[str], None]) -> None:
    """Download once what several workers would all wait for; `say` takes a line before each file.

    Raises:
        DataError: if it cannot be had.
    """
    from bncli.data import DATASETS, looking_in

    with looking_in(folder):
        for data in dict.fromkeys(run.data.name for job in jobs for run in job.runs if not run.task):
            DATASETS.fetch(data, say)


def read_ahead(data: Iterable[str]) -> None:
    """Read data sets that jobs will ask for, of this process or of a fork of it, where that takes no torch."""
    from bncli.data import DATASETS

    for name in data:
        DATASETS.read_ahead(name)


def give_up(job: Job, reason: str, status: Status = "failed") -> list[RunResult]:
    """The results of a job that has none, with the reason in words."""
    return [RunResult(run.spec(), RunInfo(run.id, status, 0, reason)) for run in job.runs]


def _train(job: Job, at: Surroundings) -> list[RunResult]:
    import torch

    from bncli.data import looking_in
    from bncli.engine.ranks import joined
    from bncli.engine.state import noise_kept
    from bncli.engine.task import train_task
    from bncli.engine.train import Sign, train

    def report(sign: Sign) -> None:
        if _LEAVING.is_set():
            raise InterruptedError("its study has ended")
        if _HANDING_BACK.is_set():
            raise HandedBack
        if at.heartbeat:
            with contextlib.suppress(OSError):  # nobody may be looking any more; training goes on
                write_atomically(at.heartbeat, json.dumps(astuple(sign)), durable=False)

    if at.heartbeat:
        with contextlib.suppress(OSError):
            at.heartbeat.touch()
    threads, own = torch.get_num_threads(), bool(job.runs[0].task)
    torch.set_num_threads(1)
    try:
        # what anybody's code prints is for people: stdout may be a document's
        with (
            _unpacked(at.files, at.data) as data,
            looking_in(data),
            noise_kept(job.runs[0].device),
            contextlib.redirect_stdout(sys.stderr),
        ):
            if own:
                return train_task(job, report, at.checkpoints)
            with joined(at.meeting, job.runs[0].device):
                return train(job, report, at.checkpoints)
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _unpacked(files: tuple[tuple[str, bytes], ...], data: Path | None) -> Iterator[Path | None]:
    """A folder with files that came with a job, in the place of that of the machine which sent it."""
    if not files:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="bncli-", ignore_cleanup_errors=True) as made:
        for name, content in files:
            (Path(made) / name).write_bytes(content)
        yield Path(made)


def _work_apart(job: Job, at: Surroundings) -> list[RunResult]:
    """Train a job in a process of its own, or one for each rank; all end with the first that fails, or in time."""
    ranks, seconds = job.runs[0].training.ranks, at.seconds
    with ExitStack() as stack:
        told = [replace(at, seconds=None)]
        if ranks > 1:
            from bncli.engine.ranks import require_devices

            require_devices(ranks, job.runs[0].device)
            folder, remove = make_temporary_folder()
            stack.callback(remove)
            meetings = [Meeting(rank, ranks, folder / "meeting", WAIT_SECONDS) for rank in range(ranks)]
            told = [replace(told[0], meeting=each, heartbeat=None if each.rank else at.heartbeat) for each in meetings]
        family = _Family([stack.enter_context(_start_process()) for _ in told])
        stack.callback(family.end)
        out_of_time = threading.Event()

        def give_out() -> None:
            out_of_time.set()
            family.end()

        if seconds is not None:
            timer = threading.Timer(seconds, give_out)
            timer.start()
            stack.callback(timer.cancel)
        threads = [threading.Thread(target=family.attend, args=(rank, job, at)) for rank, at in enumerate(told)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if out_of_time.is_set():
        return give_up(job, f"not done within {seconds:g} s", "timed out")
    return family.results(job)


def _start_process() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", "from bncli.engine.work import main; main()"]
    pipe = subprocess.PIPE
    # it must find the same modules, from wherever this process was started
    with interrupts_held():
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, env={**os.environ, "PYTHONPATH": python_path()})


class _Family:
    """The processes of one job, by rank: what each said and how each ended."""

    def __init__(self, children: Sequence["subprocess.Popen[bytes]"]) -> None:
        self._children, self._answers, self._ended = children, [b""] * len(children), set[int]()
        _CHILDREN.update(children)

    def end(self) -> None:
        """End those that still run."""
        for rank, child in enumerate(self._children):
            if child.poll() is None:
                self._ended.add(rank)
                child.kill()
        _CHILDREN.difference_update(self._children)

    def attend(self, rank: int, job: Job, at: Surroundings) -> None:
        """Tell one its job and wait for its answer; the first rank's ends them all, and so does a failure."""
        child = self._children[rank]
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(OSError):  # it died, or was ended
            pickle.dump((job, at), child.stdin)
            child.stdin.flush()
        self._answers[rank] = child.stdout.read()
        with contextlib.suppress(OSError):  # it was ended before it had read all of its job
            child.stdin.close()
        if child.wait() or rank == 0:
            for other in self._children:  # one that fell first, or has no more to do, ends by itself
                with contextlib.suppress(subprocess.TimeoutExpired):
                    other.wait(LAST_SECONDS)
            self.end()

    def results(self, job: Job) -> list[RunResult]:
        """The first rank's, or why the job has none: a process that died, else the earliest error."""
        count = len(self._children)
        told = {rank: pickle.loads(answer) for rank, answer in enumerate(self._answers) if answer}
        for rank, child in enumerate(self._children):
            if rank not in told and rank not in self._ended:
                which = f"rank {rank} of {count}" if count > 1 else "its process"
                return give_up(job, f"{which} died (exit status {child.returncode})")
        failures = {rank: (when, found) for rank, (when, found) in told.items() if _is_failure(found)}
        if 0 in told and 0 not in failures:
            return list(told[0][1])
        rank, (_, found) = min(failures.items(), key=lambda item: item[1][0])
        if isinstance(found, BncliError | HandedBack):
            raise found
        reason, silent = found[0].info.reason, ", ".join(map(str, sorted(self._ended)))
        if count == 1:
            return list(found)
        if silent and "timed out" in reason.lower():
            return give_up(job, f"rank {silent} of {count} gave no sign for {WAIT_SECONDS:g} s")
        return give_up(job, f"rank {rank} of {count}: {reason}")


def _is_failure(found: list[RunResult] | BncliError | HandedBack) -> bool:
    return isinstance(found, BncliError | HandedBack) or any(result.info.status == "failed" for result in found)


def python_path() -> str:
    """PYTHONPATH by which another interpreter finds the modules that this one does."""
    return os.pathsep.join(dict.fromkeys([str(Path(__file__).parents[2]), *(str(Path(each)) for each in sys.path)]))


def main() -> None:
    """Do one job: read it from stdin, write the results to stdout; what else is printed goes to stderr."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    guard_streams()
    keep_freed_memory()
    job, at = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, args=(sys.stdin.buffer,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: hand_back())
    found: list[RunResult] | BncliError | HandedBack
    try:
        found = work(job, at)
    except (BncliError, HandedBack) as error:
        found = error
    with answer:
        pickle.dump((time.time(), found), answer)
    os._exit(_is_failure(found))  # the thread that waits for the parent's end cannot be joined


def _end_with_parent(stdin: BinaryIO) -> None:
    stdin.read()
    os._exit(1)
