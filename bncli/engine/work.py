"""What a worker does with one job, wherever it runs: one job a process at a time, in a time limit if there is one.

`main` is the process that a job with a time limit runs in, because only a process can be ended: it reads (job,
surroundings) from its stdin, writes its results to its stdout, both pickled, and ends with its parent.
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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

from bncli.errors import BncliError, HandedBack
from bncli.files import write_atomically
from bncli.plan import Job
from bncli.plugins import Shipped, using
from bncli.records import RunInfo, RunResult, Status
from bncli.streams import guard_streams, interrupts_held

_BUSY = threading.Lock()  # generators and threads of torch are the process's: two jobs would draw from one another
_LEAVING = threading.Event()  # the job that this process is at ends at its next sign of life
_HANDING_BACK = threading.Event()  # the same, and it keeps its state: this process must leave
_CHILDREN = set["subprocess.Popen[bytes]"]()  # that jobs with a time limit run in


@dataclass(frozen=True)
class Surroundings:
    """What a job needs of the place where it runs, beside its runs; plain data that travels with the job."""

    heartbeat: Path | None = None  # file for signs of life, where the worker sees the coordinator's files
    checkpoints: Path | None = None  # folder for the job's state while it trains, likewise
    data: Path | None = None  # folder with data sets' files, before the places where they are looked for
    plugins: tuple[Shipped, ...] = ()  # whose names the runs may have
    seconds: float | None = None  # after which the job is ended
    files: tuple[tuple[str, bytes], ...] = ()  # small ones of data, by name, for a machine that lacks them


def work(job: Job, at: Surroundings) -> list[RunResult]:
    """Train one job; the same numbers on one thread wherever it runs.

    Raises:
        BncliError: for a mistake of the user's, such as wrong data; or if this process trains a job already. What
            else is raised is the reason why the runs have failed: not every exception can travel.
    """
    _end_with_coordinator(os.getpid())
    if at.seconds is not None:
        return _work_in_time(job, replace(at, seconds=None), at.seconds)
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
    """Have the job that this process is at keep its state at its next evaluation, and raise HandedBack; so do others."""
    _HANDING_BACK.set()
    for child in list(_CHILDREN):
        child.terminate()


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


def give_up(job: Job, reason: str, status: Status = "failed") -> list[RunResult]:
    """The results of a job that has none, with the reason in words."""
    return [RunResult(run.spec(), RunInfo(run.id, status, 0, reason)) for run in job.runs]


def _train(job: Job, at: Surroundings) -> list[RunResult]:
    import torch

    from bncli.data import looking_in
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
            return train_task(job, report, at.checkpoints) if own else train(job, report, at.checkpoints)
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


def _work_in_time(job: Job, at: Surroundings, seconds: float) -> list[RunResult]:
    command = [sys.executable, "-c", "from bncli.engine.work import main; main()"]
    pipe = subprocess.PIPE
    # it must find the same modules, from wherever this process was started
    with interrupts_held():
        started = subprocess.Popen(command, stdin=pipe, stdout=pipe, env={**os.environ, "PYTHONPATH": python_path()})
    with started as child:
        _CHILDREN.add(child)
        assert child.stdin is not None
        assert child.stdout is not None
        out_of_time = threading.Event()

        def end() -> None:
            out_of_time.set()
            child.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                pickle.dump((job, at), child.stdin)
                child.stdin.flush()
            answer = child.stdout.read()
        finally:
            timer.cancel()
            child.kill()
            _CHILDREN.discard(child)
    if out_of_time.is_set():
        return give_up(job, f"not done within {seconds:g} s", "timed out")
    if not answer:
        return give_up(job, f"its process died (exit status {child.returncode})")
    found = pickle.loads(answer)
    if isinstance(found, BaseException):
        raise found
    results: list[RunResult] = found
    return results


def python_path() -> str:
    """PYTHONPATH by which another interpreter finds the modules that this one does."""
    return os.pathsep.join(dict.fromkeys([str(Path(__file__).parents[2]), *(str(Path(each)) for each in sys.path)]))


def main() -> None:
    """Do one job: read it from stdin, write the results to stdout; what else is printed goes to stderr."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    guard_streams()
    job, at = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, args=(sys.stdin.buffer,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: hand_back())
    found: list[RunResult] | BncliError | HandedBack
    try:
        found = work(job, at)
    except (BncliError, HandedBack) as error:
        found = error
    with answer:
        pickle.dump(found, answer)
    os._exit(0)  # the thread that waits for the parent's end cannot be joined


def _end_with_parent(stdin: BinaryIO) -> None:
    stdin.read()
    os._exit(1)
