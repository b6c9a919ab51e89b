"""What the catalogues say of norms and metrics: listings, cards, pages."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bncli.errors import as_line
from bncli.report.layout import say

WIDTH = 100  # of a card on a terminal


def listing(norms: Mapping[str, Any], console: Console) -> None:
    """What a reader chooses by, a line a norm; on a narrow terminal its summary has a line of its own."""
    wide = console.width >= 180
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in _heads(wide):
        table.add_column(head, no_wrap=True)
    for name, row in norms.items():
        first, *others = (escape(as_line(cell)) for cell in _cells(name, row, wide))
        table.add_row(first if row.origin == "bncli" else f"{first} [dim]({escape(as_line(row.origin))})[/]", *others)
    console.print(table)
    if not wide:
        say(console, "")
        for name, row in norms.items():
            say(console, as_line(f"{name}: {row.summary}"))
    console.print("\nC channels, G groups of d channels; cost: of a training step, relative to none (docs/norms.md)")


def card(kind: str, name: str, row: Any) -> str:
    """All that is known of one row of a catalogue, as text."""
    said = facts(kind, row)
    lines = [f"{name}: {row.summary}", *[""] * bool(said)]
    for label, text in said.items():
        lines += textwrap.wrap(f"{label:<12} {text}", WIDTH, subsequent_indent=" " * 13)
    if keys := row.list_options():
        lines += ["", "options", key_lines(keys)]
    return "\n".join(lines).rstrip()


def key_lines(keys: Sequence[Any]) -> str:
    """Keys or options with default, range, unit and meaning, as text."""
    lines, width = [], max(len(key.name) for key in keys)
    for key in keys:
        unit = f" [{key.unit}]" if key.unit else ""
        head = f"  {key.name:<{width}}  {key.default}  ({key.range}){unit}  "
        lines += textwrap.wrap(head + key.meaning, WIDTH, subsequent_indent=" " * (width + 4))
    return "\n".join(lines)


def key_table(keys: Sequence[Any], head: str = "key") -> str:
    """The same as a Markdown table."""
    lines = [f"| {head} | default | range | unit | meaning |", "|---|---|---|---|---|"]
    for key in keys:
        cells = (f"`{key.name}`", f"`{key.default}`", key.range, key.unit, key.meaning)
        lines.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def rows_page(rows: Mapping[str, Any]) -> str:
    """Rows of a catalogue with their options as Markdown."""
    parts = []
    for name, row in rows.items():
        parts += [f"**`{name}`**: {row.summary}.", ""]
        if keys := row.list_options():
            parts += [key_table(keys, "option")]
    return "\n".join(parts)


def page(norms: Mapping[str, Any]) -> str:
    """Every card as Markdown."""
    parts = []
    for name, row in norms.items():
        parts += [f"### `{name}`", "", f"{row.summary[0].upper()}{row.summary[1:]}.", ""]
        parts += [f"- **{label}:** {_escaped(text)}" for label, text in facts("norms", row).items()]
        parts += ["", key_table(row.list_options(), "option")] if row.options else [""]
    return "\n".join(parts)


def _heads(wide: bool) -> list[str]:
    heads = ["norm", "family", "batch of 1", "train = eval", "parameters", "buffers", "cost"]
    return [*heads, "summary", "citation"] if wide else heads


def _cells(name: str, row: Any, wide: bool) -> list[str]:
    cells = [
        name, row.family, "no" if row.batch_statistics else "yes", _SAME.get(row.evaluation, "no"),
        row.parameters, row.buffers, _cost(row),
    ]  # fmt: skip
    return [*cells, row.summary, row.citation] if wide else cells


_SAME = {"the same": "yes", "unknown": "?"}


def _cost(row: Any) -> str:
    """A plug-in's function comes without a cost: 1.0 is what estimates take it for, and nothing to be shown."""
    return "?" if row.evaluation == "unknown" else f"{row.cost:.1f}"


def _of_norm(row: Any) -> Iterator[tuple[str, str]]:
    if row.formula:
        yield "formula", row.formula
    if row.over:
        yield "statistics", f"over {row.over}"
    yield "evaluation", row.evaluation
    if row.differs:
        yield "differs", row.differs
    yield "numbers", f"{row.parameters} learned, {row.buffers} running (C channels, G groups of d)"
    batch = "needs more than one value a channel in training" if row.batch_statistics else "works on a batch of 1"
    yield "batch", batch
    yield "cost", f"{_cost(row)} times a training step without a norm"
    if row.citation:
        yield "citation", row.citation


def _of_data(row: Any) -> Iterator[tuple[str, str]]:
    if row.describe:
        yield "shape", "and classes: of the data"
        return
    yield "shape", " x ".join(map(str, row.shape))
    yield "target", f"{row.classes} classes" if row.classes else f"{row.targets} numbers"
    yield "examples", ", ".join(f"{part} {count:,}" for part, count in row.examples.items())


def _of_metric(row: Any) -> Iterator[tuple[str, str]]:
    yield "formula", row.formula
    yield "unit", row.unit or "pure number"
    yield "range", f"{_end(row.low)} to {_end(row.high)}"
    yield "better", row.better or "neither"
    yield "granularity", row.per
    yield "tier", row.tier or "none"
    yield "citation", row.citation


def _of_measure(row: Any) -> Iterator[tuple[str, str]]:
    yield "unit", row.unit or "pure number"
    yield "better", row.direction
    yield "compared by", row.scale
    yield (
        "needs",
        {"target": "a target", "search": "tune: or bisect:", "probe": "probes.metrics"}.get(row.of, "nothing"),
    )


def facts(kind: str, row: Any) -> dict[str, str]:
    """What a row says beside its summary and options, by label."""
    known = {"norms": _of_norm, "data": _of_data, "metrics": _of_metric, "measures": _of_measure}
    origin = {} if row.origin == "bncli" else {"from": row.origin}
    return origin | (dict(known[kind](row)) if kind in known else {})


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "·") if "`" not in text else text.replace("|", "\\|")


_METRIC_HEADS = (
    "metric", "what it is", "formula", "unit", "range", "null value", "better", "granularity", "tier", "source",
)  # fmt: skip


def metric_table(metrics: Mapping[str, Any]) -> str:
    """Every row as one line of a Markdown table."""
    lines = [_METRIC_HEADS, ("---",) * len(_METRIC_HEADS), *(_metric_cells(name, row) for name, row in metrics.items())]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _metric_cells(name: str, row: Any) -> tuple[str, ...]:
    null = "" if row.null is None else f"{row.null:g}"
    formula, unit = f"`{row.formula}`", row.unit or "-"
    spans = f"{_end(row.low)} to {_end(row.high)}"
    return (
        f"`{name}`",
        row.summary,
        formula,
        unit,
        spans,
        null,
        row.better or "",
        row.per,
        row.tier or "none",
        row.citation,
    )


def _end(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else "-∞" if value < 0 else "∞"
