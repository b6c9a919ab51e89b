"""Spawned worker processes on this machine: one a core with one thread each, or one a GPU."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection, wait

from bncli.engine.environment import device_count, keep_freed_memory
from bncli.executors import Workers
from bncli.streams import guard_streams


def open_local(workers: int | None, device: str) -> Workers:
    """Open a pool of `workers` processes; on CUDA, each sees one GPU, and several share one where there are more.

    Where there are fewer workers than GPUs, each sees an equal number of them, for runs of several ranks.

    Each ends at once when this process closes its end of a pipe, be it on purpose or because it was killed: a worker
    whose command is gone would train on unseen and slow down the next one. No other child of this process is touched.
    """
    count = workers or device_count(device)
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


def _start(ended: Connection, ranks: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which then ends its workers
    guard_streams()
    keep_freed_memory()
    os.dup2(2, 1)  # stdout is the command's: what is printed here, by libraries and child processes too, is no result
    threading.Thread(target=_end_with_command, args=(ended,), daemon=True).start()
    if ranks is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(_nth_gpu, ranks.get()))  # type: ignore[attr-defined]


def _end_with_command(ended: Connection) -> None:
    wait([ended])
    os._exit(1)


def _nth_gpu(rank: int) -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[rank] if visible else str(rank)
