"""A bench session: cases through measuring processes, then the gate and the claims; tells events, prints nothing."""

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from bncli.engine.environment import device_count, environment
from bncli.errors import BncliError, UndecidedError
from bncli.limits import BENCH_FACTS, BENCH_MEASURES, Limit
from bncli.session.bench_plan import BenchPlan
from bncli.session.events import BaselineSaved, Measured, Measuring, OnEvent, Warned, ignore
from bncli.session.regression import require_place
from bncli.store.folder import Store
from bncli.timing.baseline import Baseline, Machine, check_comparable, read_baseline
from bncli.timing.cases import Case, choose_names
from bncli.timing.gate import choose_worst, collect_readings, judge, judge_claims, judge_facts
from bncli.timing.process.client import start_worker
from bncli.timing.process.protocol import describe_case
from bncli.timing.results import BenchRecord, CaseFailure, CaseResult, GateResult, KernelShare, ProcessReadings
from bncli.timing.run import Inspection, build_rows, inspect_cases, profile_cases, read_peaks, time_pairs, time_rounds
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
from bncli.timing.workloads import TimerSettings

# Processes a case: starting one takes two seconds and making its argument sets another, so that more cost time and
# fewer width of interval.
_TABLE, _LEAST, _GATE, _SAVED = 3, 2, 5, 20
# Seconds that a process takes to start, that a case takes to be inspected, and to be timed at least: bench-quick on two
# cores that others used as well.
_START_SECONDS, _INSPECT_SECONDS, _LEAST_SECONDS = 2.5, 1.2, 0.8
_AGAIN = 10  # for what a gate suspects, and as many for what it leaves undecided


class BenchInterrupted(KeyboardInterrupt):
    """Ctrl-C while something was measured; `record` is what had been measured by then, of which nothing is judged."""

    def __init__(self, message: str, record: BenchRecord) -> None:
        super().__init__(message)
        self.record = record


class BenchError(BncliError):
    """An error after the first measurement; `record` is what had been measured by then, `error` what came."""

    def __init__(self, error: BncliError, record: BenchRecord) -> None:
        super().__init__(str(error))
        self.error, self.record = error, record


@dataclass
class _Session:
    """What is measured with, and what has been measured so far."""

    plan: BenchPlan
    settings: TimerSettings
    on_event: OnEvent
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    inspections: list[Inspection] = field(default_factory=list)
    results: list[CaseResult] = field(default_factory=list)
    remeasurements: list[CaseResult] = field(default_factory=list)  # of a gate's suspects
    failures: list[CaseFailure] = field(default_factory=list)  # of whatever was done with a case
    metrics: list[SystemMetrics] = field(default_factory=list)  # before the first of them, and after each
    disturbances: list[str] = field(default_factory=list)
    profiles: Mapping[str, Mapping[str, tuple[KernelShare, ...]]] = field(default_factory=dict)  # by case, contender

    @property
    def sound(self) -> list[CaseResult]:
        """What was measured of cases that have not failed: what can be judged."""
        failed = {failure.name for failure in self.failures}
        return [result for result in self.results if result.name not in failed]

    @property
    def processes(self) -> int:
        """Of each case; a gate against itself has two sides."""
        if self.plan.compared == "itself":
            return _SAVED + _GATE
        least = _GATE if self.plan.claims or self.plan.compared != "nothing" else _TABLE
        return _SAVED if self.plan.save_baseline else least

    @property
    def least(self) -> int:
        """Processes of each case without which nothing is said; a table makes do with fewer where time is short."""
        return _LEAST if self.processes == _TABLE else self.processes


