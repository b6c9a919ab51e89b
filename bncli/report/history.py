"""A history on a terminal and as a figure: how each case or arm has developed, and the commits at which it stepped."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import groupby
from typing import Any

from rich.text import Text

from bncli.findings.history import CaseTrend, HistoryPoint, Step
from bncli.format import written_estimate
from bncli.report.layout import Column
from bncli.report.sheet import Sheet
from bncli.report.study.runs import sparkline

_WORDS: dict[Step, str] = {
    "worse": "stepped to the worse", "better": "stepped to the better",
    "suspected": "may have stepped; the next run will tell",
}  # fmt: skip
_STYLES: dict[Step, str] = {"worse": "bold red", "better": "bold green", "suspected": "yellow", "": ""}


def lay_out_history(name: str, trends: Sequence[CaseTrend], problems: Sequence[str] = ()) -> Sheet:
    """One table for each preset and kind of machine; the runs at which something stepped, newest first."""
    tables = []
    for (preset, machine), members in groupby(trends, _series):
        tables.append((f"{preset} on {machine}", _build_columns(list(members))))
    stepped = [(point, trend) for trend in trends for point in trend.points if point.step]
    steps = [
        f"{_describe_run(point)}: {trend.what}, {trend.measure} {_WORDS[point.step]}: {_write(trend, point)}"
        for point, trend in sorted(stepped, key=lambda pair: pair[0].time, reverse=True)
    ]
    sentences = tuple(steps) or ("nothing has stepped",)
    notes = (
        "a step is what the gate's own test says of a run against those since the last step; what it says of a"
        " kernel, the run after it must confirm",
        "the curve is from the first run to the last, the newest to the right; [ ] is a 95 % interval",
    )
    return Sheet(f"history {name}", (), sentences, tuple(tables), notes, tuple(problems), figures=list_figures(trends))


def list_rows(trends: Sequence[CaseTrend]) -> list[dict[str, Any]]:
    """A row a run and case or arm, of one preset on one kind of machine: what is drawn."""
    numbers = {time: number for number, time in enumerate(sorted({p.time for t in trends for p in t.points}), 1)}
    return [
        {
            "run": numbers[point.time], "commit": point.commit, "time": point.time,
            "case": f"{trend.what}, {trend.measure}", "value": point.value, "low": point.low, "high": point.high,
            "stepped": point.step in ("worse", "better"),
        }
        for trend in trends
        for point in trend.points
        if point.value is not None
    ]  # fmt: skip


def list_figures(trends: Sequence[CaseTrend]) -> tuple[Any, ...]:
    """A figure for each preset and kind of machine, where figures know of histories."""
    draw = getattr(import_module("bncli.report.figures"), "history_figure", None)
    if draw is None:
        return ()
    groups = [list(members) for _, members in groupby(trends, _series)]
    figures = [draw(rows) for members in groups if (rows := list_rows(members))]
    return tuple(replace(f, name=f"{f.name}-{n}") if len(figures) > 1 else f for n, f in enumerate(figures, 1))


def _series(trend: CaseTrend) -> tuple[str, str]:
    return trend.name, trend.machine


def _build_columns(trends: Sequence[CaseTrend]) -> list[Column]:
    last = [trend.points[-1] for trend in trends]
    return [
        Column("", tuple(Text(trend.what) for trend in trends)),
        Column("measure", tuple(Text(trend.measure) for trend in trends)),
        Column("runs", tuple(Text(str(len(trend.points))) for trend in trends), right=True),
        Column("trend", tuple(Text(_curve(trend)) for trend in trends)),
        Column("newest", tuple(Text(_write(t, p)) for t, p in zip(trends, last, strict=True)), right=True),
        Column("steps", tuple(Text(*_count(trend)) for trend in trends)),
    ]


def _curve(trend: CaseTrend) -> str:
    """Between the ends of all intervals, so that what is noise looks like noise."""
    values = [point.value for point in trend.points if point.value is not None]
    ends = [*values, *(end for p in trend.points for end in (p.low, p.high) if end is not None)]
    return sparkline(values, min(ends), max(ends)) if values else ""


def _write(trend: CaseTrend, point: HistoryPoint) -> str:
    if point.value is None:
        return "n/a"
    known = point.low is not None or point.high is not None
    if not trend.is_ratio and not known:
        return f"{point.value:.4g}"  # of the reference: no difference
    return written_estimate(point.value, point.low, point.high, ratio=trend.is_ratio)


def _count(trend: CaseTrend) -> tuple[str, str]:
    found: Iterator[HistoryPoint] = (point for point in reversed(trend.points) if point.step)
    newest = next(found, None)
    return ("none", "dim") if newest is None else (f"{newest.step} at {_describe_run(newest)}", _STYLES[newest.step])


def _describe_run(point: HistoryPoint) -> str:
    commit = f"{point.commit[:12]}{' with changes' * point.dirty}" if point.commit else "a run without commit"
    return f"{commit} ({point.time.replace('T', ' ')[:16]})"
