"""One thread of this process: for a debugger, a profiler, or where no process may be started."""

from concurrent.futures import ThreadPoolExecutor

from bncli.engine.work import leave
from bncli.executors import Workers


def open_thread(workers: int | None, device: str) -> Workers:
    """Open one thread, whatever `workers` says: torch's generators are this process's.

    What it is at ends at its next evaluation; everything else is as in workers of their own.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="bncli")

    def stop() -> None:
        pool.shutdown(wait=False, cancel_futures=True)
        leave()

    return Workers(pool, 1, shares_files=True, stop=stop)