def measure_plan(plan: BenchPlan, on_event: OnEvent = ignore) -> BenchRecord:
    """Measure the cases, judge them and what is claimed of them.

    Raises:
        UndecidedError: for a baseline that is missing, of other cases or of another machine; nothing was measured.
        BncliError: for a kernel or a truth that cannot be had. A kernel that fails when it is run is among the record's
            `failures`.
        BenchError: for an error after the first measurement, with what was measured.
        BenchInterrupted: for Ctrl-C, with what was measured.
    """
    settings = TimerSettings(warm=plan.warm, graph=plan.graph, cache_byte=read_cache_size(plan.device))
    session = _Session(plan, settings, on_event)
    started, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    machine = Machine.of(environment(plan.device), device_count("cpu"), warm=plan.warm, graph=plan.graph)
    before = _read_baseline(plan, machine)
    if plan.save_baseline:
        require_place(Store(plan.store), plan.save_baseline)
    gate: GateResult | None = None

    def finish(*, complete: bool) -> BenchRecord:
        return _build_record(session, gate, started, time.monotonic() - begin, complete=complete)

    complete = False
    try:
        _measure(session)
        gate = _judge(session, before)
        complete = True
        if plan.profile:
            _profile(session)
        if plan.save_baseline:
            peaks = {i.case.name: i.facts.peak_byte for i in session.inspections if i.facts.peak_byte is not None}
            _save_baseline(session, gate, Baseline(started, machine, collect_readings(session.sound), peaks))
    except KeyboardInterrupt:
        count = len(session.results) + len(session.remeasurements)
        unsaved = ", no baseline is saved" if plan.save_baseline else ""
        when = f"after {count} measurements" if count else "before the first measurement"
        raise BenchInterrupted(f"interrupted {when}{unsaved}", finish(complete=False)) from None
    except BncliError as error:
        if not session.results:
            raise
        raise BenchError(error, finish(complete=complete)) from error
    return finish(complete=True)


def _build_record(
    session: _Session, gate: GateResult | None, started: str, seconds: float, *, complete: bool
) -> BenchRecord:
    plan, rows = session.plan, build_rows(session.inspections, session.results, session.profiles)
    failed = {failure.name for failure in session.failures}
    claimable = [row for row in rows if row.case.name not in failed and row.facts.correctness.verdict != "wrong"]
    changes = describe_changes(session.metrics, "GPU" if plan.device == "cuda" else "processor")
    return BenchRecord(
        name=plan.name,
        question=plan.question,
        rows=rows,
        cases=len(plan.cases),
        warm=plan.warm,
        processes=max((len(row.results) for row in rows), default=0),
        environment=environment(plan.device),
        started=started,
        seconds=seconds,
        warnings=(*session.disturbances, *changes),
        gate=gate,
        complete=complete,
        graph=plan.graph,
        claims=tuple(judge_claims(plan.claims, claimable)) if complete else (),
        clock_hertz=tuple(each.hertz for each in session.metrics if each.hertz),
        remeasurements=tuple(session.remeasurements),
        failures=tuple(session.failures),
    )


def _read_baseline(plan: BenchPlan, machine: Machine) -> Baseline | None:
    """The baseline, if one is asked for; refused before anything is measured in vain."""
    if plan.compared != "baseline":
        return None
    store = Store(plan.store)
    place = store.baseline(plan.baseline)
    found = read_baseline(str(place), store.read_baseline(plan.baseline))
    if not plan.allow_other_machine:
        check_comparable(found, machine)
    if not any(case.name in found.readings for case in plan.cases):
        raise UndecidedError(
            f"{place}: has none of these {len(plan.cases)} cases, such as {plan.cases[0].name}; make it anew with"
            f" --save-baseline {plan.baseline}"
        )
    return found


def _save_baseline(session: _Session, gate: GateResult | None, made: Baseline) -> None:
    wrong = [each.case.name for each in session.inspections if each.facts.correctness.verdict == "wrong"]
    why = ""
    if gate and gate.verdict == "regression":
        why = "the gate found a regression; to accept it, save without a gate"
    elif failed := [*(failure.name for failure in session.failures), *wrong]:
        why = f"{failed[0]} is wrong or failed; mend it, or leave it out by --skip"
    if why:
        session.on_event(Warned(f"no baseline is saved: {why}"))
        return
    place = Store(session.plan.store).write_baseline(session.plan.save_baseline, made.to_json())
    session.on_event(BaselineSaved(str(place)))


