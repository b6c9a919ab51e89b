"""Two reports side by side: a table of what both measured, and what differs in what was asked."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from bncli.findings import Findings, Measure
from bncli.findings.shift import ShiftFindings
from bncli.format import written_arm, written_change, written_ratio, written_seconds, written_summary
from bncli.report.data import ReportData
from bncli.report.figures.shift import layer_names
from bncli.report.layout import Column
from bncli.report.sheet import Sheet
from bncli.timing.results import BenchRecord

# (row, measure) -> text, number, how two are compared
PairCells = dict[tuple[str, str], tuple[str, float | None, Measure | None]]
_MOST_KEYS = 30
_RATIO = Measure("ratio", "ratio", "", "lower", "ratio")


def lay_out_pair(first: ReportData, second: ReportData, names: tuple[str, str] = ("A", "B")) -> Sheet:
    """Rows of both reports by what they measure, with the second against the first."""
    ours, theirs = _measure(first), _measure(second)
    rows = list(dict.fromkeys([*ours, *theirs]))
    nothing = ("-", None, None)
    columns = [
        Column("", tuple(Text(row) for row, _ in rows)),
        Column("measure", tuple(Text(measure) for _, measure in rows)),
        Column("A", tuple(Text(ours.get(row, nothing)[0]) for row in rows), right=True),
        Column("B", tuple(Text(theirs.get(row, nothing)[0]) for row in rows), right=True),
        Column("B against A", tuple(Text(_change(ours.get(row), theirs.get(row))) for row in rows), right=True),
    ]
    setup = tuple(f"{letter}: {name}" for letter, name in zip("AB", names, strict=True))
    notes = ("B against A compares two numbers and has no interval; `bncli compare --baseline` judges a change",)
    return Sheet(
        f"{first.name} and {second.name}" if first.name != second.name else first.name, setup, (),
        (("", columns),) if rows else (), (*_describe_differences(first, second), *notes), (),
    )  # fmt: skip


def _change(ours: Any, theirs: Any) -> str:
    if ours is None or theirs is None or None in (ours[1], theirs[1]):
        return "n/a"
    measure = theirs[2]
    if measure.scale == "ratio":
        return written_change(theirs[1] / ours[1], None, None, measure) if ours[1] > 0 and theirs[1] > 0 else "n/a"
    return written_change(theirs[1] - ours[1], None, None, measure)


def _measure(data: ReportData) -> PairCells:
    found = data.findings
    if isinstance(found, Findings):
        return {
            (written_arm(arm.variant, arm.setting), measure.label): (
                written_summary(summary, measure.unit),
                summary.mean,
                measure,
            )
            for arm in found.arms
            for measure in found.measures
            for summary in arm.summaries
            if summary.measure == measure.name
        }
    if isinstance(found, ShiftFindings):
        return dict(_measure_shift(found))
    return dict(_measure_cases(found)) if isinstance(found, BenchRecord) else {}


def _measure_shift(found: ShiftFindings) -> Iterator[tuple[tuple[str, str], tuple[str, float, Measure]]]:
    names, labels = layer_names(found), {d.name: d for d in found.definitions}
    for arm in found.arms:
        for cell in arm.cells:
            definition = labels[cell.metric]
            how = Measure(definition.name, definition.label, "", "lower", definition.scale)
            where = f"{written_arm(arm.variant, arm.setting)}, {names[cell.layer, cell.place]}"
            yield (where, definition.label), (f"{cell.mean:.3g}", cell.mean, how)


def _measure_cases(found: BenchRecord) -> Iterator[tuple[tuple[str, str], tuple[str, float, Measure]]]:
    for row in found.rows:
        ratio = row.ratios[row.rival]
        time = written_seconds(row.seconds.value, row.seconds.low, row.seconds.high)
        yield (row.case.name, "time"), (time, row.seconds.value, _RATIO)
        written = written_ratio(ratio.value, ratio.low, ratio.high)
        yield (row.case.name, f"time / {row.rival}"), (written, ratio.value, _RATIO)


def _describe_differences(first: ReportData, second: ReportData) -> Iterator[str]:
    """Keys of the configuration with both values."""
    if first.study is None or second.study is None:
        yield "what was asked is not kept with both of them, so that nothing is said of how they differ in that"
        return
    ours, theirs = dict(_flatten(first.study)), dict(_flatten(second.study))
    keys = [key for key in dict.fromkeys([*ours, *theirs]) if ours.get(key) != theirs.get(key)]
    if not keys:
        yield "both ask the same"
    for key in keys[:_MOST_KEYS]:
        yield f"{key}: {ours.get(key, 'not there')} in A, {theirs.get(key, 'not there')} in B"
    if len(keys) > _MOST_KEYS:
        yield f"and {len(keys) - _MOST_KEYS} more keys differ"


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _flatten(each, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value
