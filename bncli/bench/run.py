"""Cases to rows: each prepared, timed and looked at in turn, within a budget of seconds."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bncli.bench.cases import Case
from bncli.bench.clock import Clock
from bncli.bench.entries import prepare
from bncli.bench.inspection import inspect
from bncli.bench.machine import rates
from bncli.bench.rows import Rates, Row
from bncli.bench.schedule import measure
from bncli.bench.timed import Effort
from bncli.bench.work import work_of

_LEAST_SECONDS = 0.05  # of blocks for a case; their least number is taken however long it takes


def run(cases: Sequence[Case], clock: Clock, effort: Effort, budget: float) -> Iterator[Row]:
    """Time the cases in order, and yield each row as soon as it is known.

    What is left of the budget is shared by the cases that are left, so that what one does not need the others have.
    """
    end, known, overhead = clock.now() + budget, dict[int, Rates](), 0.0
    for number, case in enumerate(cases):
        if case.threads not in known:
            dtypes = sorted({c.dtype for c in cases if c.threads == case.threads})
            known[case.threads] = rates(case.threads, dtypes, case.device)
        begin = clock.now()
        share = (end - begin) / (len(cases) - number) - overhead
        entry = prepare(case)
        facts = inspect(case, entry.case)
        start = clock.now()
        result = measure(entry, clock, replace(effort, seconds=min(effort.seconds, max(share, _LEAST_SECONDS))))
        overhead = start - begin + effort.warmup
        yield Row(case, result, work_of(case), facts, known[case.threads])