def _measure(session: _Session) -> None:
    """Every case of the plan: inspected, then timed, in processes of their own."""
    plan = session.plan
    busy, steal_time = watch()
    session.disturbances += describe_disturbances(device_count("cpu"), busy, read_load(), steal_time, read_governor())
    start = partial(start_worker, plan.device, time_limit=plan.time_limit)
    cases_by_name = {case.name: case for each in plan.cases for case in (each.rival, each) if case}
    kernels_first = sorted(cases_by_name.values(), key=lambda case: not case.is_kernel)  # mistakes are answered at once
    known = dict[str, Inspection | CaseFailure]()
    for number, found in enumerate(inspect_cases(start, kernels_first, plan.truth, plan.flags)):
        if number == 0:
            session.on_event(Warned(_describe_duration(session)))
        if isinstance(found, CaseFailure):
            _note_failure(session, found)
        known[found.case.name if isinstance(found, Inspection) else found.name] = found
    for case in plan.cases:
        _note_inspection(session, case, known)
    session.metrics.append(read_metrics(plan.device))
    cases = tuple(each.case.name for each in session.inspections)
    if cases:
        session.on_event(Measuring(session.processes * len(cases), cases))
        _time(session, cases, session.processes, plan.budget, session.least, session.results)


def _note_inspection(session: _Session, case: Case, known: Mapping[str, Inspection | CaseFailure]) -> None:
    """Beside its rival; what has a rival that failed cannot be timed against it."""
    found, rival = known[case.name], known[case.rival.name] if case.rival else None
    if isinstance(found, CaseFailure):
        return
    if isinstance(rival, CaseFailure):
        _note_failure(session, CaseFailure(case.name, rival.status, f"its rival, {rival.name}: {rival.reason}"))
        return
    session.inspections.append(replace(found, case=case, rival=rival.facts if rival else None))


def _describe_duration(session: _Session) -> str:
    """How long all of it will take, but for what a gate measures again."""
    plan, processes = session.plan, session.processes
    starts, cases = processes * (2 if plan.compared == "other" else 1), len(plan.cases)
    looks = 1 + plan.profile  # at each case, beside timing it
    looking = looks * (_START_SECONDS + cases * _INSPECT_SECONDS)
    seconds = starts * _START_SECONDS + looking + max(plan.budget, _LEAST_SECONDS * cases * processes)
    duration = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"
    return (
        f"{cases} {'case' if cases == 1 else 'cases'}, each checked and then timed in {processes} processes: about"
        f" {duration}, longer on a busy machine"
    )


def _note_failure(session: _Session, failure: CaseFailure) -> None:
    session.failures.append(failure)
    session.on_event(Warned(f"{failure.name}: {failure.status}: {failure.reason}"))


def _judge(session: _Session, baseline: Baseline | None) -> GateResult | None:
    """Times, then memory and errors; None where no limit was asked for."""
    timed = {result.name for result in session.sound}
    if not session.plan.limits or not timed:
        return None
    limits = session.plan.limits_on(BENCH_MEASURES, timed)
    gate = _judge_times(session, limits, baseline.readings if baseline else None)
    of_facts = session.plan.limits_on(BENCH_FACTS, timed)
    if of_facts:
        peaks = _list_peaks(session, baseline) if any(limit.measure == "peak" for limit in of_facts) else {}
        facts = {each.case.name: each.facts for each in session.inspections if each.case.name in timed}
        found = tuple(judge_facts(of_facts, facts, peaks))
        verdict = choose_worst([gate.verdict, *(each.verdict for each in found)])
        gate = replace(gate, verdict=verdict, judgements=(*gate.judgements, *found))
    return gate


