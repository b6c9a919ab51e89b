"""Executors: what carries jobs to workers. A row here is a factory; any `concurrent.futures.Executor` will do.

The contract: a factory is called with the number of workers (None: as many as the place has) and the device that the
runs are for, and returns a `Workers`, or a plain executor that runs one job a process at a time. What else was asked
for it is given by name, and only then: `address`, `cpus_per_job`, `gpus_per_job`. It is called again where a pool
broke. What an executor offers beyond `submit`, its `Workers` says; the loop assumes nothing else.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bncli.catalogue import Catalogue, Row
from bncli.errors import BncliError, ConfigError

if TYPE_CHECKING:
    from bncli.plan import Job

EXECUTORS: Catalogue[Row] = Catalogue("executor", {
    "local": Row("bncli.executors.local:open_local", "processes on this machine: one a core, or one a GPU"),
    "ray": Row("bncli.executors.ray:open_ray", "a Ray cluster, ray:ADDRESS; the one at hand, or one made here"),
    "dask": Row("bncli.executors.dask:open_dask", "workers of Dask, dask:ADDRESS of their scheduler"),
    "thread": Row("bncli.executors.thread:open_thread", "one thread of this process, for a debugger or a profiler"),
})  # fmt: skip


_LEAST = 0.001  # of a processor or a GPU that a job may have


class WorkerLostError(Exception):
    """The worker of one job is gone, or its machine, or the way there; other jobs go on, and the executor with them."""

    def __init__(self, reason: str, losses: int = 1) -> None:
        super().__init__(reason)
        self.losses = losses  # as which it counts: some executors try again themselves


@dataclass(frozen=True)
class Placement:
    """What jobs are to have of the workers."""

    cpus_per_job: float | None = None
    gpus_per_job: float | None = None  # a share of one will do: 0.25
    max_in_flight: int | None = None  # jobs that workers are given before others are done; None: two for each slot
    shared: Path | None = None  # a folder that all machines see: for progress, and for checkpoints of killed jobs
    ranks: int = 1  # of a job, each with a processor of its own, or a GPU

    def __post_init__(self) -> None:
        """Refuse what no executor can give.

        Raises:
            ConfigError: naming the option.
        """
        if self.cpus_per_job is not None and not self.cpus_per_job >= _LEAST:
            raise ConfigError(f"--cpus-per-job: must be {_LEAST:g} or more, got {self.cpus_per_job:g}")
        if self.gpus_per_job is not None and not (self.gpus_per_job == 0 or self.gpus_per_job >= _LEAST):
            raise ConfigError(f"--gpus-per-job: must be 0, or {_LEAST:g} or more, got {self.gpus_per_job:g}")
        if self.max_in_flight is not None and self.max_in_flight < 1:
            raise ConfigError(f"--max-in-flight: must be 1 or more, got {self.max_in_flight}")
        if self.shared and not self.shared.is_dir():
            raise ConfigError(f"--shared {self.shared}: expected a folder that is there, and that all machines see")

    def options(self) -> dict[str, float]:
        """What a factory is told of it, by name."""
        asked = {"cpus_per_job": self.cpus_per_job, "gpus_per_job": self.gpus_per_job}
        return {name: value for name, value in asked.items() if value is not None}


def _leave_running() -> None:
    pass


@dataclass(frozen=True)
class Workers:
    """An opened executor, and what it offers."""

    executor: Executor
    slots: int  # jobs that it runs at once; about twice as many are in flight
    shares_files: bool = False  # workers see this machine's files: they show progress and keep checkpoints
    most: int | None = None  # jobs that it is given at once; None: two for each slot
    is_remote: bool = False  # they may be on other machines, and small files of data travel with the jobs
    prepare: Callable[[Sequence["Job"]], None] = lambda jobs: None  # told of all jobs before the first is submitted
    stop: Callable[[], None] = _leave_running  # ends the workers now, and whatever they are at


class OpenWorkers(Protocol):
    """A factory of executors."""

    def __call__(self, workers: int | None, device: str, /, **options: Any) -> Workers | Executor:
        """Open an executor of so many workers for runs on this device."""


def open_workers(
    executor: str | Executor | OpenWorkers, workers: int | None, device: str, placement: Placement = Placement()
) -> Workers:
    """Open the executor that was asked for.

    Args:
        executor: a name of the catalogue, `MODULE:FACTORY`, `FILE.py:FACTORY`, a factory, or an executor that the
            caller has opened and will shut down.
        workers: how many jobs are to run at once; None leaves it to the executor.
        device: of the runs.
        placement: what jobs are to have.

    Raises:
        ConfigError: if there is no such executor, it does not open, it would run two jobs in one process at once, or
            it cannot give jobs what they are to have.
    """
    options: dict[str, Any] = placement.options()
    if isinstance(executor, Executor):
        opened: Workers | Executor = executor
        _refuse(options, "an open executor")
    else:
        factory, address = load_factory(executor) if isinstance(executor, str) else (executor, "")
        options |= {"address": address} if address else {}
        if placement.ranks > 1:
            counted = {"cpus_per_job": float(placement.ranks)} | (
                {"gpus_per_job": float(placement.ranks)} if device == "cuda" else {}
            )
            options = {name: value for name, value in counted.items() if _takes(factory, name)} | options
        if options:
            _refuse({name: value for name, value in options.items() if not _takes(factory, name)}, str(executor))
        try:
            opened = factory(workers, device, **options)
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
    if placement.shared:
        opened = replace(opened, shares_files=True)
    if isinstance(opened.executor, ThreadPoolExecutor) and _slots(opened.executor) > 1:
        opened.stop()
        raise ConfigError(
            f"--executor: a pool of {_slots(opened.executor)} threads would train several jobs in one process, whose"
            " random numbers would mix; give it one thread, or processes"
        )
    return opened


def load_factory(name: str) -> tuple[OpenWorkers, str]:
    """The factory of that name, and the address that follows it: `ray`, `ray:HOST:PORT`, FILE.py:FACTORY.

    Raises:
        ConfigError: if there is none.
    """
    scheme, colon, address = name.partition(":")
    if scheme in EXECUTORS or not colon:
        if colon and not address:
            raise ConfigError(f"--executor {name}: expected an address after the colon, as in {scheme}:HOST:PORT")
        found: OpenWorkers = EXECUTORS.load(scheme)
        return found, address
    from bncli.plugins.code import resolve_code

    found = resolve_code(name, "--executor")
    if not callable(found):
        raise ConfigError(f"--executor {name}: expected a function that opens an executor, got {type(found).__name__}")
    return found, ""


def _takes(factory: Callable[..., Any], name: str) -> bool:
    try:
        given = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # of C, say
        return True
    return any(each.name == name or each.kind is each.VAR_KEYWORD for each in given)


def _refuse(options: Mapping[str, Any], executor: str) -> None:
    for name, value in options.items():
        if name == "address":
            raise ConfigError(f"--executor {executor}: it has no address, got {value!r}")
        raise ConfigError(f"--{name.replace('_', '-')} {value:g}: the executor {executor} does not place jobs by that")


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
