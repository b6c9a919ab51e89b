"""Workers of Dask, asked through their scheduler; https://distributed.dask.org."""

from contextlib import suppress

from bncli.errors import ConfigError, first_line
from bncli.executors import Workers
from bncli.executors.remote import Remote, import_or_say, require_answer

_START = "start `dask scheduler`, and on each machine `dask worker tcp://HOST:8786 --nthreads 1 --nworkers auto`"


def open_dask(workers: int | None, device: str, *, address: str = "") -> Workers:
    """Connect to a scheduler; its workers train one job each.

    Args:
        workers: jobs at once at most; None is one for each worker.
        device: of the runs.
        address: tcp://HOST:PORT or HOST:PORT of the scheduler.

    Raises:
        ConfigError: where Dask is not installed, no scheduler answers, it has no workers, or these have several
            threads, in which two jobs would mix their random numbers.
    """
    if not address:
        raise ConfigError(f"--executor dask: expected the scheduler's address, as in dask:HOST:8786; {_START}")
    distributed = import_or_say("distributed", "dask")
    require_answer("dask", address, "the scheduler that `dask scheduler` has started")
    try:
        client = distributed.Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(f"--executor dask:{address}: no scheduler answers ({first_line(error)}); {_START}") from None
    known = client.scheduler_info(n_workers=-1)["workers"]
    threads = {worker["nthreads"] for worker in known.values()}
    if threads != {1}:
        client.close()
        raise ConfigError(
            f"--executor dask:{address}: "
            + (f"a worker has {max(threads)} threads, and jobs in one process would mix their random numbers" if threads
               else "the scheduler has no workers")
            + f"; {_START}"
        )  # fmt: skip
    executor = client.get_executor(pure=False, retries=0)
    errors = (distributed.CancelledError, distributed.client.FutureCancelledError, distributed.comm.CommClosedError)
    # Dask has tried it four times by then, and may blame a job that waited beside one that killed its worker
    lost = {distributed.KilledWorker: 2, **dict.fromkeys((*errors, TimeoutError), 1)}

    def stop() -> None:
        with suppress(Exception):  # the scheduler has ended
            executor.shutdown(wait=False)
        client.close(timeout=5)

    slots = min(len(known), workers or len(known))  # none waits beside another
    return Workers(Remote(executor.submit, lost), slots, most=slots, is_remote=True, stop=stop)
