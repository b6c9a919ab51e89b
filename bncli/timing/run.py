"""Cases to rows, in rounds of processes within a budget of seconds; two environments, interleaved.

What is timed is the process: two of them that run the same code differ by more than one of them varies, so the interval
of a row is over processes, and rounds over all cases keep them apart in time.
"""

import math
import random
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bncli.errors import BncliError
from bncli.timing.cases import Case, TimedNorm, count_work
from bncli.timing.clock import WallClock
from bncli.timing.process.client import CaseError, Start, Worker
from bncli.timing.process.protocol import RemoteCase, describe_case
from bncli.timing.results import BenchRow, CaseFailure, CaseResult, Estimate, Facts, KernelShare, Rates
from bncli.timing.scheduler import interleave
from bncli.timing.stats import contrast, fit_prior
from bncli.timing.system import measure_rates
from bncli.timing.workloads import Timer, TimerSettings

_TOLERATED = 1.15  # of the budget: rounds end near their share of it
T = TypeVar("T")
_LEAST_SECONDS = 0.05  # of blocks for a case; their least number is taken however long it takes


@dataclass(frozen=True)
class Inspection:
    """What is known of a case before it is timed."""

    case: Case
    facts: Facts
    rates: Rates
    rival: Facts | None = None  # of what --vs names

    def list_unchecked(self) -> Iterator[str]:
        """The case, and its rival, that is a kernel of which nobody has said what is right."""
        for case, facts in ((self.case, self.facts), (self.case.rival, self.rival)):
            if case and facts and case.is_kernel and facts.correctness.verdict == "unchecked":
                yield case.name


def inspect_cases(
    start: Start, cases: Sequence[Case], told: TimedNorm | None = None, flags: Mapping[str, str] = {}
) -> Generator[Inspection | CaseFailure, None, None]:
    """Check and inspect each case in a process of its own: what a kernel does there ends nothing else.

    Args:
        start: starts a measuring process.
        cases: which.
        told: what the results of kernels must be, if somebody has said so.
        flags: what named a kernel, where that is not --kernel.

    Raises:
        BncliError: for a kernel or a truth that cannot be had.
    """
    known: dict[int, Rates] = {}

    def inspect(worker: Worker, case: Case) -> Facts:
        return worker.inspect(case, told, flags.get(case.norm, "--kernel"))

    for case, found in _run_cases(start, cases, inspect):
        if isinstance(found, CaseFailure):
            yield found
            continue
        if case.threads not in known:
            dtypes = sorted({c.dtype for c in cases if c.threads == case.threads})
            known[case.threads] = measure_rates(case.threads, dtypes, case.device)
        yield Inspection(case, found, known[case.threads])


def read_peaks(start: Start, cases: Sequence[Case]) -> Iterator[tuple[Case, int | None]]:
    """Bytes that each case allocates at once at most in another environment; None where that cannot be known."""

    def read(worker: Worker, case: Case) -> int | None:
        try:
            return worker.read_peak(case)
        except CaseError:
            raise
        except (BncliError, RuntimeError):  # what it is asked there, or answers, is of another bncli
            return None

    for case, found in _run_cases(start, cases, read):
        yield case, None if isinstance(found, CaseFailure) else found


def _run_cases(
    start: Start, cases: Iterable[Case], action: Callable[[Worker, Case], T]
) -> Generator[tuple[Case, T | CaseFailure], None, None]:
    """What `action` gives for each case, in one process, or a new one after a failure that may have harmed it."""
    waiting = deque(cases)
    while waiting:
        with start() as worker:
            while waiting and worker.is_sound:
                case = waiting.popleft()
                try:
                    found: T | CaseFailure = action(worker, case)
                    if not worker.is_sound:
                        found = CaseFailure(case.name, "crashed", "it left its measuring process unable to answer")
                except CaseError as error:
                    found = error.failure
                yield case, found


def time_rounds(
    start: Start, cases: Sequence[Case], settings: TimerSettings, processes: int, least: int, budget: float,
    chance: random.Random,
) -> Generator[CaseResult | CaseFailure, None, None]:  # fmt: skip
    """Time every case in so many processes, one after the other, each with another order of cases.

    What is left of the budget, in seconds without those that a process takes to start, is shared by the measurements
    that are left. After `least` processes there is no further one that would not end in time, or nearly. A case that
    fails is not timed again.
    """
    spent, overhead, left, failed = 0.0, 0.0, processes * len(cases), set[str]()

    def measure(worker: Worker, case: Case) -> CaseResult:
        nonlocal spent, overhead, left
        begin = time.monotonic()
        seconds = max((budget - spent) / left - overhead, _LEAST_SECONDS)
        try:
            return worker.measure(describe_case(case), replace(settings, seconds=seconds), chance.randrange(2**32))
        finally:
            left -= 1
            passed = time.monotonic() - begin
            spent, overhead = spent + passed, max(passed - seconds, 0.0)

    for number in range(processes):
        if number >= least and spent * (number + 1) / number > _TOLERATED * budget:
            return
        order = [case for case in chance.sample(cases, len(cases)) if case.name not in failed]
        for case, found in _run_cases(start, order, measure):
            if isinstance(found, CaseFailure):
                failed.add(case.name)
                left -= processes - 1 - number
            yield found


