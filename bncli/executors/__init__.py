"""Executors: what carries jobs to workers. A row here is a factory; any `concurrent.futures.Executor` will do.

The contract: a factory is called with the number of workers (None: as many as the place has) and the device that the
runs are for, and returns a `Workers`, or a plain executor that runs one job a process at a time. It is called again
where a pool broke. What an executor offers beyond `submit`, its `Workers` says; the loop assumes nothing else.
"""

from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from bncli.catalogue import Catalogue, Row
from bncli.errors import BncliError, ConfigError

EXECUTORS: Catalogue[Row] = Catalogue("executor", {
    "local": Row("bncli.executors.local:open_local", "processes on this machine: one a core, or one a GPU"),
    "thread": Row("bncli.executors.thread:open_thread", "one thread of this process, for a debugger or a profiler"),
})  # fmt: skip


def _leave_running() -> None:
    pass


@dataclass(frozen=True)
class Workers:
    """An opened executor, and what it offers."""

    executor: Executor
    slots: int  # jobs that it runs at once; about twice as many are in flight
    shares_files: bool = False  # workers see this machine's files: they show progress and keep checkpoints
    stop: Callable[[], None] = _leave_running  # ends the workers now, and whatever they are at


class OpenWorkers(Protocol):
    """A factory of executors."""

    def __call__(self, workers: int | None, device: str, /) -> Workers | Executor:
        """Open an executor of so many workers for runs on this device."""


def open_workers(executor: str | Executor | OpenWorkers, workers: int | None, device: str) -> Workers:
    """Open the executor that was asked for.

    Args:
        executor: a name of the catalogue, `MODULE:FACTORY`, `FILE.py:FACTORY`, a factory, or an executor that the
            caller has opened and will shut down.
        workers: how many jobs are to run at once; None leaves it to the executor.
        device: of the runs.

    Raises:
        ConfigError: if there is no such executor, it does not open, or it would run two jobs in one process at once.
    """
    if isinstance(executor, Executor):
        opened: Workers | Executor = executor
    else:
        factory = load_factory(executor) if isinstance(executor, str) else executor
        try:
            opened = factory(workers, device)
        except BncliError:
            raise
        except Exception as error:
            raise ConfigError(
                f"--executor {executor}: it is called with the number of workers and the device, as in"
                f" ({workers}, {device!r}), and raised {type(error).__name__}: {error}"
            ) from error
    if isinstance(opened, Executor):
        ours = opened is not executor
        opened = Workers(opened, workers or _slots(opened), stop=_shut(opened) if ours else _leave_running)
    if not isinstance(opened, Workers):
        raise ConfigError(
            f"--executor {executor}: expected a concurrent.futures.Executor or bncli.executors.Workers, got "
            f"{type(opened).__name__}"
        )
    slots: object = opened.slots
    if not (isinstance(slots, int) and slots > 0 and isinstance(opened.executor, Executor)):
        raise ConfigError(
            f"--executor {executor}: its Workers must have a concurrent.futures.Executor and slots above 0, got"
            f" {type(opened.executor).__name__} and {slots!r}"
        )
    if isinstance(opened.executor, ThreadPoolExecutor) and _slots(opened.executor) > 1:
        opened.stop()
        raise ConfigError(
            f"--executor: a pool of {_slots(opened.executor)} threads would train several jobs in one process, whose"
            " random numbers would mix; give it one thread, or processes"
        )
    return opened


def load_factory(name: str) -> OpenWorkers:
    """The factory of that name.

    Raises:
        ConfigError: if there is none.
    """
    if ":" not in name:
        found: OpenWorkers = EXECUTORS.load(name)
        return found
    from bncli.plugins.code import resolve_code

    found = resolve_code(name, "--executor")
    if not callable(found):
        raise ConfigError(f"--executor {name}: expected a function that opens an executor, got {type(found).__name__}")
    return found


def _slots(executor: Executor) -> int:
    known: Any = getattr(executor, "_max_workers", 1)  # of the standard library's; others run one until told
    return known if isinstance(known, int) else 1


def _shut(executor: Executor) -> Callable[[], None]:
    def stop() -> None:
        processes: Any = getattr(executor, "_processes", None) if isinstance(executor, ProcessPoolExecutor) else None
        left = list((processes or {}).values())  # shutdown forgets them, and lets them train on unseen
        executor.shutdown(wait=False, cancel_futures=True)
        for process in left:
            process.terminate()

    return stop
