"""Cases to rows, in rounds of processes within a budget of seconds; two environments in turns.

What is timed is the process: two of them that run the same code differ by more than one of them varies, so the interval
of a row is over processes, and rounds over all cases keep them apart in time.
"""

import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bncli.errors import BncliError
from bncli.timing.build import contender_of
from bncli.timing.cases import Case, work_of
from bncli.timing.clock import WallClock
from bncli.timing.inspection import inspect
from bncli.timing.process.client import Start, Worker
from bncli.timing.process.protocol import Job, job_of
from bncli.timing.results import CaseResult, Estimate, Facts, Rates, Row
from bncli.timing.scheduler import take_turns
from bncli.timing.stats import contrast, prior
from bncli.timing.subjects import Effort, Timed
from bncli.timing.system import rates

_TOLERATED = 1.15  # of the budget: rounds end near their share of it
_LEAST_SECONDS = 0.05  # of blocks for a case; their least number is taken however long it takes


@dataclass(frozen=True)
class Looked:
    """What is known of a case before it is timed."""

    case: Case
    facts: Facts
    rates: Rates


def look(cases: Sequence[Case]) -> Iterator[Looked]:
    """Run each case a few times in this process, untimed; a case that cannot run is said now.

    Raises:
        BncliError: for a norm that cannot take its input, or a kernel that cannot be had.
    """
    known: dict[int, Rates] = {}
    for case in cases:
        facts = inspect(case, contender_of(case))
        if case.threads not in known:
            dtypes = sorted({c.dtype for c in cases if c.threads == case.threads})
            known[case.threads] = rates(case.threads, dtypes, case.device)
        yield Looked(case, facts, known[case.threads])


def rounds(
    start: Start, cases: Sequence[Case], effort: Effort, processes: int, least: int, budget: float,
    chance: random.Random,
) -> Iterator[CaseResult]:  # fmt: skip
    """Time every case in so many processes, one after the other, each with another order of cases.

    What is left of the budget, in seconds without those that a process takes to start, is shared by the measurements
    that are left. After `least` processes there is no further one that would not end in time, or nearly.
    """
    spent, overhead, left = 0.0, 0.0, processes * len(cases)
    for number in range(processes):
        if number >= least and spent * (number + 1) / number > _TOLERATED * budget:
            return
        with start() as worker:
            for case in chance.sample(cases, len(cases)):
                begin = time.monotonic()
                seconds = max((budget - spent) / left - overhead, _LEAST_SECONDS)
                result = worker.measure(job_of(case), replace(effort, seconds=seconds), chance.randrange(2**32))
                left -= 1
                passed = time.monotonic() - begin
                spent, overhead = spent + passed, max(passed - seconds, 0.0)
                yield result


def rows_of(looked: Iterable[Looked], results: Sequence[CaseResult]) -> tuple[Row, ...]:
    """One row for each case that has been timed."""
    timed = [(each, tuple(r for r in results if r.name == each.case.name)) for each in looked]
    timed = [(each, own) for each, own in timed if own]
    seconds = _over([[result.seconds["case"] for result in own] for _, own in timed])
    yardsticks = list(results[0].ratios) if results else []
    ratios = {key: _over([[result.ratios[key] for result in own] for _, own in timed]) for key in yardsticks}
    return tuple(
        Row(
            each.case, own, seconds[number], {key: found[number] for key, found in ratios.items()},
            work_of(each.case), each.facts, each.rates,
        )
        for number, (each, own) in enumerate(timed)
    )  # fmt: skip


def _over(family: Sequence[Sequence[Estimate]]) -> list[Estimate]:
    """Over each case's processes, their variance moderated by that of all cases, as the gate does it.

    Of a single process its own interval, which knows nothing of what others would have said.
    """
    logs = [[math.log(estimate.value) for estimate in of_case] for of_case in family]
    common = prior(logs)
    return [
        contrast(values, common, (), common).estimate() if len(values) > 1 else of_case[0]
        for values, of_case in zip(logs, family, strict=True)
    ]


def against(
    here: Start, there: Start, jobs: Sequence[Job], effort: Effort, pairs: int, chance: random.Random
) -> Iterator[CaseResult]:
    """Measure every job in so many pairs of processes, one here, one there, as contenders of one schedule.

    The case here is "case", there it is "against": the ratio to it is what `judge` takes without a baseline, under
    rules on `time`.

    Raises:
        BncliError: if the two environments are the same, or a job cannot be done in one of them.
    """
    for _ in range(pairs):
        with here() as our, there() as their:
            check_differs(our, their)
            for job in chance.sample(jobs, len(jobs)):
                seed = chance.randrange(2**32)
                with our.opened(job, effort, seed) as mine, their.opened(job, effort, seed) as theirs:
                    contenders: dict[str, Timed] = {"case": mine["case"], "against": theirs["case"]}
                    yield take_turns(job.name, contenders, WallClock(), effort, chance)


def check_differs(here: Worker, there: Worker) -> None:
    """Pass if the two environments differ in bncli's place or version, torch or Python.

    Raises:
        BncliError: if they are the same; PYTHONPATH makes them so, where both inherit it.
    """
    if here.place == there.place:
        raise BncliError(
            f"--against: both environments are {here.place.described()}; name another interpreter, or another checkout"
            " as --against 'env PYTHONPATH=/its/folder python'"
        )
