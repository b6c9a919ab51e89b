"""A gate's history: a line a run in a file, and where what it says has stepped, by the gate's own tests."""

import json
import math
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from bncli.analysis.regression import judge_move
from bncli.engine.environment import device_count
from bncli.errors import StoreError, as_line
from bncli.files import digest
from bncli.findings import Arm, Findings, Measure, Value
from bncli.findings.history import CaseTrend, HistoryPoint, Step
from bncli.format import written_arm
from bncli.limits import Limit
from bncli.timing.baseline import Machine
from bncli.timing.gate import collect_readings, judge
from bncli.timing.results import BenchRecord, ProcessReading, ProcessReadings

SCHEMA = "bncli/history/1"
TOLERATED = 0.05  # a change of a kernel's ratio that is none, as where --fail-if says nothing else
_POOLED = 5  # runs since the last step that a run is held against
_APART = ("bncli", "machine")  # of an environment, what is no kind of machine
HistoryEntry = Mapping[str, Any]
CaseReadings = Mapping[str, tuple[ProcessReading, ...]]  # by case, one a process


def describe_bench(record: BenchRecord) -> HistoryEntry:
    """The line of one run of `bncli bench`: each case's ratios with their intervals, and what each process said."""
    readings = collect_readings(result for row in record.rows for result in row.results)
    kind = Machine.of(record.environment, device_count("cpu"), warm=record.warm, graph=record.graph)
    rows = [
        {"case": row.case.name, "rival": row.rival, **asdict(row.ratios[row.rival]),
         "readings": readings[row.case.name][row.rival]}
        for row in record.rows if row.verdict != "not comparable"  # wrong results have no speed
    ]  # fmt: skip
    return {**_begin("bench", record.name, record.started, record.environment, asdict(kind)), "rows": rows}


def describe_study(findings: Findings, study: Mapping[str, Any]) -> HistoryEntry:
    """The line of one run of `bncli compare`: each arm's measures against the reference, and the seeds' values."""
    declared = {f"metrics.{metric}": part["margin"] for metric, part in study.get("metrics", {}).items()}
    margins = {**study.get("margins", {}), **declared}
    kind = {key: str(value) for key, value in findings.environment.items() if key not in _APART}
    rows = [
        {
            "arm": written_arm(arm.variant, arm.setting), "measure": asdict(measure),
            "margin": margins.get(measure.margin, 0.0), **_estimate(arm, measure),
            "values": [asdict(value) for s in arm.summaries if s.measure == measure.name for value in s.values],
        }
        for arm in findings.arms
        for measure in findings.measures
    ]  # fmt: skip
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {**_begin("study", findings.name, now, findings.environment, kind), "rows": rows}


