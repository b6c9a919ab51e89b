"""Runs on a terminal: how each ended, its last numbers, its accuracy curve in a word."""

import math
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from bncli.format import written, written_option
from bncli.records import RunResult, StudyRun
from bncli.report.layout import Column, say, stacked, table, width, wrapped

_BLOCKS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 16  # characters
_STYLES = {"done": "", "diverged": "red", "failed": "bold red", "timed out": "bold red", "missing": "yellow"}


def show_runs(rows: Sequence[StudyRun], console: Console) -> None:
    """Print one line a run; without curves, then as a list, where the console is too narrow."""
    if not rows:
        say(console, "no runs")
        return
    for line in _lines(rows, console.width):
        say(console, line)
    for note in _reasons(rows):
        say(console, wrapped(note, console.width, "  "), "yellow")


def show_accounting(results: Sequence[RunResult], console: Console) -> None:
    """Print in one sentence where the runs' seconds went, how fast they trained, and what memory they took."""
    kinds = dict.fromkeys(kind for result in results for kind in result.info.seconds)
    total = {kind: sum(result.info.seconds.get(kind, 0.0) for result in results) for kind in kinds}
    parts = [f"{kind} {seconds:.1f} s" for kind, seconds in total.items() if seconds >= 0.05]
    rates = [r.info.samples_per_second for r in results if r.info.samples_per_second]
    if rates:
        low, high = f"{min(rates):,.0f}", f"{max(rates):,.0f}"
        parts.append(f"{low if low == high else f'{low} to {high}'} training examples a second and worker")
    if peak := max((r.info.peak_memory for r in results), default=0):
        parts.append(f"a worker held at most {peak / 1e6:,.0f} MB")
    if parts:
        say(console, wrapped("; ".join(parts), console.width, "  "))


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """At most 16 block characters, evenly chosen from `values`; the height of each lies between `low` and `high`."""
    count = min(len(values), _CURVE_WIDTH)
    chosen = [values[round(i * (len(values) - 1) / max(count - 1, 1))] for i in range(count)]
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in chosen)


def _lines(rows: Sequence[StudyRun], room: int) -> list[Text]:
    columns = build_run_columns(rows)
    if width(columns) <= room:
        return table(columns)
    bare = [column for column in columns if column.title != "accuracy curve"]
    if width(bare) <= room:
        return table(bare)
    return stacked(columns, 1, room)


def build_run_columns(rows: Sequence[StudyRun]) -> list[Column]:
    """What is said of each run."""
    results = [row.result for row in rows]
    columns = [Column("variant", tuple(Text(row.variant) for row in rows))]
    for key in rows[0].setting:
        cells = tuple(Text(written_option(r.setting[key])) if key in r.setting else Text("-") for r in rows)
        columns.append(Column(key.rsplit(".", 1)[-1], cells, right=True))
    columns += [
        Column("seed", tuple(Text(str(row.seed)) for row in rows), right=True),
        Column("status", tuple(map(_status, results))),
        *(_of_task(results) or _of_training(results)),
        Column("seconds", tuple(map(_seconds, results)), right=True),
    ]
    return columns


def _of_training(results: Sequence[RunResult | None]) -> list[Column]:
    return [
        Column("train loss", tuple(_last(r, "train_loss", "nats") for r in results), right=True),
        Column("loss", tuple(_last(r, "loss", "nats") for r in results), right=True),
        Column("accuracy", tuple(_last(r, "accuracy", "fraction") for r in results), right=True),
        Column("accuracy curve", _curves(results)),
    ]


def _of_task(results: Sequence[RunResult | None]) -> list[Column]:
    """The last number of everything that a task has yielded."""
    metrics = dict.fromkeys(metric for r in results if r and "task" in r.spec for metric in r.metrics())
    return [Column(metric, tuple(_last(r, metric, "") for r in results), right=True) for metric in metrics]


def _status(result: RunResult | None) -> Text:
    status = result.info.status if result else "missing"
    place = f" at {result.info.step:,}" if result and status != "done" else ""
    return Text(status + place, style=_STYLES[status])


def _last(result: RunResult | None, metric: str, unit: str) -> Text:
    values = result.curve(metric)[1] if result else []
    return Text(written(values[-1], unit) if values and math.isfinite(values[-1]) else "-")


def _seconds(result: RunResult | None) -> Text:
    return Text(f"{sum(result.info.seconds.values()):.1f}" if result and result.info.seconds else "-")


def _curves(results: Sequence[RunResult | None]) -> tuple[Text, ...]:
    """Sparklines on one scale, so that rows can be compared."""
    curves = [[v for v in r.curve("accuracy")[1] if math.isfinite(v)] if r else [] for r in results]
    every = [value for curve in curves for value in curve]
    low, high = (min(every), max(every)) if every else (0.0, 1.0)
    return tuple(Text(sparkline(curve, low, high)) for curve in curves)


def _reasons(rows: Sequence[StudyRun]) -> Iterator[str]:
    for row in rows:
        if row.result and row.result.info.reason:
            swept = "".join(f", {key} {written_option(value)}" for key, value in row.setting.items())
            yield f"{row.variant}{swept}, seed {row.seed} {row.result.info.status}: {row.result.info.reason}"
