"""One command's measurement: cases through measuring processes with progress on stderr, then the gate."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from bncli.bench.against import against, check_differs
from bncli.bench.baseline import Baseline, Machine, baseline_from_json, check_comparable
from bncli.bench.cases import Case
from bncli.bench.gate import GateResult, Ratios, judge, ratios_of
from bncli.bench.jobs import job_of
from bncli.bench.remote import Worker, started
from bncli.bench.results import CaseResult
from bncli.bench.rows import BenchRecord
from bncli.bench.run import Looked, look, rounds, rows_of
from bncli.bench.timed import Effort
from bncli.cli.bench_gate import GateAsked
from bncli.config import Bench
from bncli.engine.environment import device_count, environment, resolve_device
from bncli.errors import ConfigError, UndecidedError
from bncli.notation import written_ratio, written_seconds
from bncli.store import Store

# Processes a case: making the argument sets of one takes a second, so that more cost time and fewer width of interval.
_TABLE, _LEAST, _GATE, _SAVED = 3, 2, 5, 10
_AGAIN = 10  # for what a gate suspects


@dataclass
class _Session:
    """What one command measures with, and what it has measured so far."""

    cases: Sequence[Case]
    device: str
    budget: float  # seconds
    effort: Effort
    gate: GateAsked
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    looked: list[Looked] = field(default_factory=list)
    results: list[CaseResult] = field(default_factory=list)

    @property
    def processes(self) -> int:
        """Of each case; a gate against itself has two sides."""
        if self.gate.with_ == "nothing":
            return _SAVED if self.gate.save else _TABLE
        return _GATE * (2 if self.gate.with_ == "itself" else 1)

    @property
    def least(self) -> int:
        """Processes of each case without which nothing is said; a table makes do with fewer where time is short."""
        return _LEAST if self.processes == _TABLE else self.processes


def measured(
    name: str, bench: Bench, cases: Sequence[Case], device: str, budget: float, gate: GateAsked, *, warm: bool
) -> BenchRecord:
    """Measure the cases and judge them; interrupted, give what has been measured, without a judgement.

    Raises:
        BncliError: for a device that is not there, or a kernel that cannot be had or run.
        UndecidedError: for a baseline that is missing, incomplete or of another machine.
    """
    where = _device(device)
    session = _Session([replace(c, device=where) for c in cases], where, budget, Effort(warm=warm), gate)
    started_at, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    machine = Machine.of(environment(where), device_count("cpu"), warm=warm)
    before = _baseline(session, machine)
    verdict: GateResult | None = None
    try:
        verdict = _measure(session, before)
    except KeyboardInterrupt:
        print(f"interrupted after {len(session.results)} measurements", file=sys.stderr)
    rows = rows_of(session.looked, session.results)
    whole = len(session.results) >= session.least * len(cases)
    if gate.save and whole:
        made = Baseline(started_at, machine, ratios_of(session.results)).to_json()
        print(f"baseline saved in {Store(gate.store).write_baseline(gate.save, made)}", file=sys.stderr)
    processes = max((len(row.results) for row in rows), default=0)
    return BenchRecord(
        name, bench.question, rows, len(cases), warm, processes, environment(where), started_at,
        time.monotonic() - begin, (), verdict, whole,
    )  # fmt: skip


def _measure(session: _Session, before: Ratios | None) -> GateResult | None:
    session.looked.extend(look(session.cases))
    with _workers(session) as (here, there):
        with _progress(session.processes * len(session.cases)) as tell:
            for result in _take(session, here, there, session.cases, session.processes, session.budget):
                session.results.append(result)
                tell(result)
        return _judged(session, before, lambda names: ratios_of(_again(session, here, there, names)))


def _judged(session: _Session, before: Ratios | None, again: Callable[[Sequence[str]], Ratios]) -> GateResult | None:
    results, rules = session.results, session.gate.rules
    if session.gate.with_ == "nothing":
        return None
    if session.gate.with_ == "itself":
        size = len(session.cases)
        even, odd = (
            [r for place, r in enumerate(results) if place // size % 2 == side] for side in (0, 1)
        )  # every other round
        return judge(rules, ratios_of(even), ratios_of(odd), again)
    return judge(rules, before, ratios_of(results), again)


def _take(
    session: _Session, here: Worker, there: Worker | None, cases: Sequence[Case], processes: int, budget: float
) -> Iterator[CaseResult]:
    if there is None:
        least = min(session.least, processes)
        return rounds(here, cases, session.effort, processes, least, budget, session.chance)
    effort = replace(session.effort, seconds=budget / processes / len(cases))
    return against(here, there, [job_of(case) for case in cases], effort, processes, session.chance)


def _again(session: _Session, here: Worker, there: Worker | None, names: Sequence[str]) -> Iterable[CaseResult]:
    """The cases named, in new processes, each for as long as before."""
    print(f"measuring again: {', '.join(names)}", file=sys.stderr, flush=True)
    cases = [case for case in session.cases if case.name in names]
    budget = session.budget * _AGAIN / session.processes * len(cases) / len(session.cases)
    return _take(session, here, there, cases, _AGAIN, budget)


@contextmanager
def _workers(session: _Session) -> Iterator[tuple[Worker, Worker | None]]:
    with ExitStack() as running:
        with _interrupts_held():
            here = running.enter_context(started(session.device))
            there = running.enter_context(started(session.device, session.gate.other)) if session.gate.other else None
        if there:
            check_differs(here, there)
        yield here, there


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits; processes started meanwhile never see it, and end when they are told to."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _baseline(session: _Session, machine: Machine) -> Ratios | None:
    """The baseline's ratios, if one is asked for; refused before anything is measured in vain."""
    gate = session.gate
    if gate.with_ != "baseline":
        return None
    store = Store(gate.store)
    found = baseline_from_json(str(store.baseline(gate.baseline)), store.read_baseline(gate.baseline))
    if not gate.any_machine:
        check_comparable(found, machine)
    missing = [case.name for case in session.cases if case.name not in found.ratios]
    if missing:
        raise UndecidedError(
            f"{store.baseline(gate.baseline)}: has no {missing[0]} ({len(missing)} of {len(session.cases)} cases are"
            f" missing); make it anew with --save-baseline {gate.baseline}"
        )
    return found.ratios


def _device(wanted: str) -> str:
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: must be auto, cpu or cuda, got {wanted!r}")
    found = resolve_device(wanted)
    return found if found == "cuda" else "cpu"


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
        yardstick, ratio = next(iter(result.ratios.items()))
        said = f"{written_seconds(result.seconds['case'].value)}, {written_ratio(ratio.value)} of {yardstick}"
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