def _list_peaks(session: _Session, baseline: Baseline | None) -> Mapping[str, int]:
    """Bytes by case of what they are compared with, where known."""
    plan = session.plan
    if baseline:
        return baseline.peaks
    if plan.compared == "rival":
        found = [(each.case, each.rival.peak_byte) for each in session.inspections if each.rival]
    else:
        there = partial(start_worker, plan.device, plan.other, time_limit=plan.time_limit)
        found = list(read_peaks(there, [each.case for each in session.inspections]))
    return {case.name: peak for case, peak in found if peak is not None}


def _judge_times(session: _Session, limits: Sequence[Limit], before: ProcessReadings | None) -> GateResult:
    results, remeasure, rivals = session.sound, partial(_remeasure, session), session.plan.rivals
    if session.plan.compared == "itself":
        size, every = len({result.name for result in results}), session.processes // _GATE  # every fifth of 20 + 5
        middle = [place // size % every == every // 2 for place in range(len(results))]
        now, others = (
            [r for r, is_now in zip(results, middle, strict=True) if is_now == side] for side in (True, False)
        )
        return judge(limits, collect_readings(others), collect_readings(now), remeasure, rivals)
    gate = judge(limits, before, collect_readings(results), remeasure, rivals)
    known = {case.name for case in session.plan.cases}
    lost = [name for name in before or () if name not in known]
    gone = choose_names(lost, session.plan.only, session.plan.skip)
    unchecked = tuple(dict.fromkeys(name for each in session.inspections for name in each.list_unchecked()))
    verdict = "undecided" if (gone or unchecked) and gate.verdict == "holds" else gate.verdict
    return replace(
        gate, verdict=verdict, unchecked=unchecked, gone=gone, left_out=tuple(name for name in lost if name not in gone)
    )


def _profile(session: _Session) -> None:
    """Name the kernels of what was timed, in processes of their own: a profiler slows all that comes after it."""
    plan, timed = session.plan, {result.name for result in session.sound}
    cases = [case for case in plan.cases if case.name in timed]
    session.on_event(Warned(f"naming the kernels that run in {len(cases)} case{'s' * (len(cases) != 1)}"))
    start = partial(start_worker, plan.device, time_limit=plan.time_limit)
    other = partial(start, plan.other) if plan.compared == "other" else None
    session.profiles, failures = profile_cases(start, cases, session.settings, other)
    for failure in failures[:1]:
        count = f"{len(failures)} case{' was' if len(failures) == 1 else 's were'}"
        session.disturbances.append(f"{count} not profiled, the first: {failure.name}: {failure.reason}")


def _remeasure(session: _Session, names: Sequence[str]) -> ProcessReadings:
    """The cases named, in new processes, each for as long as before."""
    plan = session.plan
    count = _SAVED if plan.save_baseline else _AGAIN
    budget = plan.budget * count / session.processes * len(names) / len(plan.cases)
    session.on_event(Measuring(count * len(names), tuple(names), remeasurement=True))
    known = len(session.remeasurements)
    _time(session, names, count, budget, count, session.remeasurements)
    return collect_readings(session.remeasurements[known:])


def _time(
    session: _Session, names: Sequence[str], processes: int, budget: float, least: int, into: list[CaseResult]
) -> None:
    """Time the cases named, and read after each measurement what the system says of itself."""
    plan, start = session.plan, partial(start_worker, session.plan.device, time_limit=session.plan.time_limit)
    cases = [case for case in plan.cases if case.name in names]
    if plan.compared != "other":
        found = time_rounds(start, cases, session.settings, processes, least, budget, session.chance)
    else:
        there, told = partial(start, plan.other), [describe_case(case) for case in cases]
        settings = replace(session.settings, seconds=budget / processes / len(cases))
        found = time_pairs(start, there, told, settings, processes, session.chance)
    with closing(found):  # whoever raises, the measuring process ends now
        for done, result in enumerate(found, 1):
            if isinstance(result, CaseFailure):
                _note_failure(session, result)
                continue
            session.metrics.append(read_metrics(plan.device))
            into.append(result)
            session.on_event(Measured(done, processes * len(cases), result))
