"""Measuring processes that measure nothing: cases take the time that they are told to, so that verdicts are exact."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bncli.config.bench import label
from bncli.timing.build import prepare
from bncli.timing.cases import Case, TimedNorm
from bncli.timing.inspection import inspect
from bncli.timing.process.client import Installation
from bncli.timing.process.protocol import PROTOCOL, RemoteCase
from bncli.timing.profiling import profile_entry
from bncli.timing.results import CaseResult, Facts, KernelShare
from bncli.timing.stats import estimate_median, estimate_ratio
from bncli.timing.workloads import TimerSettings

RIVALS = {"native": 1e-3, "copy": 5e-4}  # seconds a call


@dataclass
class MadeTimer:
    """A workload of so many seconds a call."""

    seconds: float
    calls: int = 1
    argument_copies: int = 2
    cold: bool = False

    def time_chunk(self, block: int) -> float:
        return self.seconds

    def size(self, wanted: float) -> None:
        pass


class MadeWorker:
    """A case takes a millisecond, a kernel as many as the variable TIMES says, each process 1 % more or less."""

    device, is_sound = "cpu", True

    def __init__(self, command: Sequence[str] = ()) -> None:
        self.installation = Installation(PROTOCOL, "0", " ".join(command), "2", "3")
        told = [word.partition("=")[2] for word in command if word.startswith("TIMES=")]
        self._times = float(told[0] if told else os.environ.get("TIMES", "1"))

    def inspect(self, case: Case, told: TimedNorm | None = None, flag: str = "--kernel") -> Facts:
        return inspect(case, told, flag)

    def read_peak(self, case: Case) -> int | None:
        return 100

    def measure(self, job: RemoteCase, settings: TimerSettings, seed: int) -> CaseResult:
        versus = job.case.get("versus")
        rivals = {**({label(*versus): 1e-3 * float(os.environ.get("VERSUS", "1"))} if versus else {}), **RIVALS}
        blocks = {name: ((s, s),) * 8 for name, s in {"case": self._seconds(job, seed), **rivals}.items()}
        return CaseResult(
            name=job.name,
            samples=blocks,
            calls=dict.fromkeys(blocks, 1),
            seconds={name: estimate_median([s for s, _ in taken]) for name, taken in blocks.items()},
            ratios={name: estimate_ratio(blocks["case"], blocks[name]) for name in rivals},
            outliers=dict.fromkeys(blocks, 0),
            stopped="time",
            argument_copies=dict.fromkeys(blocks, 2),
            cold=not settings.warm,
        )

    def profile(self, case: Case, settings: TimerSettings) -> dict[str, tuple[KernelShare, ...]]:
        if place := self.installation.place:
            return {"case": (KernelShare(f"kernel of {place}", 1.0, 1.0),)}
        return profile_entry(prepare(case), "cpu", settings, random.Random(0))

    @contextmanager
    def open(self, job: RemoteCase, settings: TimerSettings, seed: int) -> Iterator[dict[str, MadeTimer]]:
        yield {"case": MadeTimer(self._seconds(job, seed))}

    def _seconds(self, job: RemoteCase, seed: int) -> float:
        times = self._times if "Slow" in job.name else 1.0
        return 1e-3 * times * random.Random(f"{seed} {self.installation}").lognormvariate(0, 0.01)


def measures(count: int, then: BaseException) -> Callable[..., CaseResult]:
    """In the place of `MadeWorker.measure`: so many measurements, then an end."""
    measure, left = MadeWorker.measure, iter(range(count))

    def counted(worker: MadeWorker, job: RemoteCase, settings: TimerSettings, seed: int) -> CaseResult:
        if next(left, None) is None:
            raise then
        return measure(worker, job, settings, seed)

    return counted


@contextmanager
def start_made_worker(device: str, command: Sequence[str] = (), time_limit: float = 0) -> Iterator[MadeWorker]:
    """In the place of `bncli.timing.process.client.start_worker`."""
    yield MadeWorker(command)
