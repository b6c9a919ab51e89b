"""One command's measurement: cases through measuring processes with progress on stderr, then the gate."""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from bncli.cli.bench_gate import GateAsked
from bncli.config import Bench, KernelClaim
from bncli.engine.environment import device_count, environment
from bncli.errors import BncliError, UndecidedError
from bncli.format import written_ratio, written_seconds
from bncli.store.folder import Store
from bncli.timing.baseline import Baseline, Machine, baseline_from_json, check_comparable
from bncli.timing.cases import Case
from bncli.timing.claims import judge_claims
from bncli.timing.gate import collect_readings, judge
from bncli.timing.process.client import start_worker
from bncli.timing.process.protocol import describe_case
from bncli.timing.results import BenchRecord, CaseResult, GateResult, ProcessReadings
from bncli.timing.run import Inspection, build_rows, inspect_cases, time_pairs, time_rounds
from bncli.timing.subjects import Effort
from bncli.timing.system import (
    SystemMetrics,
    describe_changes,
    describe_disturbances,
    read_cache_size,
    read_governor,
    read_load,
    read_metrics,
    watch,
)

# Processes a case: starting one takes two seconds and making its argument sets another, so that more cost time and
# fewer width of interval.
_TABLE, _LEAST, _GATE, _SAVED = 3, 2, 5, 20
_AGAIN = 10  # for what a gate suspects, and as many for what it leaves undecided


@dataclass
class _Session:
    """What one command measures with, and what it has measured so far."""

    cases: Sequence[Case]
    device: str
    budget: float  # seconds
    effort: Effort
    gate: GateAsked
    claims: bool  # are judged afterwards
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    inspections: list[Inspection] = field(default_factory=list)
    results: list[CaseResult] = field(default_factory=list)
    again: list[CaseResult] = field(default_factory=list)  # of a gate's further looks
    readings: list[SystemMetrics] = field(default_factory=list)  # before the first of them, and after each

    @property
    def processes(self) -> int:
        """Of each case; a gate against itself has two sides."""
        if self.gate.with_ == "itself":
            return _SAVED + _GATE
        least = _TABLE if self.gate.with_ == "nothing" and not self.claims else _GATE
        return _SAVED if self.gate.save else least

    @property
    def least(self) -> int:
        """Processes of each case without which nothing is said; a table makes do with fewer where time is short."""
        return _LEAST if self.processes == _TABLE else self.processes


def measured(
    name: str, bench: Bench, cases: Sequence[Case], device: str, budget: float, gate: GateAsked,
    claims: Sequence[KernelClaim], effort: Effort,
) -> tuple[BenchRecord, BncliError | None]:  # fmt: skip
    """Measure the cases on cpu or cuda, judge them and what is claimed of them.

    Cut short, by Ctrl-C or by the error that comes beside, give what has been measured.

    Raises:
        BncliError: for a kernel that cannot be had or run, before anything is measured.
        UndecidedError: for a baseline that is missing, incomplete or of another machine.
    """
    session = _Session(cases, device, budget, replace(effort, cache_byte=read_cache_size(device)), gate, bool(claims))
    started_at, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    machine = Machine.of(environment(device), device_count("cpu"), warm=effort.warm, graph=effort.graph)
    before = _baseline(session, machine)
    verdict: GateResult | None = None
    disturbed, cut, error = list[str](), True, None
    try:
        busy, stolen = watch()
        disturbed += describe_disturbances(device_count("cpu"), busy, read_load(), stolen, read_governor())
        verdict = _measure(session, before)
        cut = False
        if gate.save:
            _save(gate, verdict, Baseline(started_at, machine, collect_readings(session.results)))
    except KeyboardInterrupt:
        count = len(session.results) + len(session.again)
        unsaved = ", no baseline is saved" if gate.save else ""
        print(f"interrupted after {count} measurements{unsaved}", file=sys.stderr)
    except BncliError as found:
        if not session.results:
            raise
        error = found
    rows = build_rows(session.inspections, session.results)
    processes = max((len(row.results) for row in rows), default=0)
    changed = tuple(describe_changes(session.readings, "GPU" if device == "cuda" else "processor"))
    return BenchRecord(
        name, bench.question, rows, len(cases), effort.warm, processes, environment(device), started_at,
        time.monotonic() - begin, (*disturbed, *changed), verdict, not cut, effort.graph,
        () if cut else tuple(judge_claims(claims, rows)),
        tuple(reading.hertz for reading in session.readings if reading.hertz), tuple(session.again),
    ), error  # fmt: skip


