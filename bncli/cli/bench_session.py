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
from functools import partial

from bncli.bench.against import against
from bncli.bench.baseline import Baseline, Machine, baseline_from_json, check_comparable
from bncli.bench.cases import Case
from bncli.bench.claims import judged
from bncli.bench.gate import GateResult, Readings, judge, readings_of
from bncli.bench.jobs import job_of
from bncli.bench.remote import Worker, started
from bncli.bench.results import CaseResult
from bncli.bench.rows import BenchRecord
from bncli.bench.run import Looked, look, rounds, rows_of
from bncli.bench.timed import Effort
from bncli.bench.vitals import Vitals, changes, disturbances, governor, load, vitals, watch
from bncli.cli.bench_gate import GateAsked
from bncli.config import Bench, KernelClaim
from bncli.engine.environment import device_count, environment, resolve_device
from bncli.errors import ConfigError, UndecidedError
from bncli.notation import written_ratio, written_seconds
from bncli.store import Store

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
    looked: list[Looked] = field(default_factory=list)
    results: list[CaseResult] = field(default_factory=list)
    readings: list[Vitals] = field(default_factory=list)  # before the first of them, and after each

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
) -> BenchRecord:  # fmt: skip
    """Measure the cases, judge them and what is claimed of them; interrupted, give what has been measured.

    Raises:
        BncliError: for a device that is not there, or a kernel that cannot be had or run.
        UndecidedError: for a baseline that is missing, incomplete or of another machine.
    """
    where = _device(device, effort)
    session = _Session([replace(c, device=where) for c in cases], where, budget, effort, gate, bool(claims))
    started_at, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    machine = Machine.of(environment(where), device_count("cpu"), warm=effort.warm, graph=effort.graph)
    before = _baseline(session, machine)
    verdict: GateResult | None = None
    disturbed, interrupted = list[str](), False
    try:
        busy, stolen = watch()
        disturbed += disturbances(device_count("cpu"), busy, load(), stolen, governor())
        verdict = _measure(session, before)
    except KeyboardInterrupt:
        interrupted = True
        print(f"interrupted after {len(session.results)} measurements", file=sys.stderr)
    rows = rows_of(session.looked, session.results)
    enough = len(session.results) >= session.least * len(cases)
    if gate.save and enough:
        made = Baseline(started_at, machine, readings_of(session.results)).to_json()
        print(f"baseline saved in {Store(gate.store).write_baseline(gate.save, made)}", file=sys.stderr)
    processes = max((len(row.results) for row in rows), default=0)
    changed = tuple(changes(session.readings, "GPU" if where == "cuda" else "processor"))
    return BenchRecord(
        name, bench.question, rows, len(cases), effort.warm, processes, environment(where), started_at,
        time.monotonic() - begin, (*disturbed, *changed), verdict, not interrupted, effort.graph,
        () if interrupted else tuple(judged(claims, rows)),
        tuple(reading.hertz for reading in session.readings if reading.hertz),
    )  # fmt: skip


def _measure(session: _Session, before: Readings | None) -> GateResult | None:
    session.looked.extend(look(session.cases))
    session.readings.append(vitals(session.device))
    with _progress(session.processes * len(session.cases)) as tell:
        for result in _take(session, session.cases, session.processes, session.budget, session.least):
            session.results.append(result)
            tell(result)
    return _judged(session, before, lambda names: readings_of(_again(session, names)))


def _judged(
    session: _Session, before: Readings | None, again: Callable[[Sequence[str]], Readings]
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
        return judge(rules, readings_of(others), readings_of(now), again)
    return judge(rules, before, readings_of(results), again)


def _take(session: _Session, cases: Sequence[Case], processes: int, budget: float, least: int) -> Iterator[CaseResult]:
    """Measure, and read after each measurement what the system says of itself."""
    here = partial(_started, session.device)
    if session.gate.with_ != "other":
        found = rounds(here, cases, session.effort, processes, least, budget, session.chance)
    else:
        there, jobs = partial(_started, session.device, session.gate.other), [job_of(case) for case in cases]
        effort = replace(session.effort, seconds=budget / processes / len(cases))
        found = against(here, there, jobs, effort, processes, session.chance)
    for result in found:
        session.readings.append(vitals(session.device))
        yield result


def _again(session: _Session, names: Sequence[str]) -> Iterable[CaseResult]:
    """The cases named, in new processes, each for as long as before."""
    print(f"measuring again: {', '.join(names)}", file=sys.stderr, flush=True)
    cases = [case for case in session.cases if case.name in names]
    budget = session.budget * _AGAIN / session.processes * len(cases) / len(session.cases)
    return _take(session, cases, _AGAIN, budget, _AGAIN)


@contextmanager
def _started(device: str, command: Sequence[str] = ()) -> Iterator[Worker]:
    """A measuring process that never sees Ctrl-C, and ends when it is told to."""
    with ExitStack() as running:
        with _interrupts_held():
            worker = running.enter_context(started(device, command))
        yield worker


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits, and processes started meanwhile never see it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _baseline(session: _Session, machine: Machine) -> Readings | None:
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


def _device(wanted: str, effort: Effort) -> str:
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: must be auto, cpu or cuda, got {wanted!r}")
    found = "cuda" if resolve_device(wanted) == "cuda" else "cpu"
    if effort.graph and found == "cpu":
        raise ConfigError("--graph: replays CUDA graphs, and this measures on the cpu")
    return found


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