def read_history(place: Path) -> tuple[Sequence[HistoryEntry], Sequence[str]]:
    """The lines of a history, oldest first, and what is wrong with those that are left out, a sentence each.

    Raises:
        StoreError: if there is no such file.
    """
    try:
        text = place.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"{place}: cannot be read ({error.strerror}); --history writes one") from None
    found, problems = list[HistoryEntry](), list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_check(json.loads(line, parse_constant=_refuse_constant)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = f"{type(error).__name__}: {error}"
            problems.append(as_line(f"{place}:{number}: no line of a history ({why:.80}); it is left out"))
    return sorted(found, key=lambda entry: str(entry["time"])), problems


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def list_trends(entries: Iterable[HistoryEntry]) -> Iterator[CaseTrend]:
    """How everything has developed, a series for each preset and kind of machine."""
    series: dict[tuple[str, str, str], list[HistoryEntry]] = {}
    for entry in entries:
        series.setdefault((entry["kind"], entry["name"], digest(entry["machine"])), []).append(entry)
    for (kind, _, _), members in series.items():
        yield from _follow_cases(members) if kind == "bench" else _follow_arms(members)


def describe_commit(folder: Path | None = None) -> tuple[str, bool]:
    """The commit that a folder's checkout is at, and whether it has changes beside; none outside of one."""

    def ask(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.strip()

    commit = ask("rev-parse", "HEAD")
    return commit, bool(commit and ask("status", "--porcelain", "--untracked-files=no"))


def _begin(kind: str, name: str, time: str, environment: Mapping[str, Any], machine: Mapping[str, Any]) -> HistoryEntry:
    commit, dirty = describe_commit()
    versions = {key: environment.get(key) for key in ("bncli", "torch")}
    head = {"schema": SCHEMA, "kind": kind, "name": name, "time": time, "commit": commit, "dirty": dirty}
    return {**head, **versions, "machine": machine}


def _estimate(arm: Arm, measure: Measure) -> dict[str, Any]:
    """What is compared with the reference; of the reference its own mean."""
    for c in arm.comparisons:
        if c.measure == measure.name:
            return {"value": c.estimate, "low": c.low, "high": c.high, "reference": c.reference}
    mean = next((s.mean for s in arm.summaries if s.measure == measure.name), None)
    return {"value": mean, "low": None, "high": None, "reference": None}


def _check(entry: Any) -> HistoryEntry:
    if entry["schema"] != SCHEMA:
        raise ValueError(f"schema {entry['schema']!r}")
    datetime.fromisoformat(entry["time"])
    if not isinstance(entry["machine"], Mapping) or entry["kind"] not in ("bench", "study"):
        raise ValueError("it does not say what was measured where")
    for text in (entry["name"], entry["commit"]):
        if not isinstance(text, str):
            raise ValueError("its name or its commit is no text")
    for row in entry["rows"]:
        for number in (row["value"], row["low"], row["high"]):
            if number is not None and type(number) not in (int, float):
                raise ValueError("a value is no number")
        if entry["kind"] == "bench":
            readings = [ProcessReading(float(ratio), float(seconds)) for ratio, seconds in row["readings"]]
            if row["value"] is None or not all(number > 0 for reading in readings for number in reading):
                raise ValueError(f"{row['case']} has a time that is not above 0")
        else:
            Measure(**row["measure"]), [Value(**value) for value in row["values"]], row["arm"], row["margin"]
    whole: HistoryEntry = entry
    return whole


def _machine_line(entry: HistoryEntry) -> str:
    told = entry["machine"]
    keys = ("processor", "device", "torch", "python", "arguments", "launches", "threads")
    return ", ".join(
        f"{key} {told[key]}" if key in ("torch", "python") else str(told[key]) for key in keys if key in told
    )


def _point(entry: HistoryEntry, row: Mapping[str, Any], step: Step) -> HistoryPoint:
    where = (entry["time"], entry["commit"], bool(entry["dirty"]))
    return HistoryPoint(*where, row["value"], row["low"], row["high"], step)


def _follow_cases(entries: Sequence[HistoryEntry]) -> Iterator[CaseTrend]:
    """Cases of `bench`: those that the gate calls slower or faster than the runs since their last step.

    What is suspected of one run is measured again by the runs after it.
    """
    names = list(dict.fromkeys((row["case"], row["rival"]) for entry in entries for row in entry["rows"]))
    for rival in dict.fromkeys(rival for _, rival in names):
        readings = [_readings(entry, rival) for entry in entries]
        steps = _find_steps(readings)
        for case in (case for case, other in names if other == rival):
            points = [
                _point(entry, row, steps.get((case, number), ""))
                for number, entry in enumerate(entries)
                for row in entry["rows"]
                if (row["case"], row["rival"]) == (case, rival)
            ]
            yield CaseTrend(
                entries[0]["name"], _machine_line(entries[0]), case, f"time / {rival}", is_ratio=True,
                points=tuple(points),
            )  # fmt: skip


def _readings(entry: HistoryEntry, rival: str) -> CaseReadings:
    """By case, of those that several processes have timed."""
    return {
        row["case"]: tuple(ProcessReading(*reading) for reading in row["readings"])
        for row in entry["rows"]
        if row["rival"] == rival and len(row["readings"]) > 1
    }


def _find_steps(readings: Sequence[CaseReadings]) -> dict[tuple[str, int], Step]:
    """By case and run; limits are wider where a case's runs differ by more than its processes do."""
    since: dict[str, list[int]] = {}  # by case, the runs since its last step
    found: dict[tuple[str, int], Step] = {}
    limits = _choose_limits(readings)
    for number, now in enumerate(readings):
        before = {
            case: {"native": tuple(r for run in since[case][-_POOLED:] for r in readings[run][case])}
            for case in now
            if since.get(case)
        }
        held = {case: {"native": now[case]} for case in before}
        later = iter(readings[number + 1 :])

        def measure_again(names: Sequence[str], later: Iterator[CaseReadings] = later) -> ProcessReadings:
            following = next(later, {})
            return {case: {"native": following[case]} for case in names if case in following}

        asked = [limits[case] for case in sorted(held, key=len)]  # a pattern holds for longer names too
        gate = judge(asked, before, held, measure_again) if held else None
        following = next((run for run in readings[number + 1 :]), None)
        for judgement in gate.judgements if gate else ():
            case, change = judgement.case, judgement.change.value if judgement.change else 1.0
            if judgement.verdict == "regression":
                found[case, number] = "worse"
            elif following is None and not 1 / (1 + judgement.limit) <= change <= 1 + judgement.limit:
                found[case, number] = "suspected"
            elif judgement.verdict == "better" and following and case in following:
                moved = _level(following[case]) - _level(before[case]["native"])
                if moved < -math.log1p(judgement.limit):
                    found[case, number] = "better"
            if found.get((case, number)) in ("worse", "better"):
                since[case] = []
        for case in now:
            since.setdefault(case, []).append(number)
    return found


def _choose_limits(readings: Sequence[CaseReadings]) -> dict[str, Limit]:
    """By case: TOLERATED, or three times what its runs differ by from one to the next, where that is more.

    The median of these differences: a step is one of them, a drift is in none.
    """
    levels: dict[str, list[float]] = {}
    for run in readings:
        for case, taken in run.items():
            levels.setdefault(case, []).append(_level(taken))
    found = {}
    for case, known in levels.items():
        moves = [abs(b - a) for a, b in pairwise(known)]
        spread = 1.4826 * statistics.median(moves) / math.sqrt(2) if len(moves) > 3 else 0.0
        found[case] = Limit("ratio", max(TOLERATED, math.expm1(3 * spread)), relative=True, pattern=case)
    return found


def _level(taken: Iterable[ProcessReading]) -> float:
    return statistics.fmean(math.log(reading.ratio) for reading in taken)


def _follow_arms(entries: Sequence[HistoryEntry]) -> Iterator[CaseTrend]:
    """Arms of a study: those whose runs differ from the runs of the same seeds at their last step, or at first."""
    names = dict.fromkeys((row["arm"], row["measure"]["name"]) for entry in entries for row in entry["rows"])
    for arm, name in names:
        points, start = list[HistoryPoint](), list[Value]()
        for entry in entries:
            for row in (r for r in entry["rows"] if (r["arm"], r["measure"]["name"]) == (arm, name)):
                measure, last = Measure(**row["measure"]), row
                values = [Value(**value) for value in row["values"]]
                said = judge_move(values, start, measure, row["margin"]) if start else "equivalent"
                step: Step = said if said in ("better", "worse") else ""
                points.append(_point(entry, row, step))
                start = values if step or not start else start
        against = f", against {last['reference']}" if last["reference"] else ""
        ratio = bool(last["reference"]) and measure.scale == "ratio"
        label = f"{measure.label}{against}"
        yield CaseTrend(entries[0]["name"], _machine_line(entries[0]), arm, label, is_ratio=ratio, points=tuple(points))
