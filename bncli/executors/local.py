"""Worker processes on this machine: one a core with one thread each, or one a GPU; forked where that is safe."""

import atexit
import multiprocessing
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection, wait

from bncli.engine.environment import device_count, may_have_gpu
from bncli.executors import Workers
from bncli.executors.forks import ForkedPool, ForkServer, settle_in
from bncli.plan import Job

_early = list[ForkServer]()  # started before it was known whether there is something to train


def start_early(executor: str, device: str) -> None:
    """Start what workers are forked from, if it will be wanted, so that it imports torch while the study is read."""
    on_cpu = device == "cpu" or (device == "auto" and not may_have_gpu())
    if executor == "local" and on_cpu and _may_fork("cpu") and not _early:
        _early.append(ForkServer())
        atexit.register(_end_early)


def open_local(workers: int | None, device: str) -> Workers:
    """Open a pool of `workers` processes; on CUDA, each sees one GPU, and several share one where there are more.

    Where there are fewer workers than GPUs, each sees an equal number of them, for runs of several ranks.

    Each ends at once when this process closes its end of a pipe, be it on purpose or because it was killed: a worker
    whose command is gone would train on unseen and slow down the next one. No other child of this process is touched.
    Those for a CPU are forked on Linux from one process (`bncli.executors.forks`), all others spawned.
    """
    count = workers or device_count(device)
    if _may_fork(device):
        server = _take_early() or ForkServer()
        forked = ForkedPool(count, server)

        def prepare(jobs: Sequence[Job]) -> None:
            server.read_ahead(sorted({run.data.name for job in jobs for run in job.runs if not run.task}))

        return Workers(forked, count, shares_files=True, prepare=prepare, stop=forked.stop)
    context = multiprocessing.get_context("spawn")
    ranks = context.SimpleQueue() if device == "cuda" else None
    if ranks:
        gpus = device_count(device)
        each = max(1, gpus // count)
        for rank in range(count):
            ranks.put([(rank * each + i) % gpus for i in range(each)])
    ended, end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(ended, ranks))

    def stop() -> None:
        pool.shutdown(wait=False, cancel_futures=True)
        end.close()
        ended.close()

    return Workers(pool, count, shares_files=True, stop=stop)


def _may_fork(device: str) -> bool:
    """Whether workers may be forked; those for a GPU are not, and programs that were frozen start in their own way."""
    return device == "cpu" and sys.platform == "linux" and not getattr(sys, "frozen", False)


def _take_early() -> ForkServer | None:
    """The process that was started early, if the environment is still that which it has."""
    if _early and _early[0].environment != dict(os.environ):
        _end_early()
    return _early.pop() if _early else None


def _end_early() -> None:
    while _early:
        _early.pop().stop()


def _start(ended: Connection, ranks: object) -> None:
    settle_in()
    threading.Thread(target=_end_with_command, args=(ended,), daemon=True).start()
    if ranks is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(_nth_gpu, ranks.get()))  # type: ignore[attr-defined]


def _end_with_command(ended: Connection) -> None:
    wait([ended])
    os._exit(1)


def _nth_gpu(rank: int) -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[rank] if visible else str(rank)
