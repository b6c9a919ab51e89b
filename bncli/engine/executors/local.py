"""Spawned worker processes on this machine: one a core with one thread each, or one a GPU."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait

from bncli.engine.environment import device_count


def local(workers: int, device: str) -> ProcessPoolExecutor:
    """Open a pool of `workers` processes; on CUDA, each sees one GPU, and several share one where there are more."""
    context = multiprocessing.get_context("spawn")
    ranks = context.SimpleQueue() if device == "cuda" else None
    if ranks:
        gpus = device_count(device)
        for rank in range(workers):
            ranks.put(rank % gpus)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(ranks,))


def stop() -> None:
    """End every worker of this process now; what they were training is lost, what was stored is not."""
    for worker in multiprocessing.active_children():
        worker.terminate()


def _start(ranks: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which then ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if ranks is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = _nth_gpu(ranks.get())  # type: ignore[attr-defined]
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A worker whose command was killed would train on unseen and slow down the next command."""
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)


def _nth_gpu(rank: int) -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[rank] if visible else str(rank)