def profile_cases(
    start: Start, cases: Sequence[Case], settings: TimerSettings, other: Start | None = None
) -> tuple[dict[str, dict[str, tuple[KernelShare, ...]]], list[CaseFailure]]:
    """What runs in each case and its rivals, by name, and in the `other` environment as "against"; and what failed."""

    def profile(worker: Worker, case: Case) -> dict[str, tuple[KernelShare, ...]]:
        return worker.profile(case, settings)

    here = [(case, found, "") for case, found in _run_cases(start, cases, profile)]
    there = [(case, found, "against") for case, found in _run_cases(other, cases, profile)] if other else []
    profiles, failures = dict[str, dict[str, tuple[KernelShare, ...]]](), list[CaseFailure]()
    for case, found, name in here + there:
        if isinstance(found, CaseFailure):
            failures.append(found)
        else:
            profiles.setdefault(case.name, {}).update({name: found.get("case", ())} if name else found)
    return profiles, failures


def build_rows(
    inspections: Iterable[Inspection], results: Sequence[CaseResult],
    profiles: Mapping[str, Mapping[str, tuple[KernelShare, ...]]] = {},
) -> tuple[BenchRow, ...]:  # fmt: skip
    """One row for each case that has been timed, with what ran in it and in the rivals that were timed with it."""
    timed = [(each, tuple(r for r in results if r.name == each.case.name)) for each in inspections]
    timed = [(each, own) for each, own in timed if own]
    seconds = _summarise([[result.seconds["case"] for result in own] for _, own in timed])
    rivals = list(results[0].ratios) if results else []
    ratios = {key: _summarise([[result.ratios[key] for result in own] for _, own in timed]) for key in rivals}
    return tuple(
        BenchRow(
            each.case, own, seconds[number], {key: found[number] for key, found in ratios.items()},
            count_work(each.case), each.facts, each.rates, each.rival,
            {name: kernels for name, kernels in profiles.get(each.case.name, {}).items() if name in ("case", *rivals)},
        )
        for number, (each, own) in enumerate(timed)
    )  # fmt: skip


def _summarise(family: Sequence[Sequence[Estimate]]) -> list[Estimate]:
    """Over each case's processes, their variance moderated by that of all cases, as the gate does it.

    Of a single process its own interval, which knows nothing of what others would have said.
    """
    logs = [[math.log(estimate.value) for estimate in of_case] for of_case in family]
    common = fit_prior(logs)
    return [
        contrast(values, common, (), common).estimate() if len(values) > 1 else of_case[0]
        for values, of_case in zip(logs, family, strict=True)
    ]


def time_pairs(
    here: Start, there: Start, cases: Sequence[RemoteCase], settings: TimerSettings, pairs: int, chance: random.Random
) -> Generator[CaseResult | CaseFailure, None, None]:
    """Measure every case in so many pairs of processes, one here, one there, interleaved.

    The case here is "case", there it is "against": the ratio to it is what `judge` takes without a baseline, under
    rules on `time`. A case that fails in one of them is not measured again.

    Raises:
        BncliError: if the two environments are the same.
    """
    failed = set[str]()
    for _ in range(pairs):
        waiting = deque(case for case in chance.sample(cases, len(cases)) if case.name not in failed)
        while waiting:
            with here() as our, there() as their:
                check_differs(our, their)
                try:
                    while waiting and our.is_sound and their.is_sound:
                        case, seed = waiting.popleft(), chance.randrange(2**32)
                        with our.open(case, settings, seed) as mine, their.open(case, settings, seed) as theirs:
                            timers: dict[str, Timer] = {"case": mine["case"], "against": theirs["case"]}
                            yield interleave(case.name, timers, WallClock(), settings, chance)
                except CaseError as error:
                    failed.add(error.failure.name)
                    yield error.failure


def check_differs(here: Worker, there: Worker) -> None:
    """Pass if the two environments differ in bncli's place or version, torch or Python.

    Raises:
        BncliError: if they are the same; PYTHONPATH makes them so, where both inherit it.
    """
    if here.installation == there.installation:
        raise BncliError(
            f"--against: both environments are {here.installation.describe()}; name another interpreter, or another"
            " checkout as --against 'env PYTHONPATH=/its/folder python'"
        )