def _save(gate: GateAsked, verdict: GateResult | None, made: Baseline) -> None:
    if verdict and verdict.verdict == "regression":
        print("no baseline is saved: the gate found a regression; to accept it, save without a gate", file=sys.stderr)
        return
    print(f"baseline saved in {Store(gate.store).write_baseline(gate.save, made.to_json())}", file=sys.stderr)


def _measure(session: _Session, before: ProcessReadings | None) -> GateResult | None:
    session.inspections.extend(inspect_cases(session.cases))
    session.readings.append(read_metrics(session.device))
    with _progress(session.processes * len(session.cases)) as tell:
        for result in _take(session, session.cases, session.processes, session.budget, session.least):
            session.results.append(result)
            tell(result)
    return _judged(session, before, lambda names: collect_readings(_again(session, names)))


def _judged(
    session: _Session, before: ProcessReadings | None, again: Callable[[Sequence[str]], ProcessReadings]
) -> GateResult | None:
    results, rules = session.results, session.gate.rules
    if session.gate.with_ == "nothing":
        return None
    if session.gate.with_ == "itself":
        size, every = len(session.cases), session.processes // _GATE  # every fifth round, of 20 + 5
        middle = [place // size % every == every // 2 for place in range(len(results))]
        now, others = (
            [r for r, is_now in zip(results, middle, strict=True) if is_now == side] for side in (True, False)
        )
        return judge(rules, collect_readings(others), collect_readings(now), again)
    return judge(rules, before, collect_readings(results), again)


def _take(session: _Session, cases: Sequence[Case], processes: int, budget: float, least: int) -> Iterator[CaseResult]:
    """Measure, and read after each measurement what the system says of itself."""
    here = partial(start_worker, session.device)
    if session.gate.with_ != "other":
        found = time_rounds(here, cases, session.effort, processes, least, budget, session.chance)
    else:
        there, jobs = partial(start_worker, session.device, session.gate.other), [describe_case(case) for case in cases]
        effort = replace(session.effort, seconds=budget / processes / len(cases))
        found = time_pairs(here, there, jobs, effort, processes, session.chance)
    for result in found:
        session.readings.append(read_metrics(session.device))
        yield result


def _again(session: _Session, names: Sequence[str]) -> Iterator[CaseResult]:
    """The cases named, in new processes, each for as long as before."""
    print(f"measuring again: {', '.join(names)}", file=sys.stderr, flush=True)
    cases = [case for case in session.cases if case.name in names]
    count = _SAVED if session.gate.save else _AGAIN
    budget = session.budget * count / session.processes * len(cases) / len(session.cases)
    for result in _take(session, cases, count, budget, count):
        session.again.append(result)
        yield result


def _baseline(session: _Session, machine: Machine) -> ProcessReadings | None:
    """The baseline's ratios, if one is asked for; refused before anything is measured in vain."""
    gate = session.gate
    if gate.with_ != "baseline":
        return None
    store = Store(gate.store)
    found = baseline_from_json(str(store.baseline(gate.baseline)), store.read_baseline(gate.baseline))
    if not gate.any_machine:
        check_comparable(found, machine)
    missing = [case.name for case in session.cases if case.name not in found.readings]
    if missing:
        raise UndecidedError(
            f"{store.baseline(gate.baseline)}: has no {missing[0]} ({len(missing)} of {len(session.cases)} cases are"
            f" missing); make it anew with --save-baseline {gate.baseline}"
        )
    return found.readings


def _progress(total: int) -> AbstractContextManager[Callable[[CaseResult], None]]:
    animated = sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
    return _bar(total) if animated else _lines(total)


@contextmanager
def _lines(total: int) -> Iterator[Callable[[CaseResult], None]]:
    """A line a measurement."""
    done = 0

    def tell(result: CaseResult) -> None:
        nonlocal done
        done += 1
        rival, ratio = next(iter(result.ratios.items()))
        said = f"{written_seconds(result.seconds['case'].value)}, {written_ratio(ratio.value)} of {rival}"
        print(f"[{done}/{total}] {result.name}: {said}", file=sys.stderr, flush=True)

    yield tell


@contextmanager
def _bar(total: int) -> Iterator[Callable[[CaseResult], None]]:
    """A bar on a terminal, drawn between measurements only, so that it costs none of their time."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task(f"{total} measurements", total=total)
        bar.refresh()
        yield lambda result: bar.update(task, advance=1, description=result.name, refresh=True)
