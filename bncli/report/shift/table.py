"""Shift findings on a terminal: sentences, then for each variant a table of layers by metrics."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from bncli.errors import as_line
from bncli.findings.shift import Cell, Definition, ShiftArm, ShiftFindings, Trend
from bncli.format import written_setting
from bncli.report.bands import BandPlot
from bncli.report.figures.shift import SiteNames, drawn, last_bands, layer_names
from bncli.report.layout import Column, say, table, width, wrapped

MOST_LAYERS = 9  # of a deep network
ARROWS: Mapping[Trend, str] = {"rising": "↑", "falling": "↓", "open": " "}


def show(findings: ShiftFindings, console: Console) -> None:
    """Print findings at the console's width: a table of as many metrics as fit, then one of the next."""
    room = console.width
    say(console, wrapped(f"{findings.name}: {findings.question}", room), "bold")
    for line in (findings.setup, findings.probes):
        say(console, wrapped(line, room), "dim")
    if findings.sentences:
        say(console, "")
    for sentence in findings.sentences:
        say(console, wrapped(sentence, room, "  "))
    names, most = layer_names(findings), None if findings.layers else MOST_LAYERS
    for arm in findings.arms:
        setting = f" at {written_setting(arm.setting)}" if arm.setting else ""
        heading = f"{as_line(arm.variant)}{' (ref)' if arm.is_reference else ''}{setting}"
        for part, lines in enumerate(tables(arm, findings.definitions, names, room, most)):
            say(console, "")
            if part == 0:
                say(console, heading, "bold")
            for text in lines:
                say(console, text)
    for group in last_bands(findings):
        say(console, "")
        say(console, f"15th, 50th and 85th percentile at {names[group[0].layer, group[0].place]}", "bold")
        console.print(BandPlot([drawn(band) for band in group]))
    say(console, "")
    if most and any(len(_rows(arm, names)) > most for arm in findings.arms):
        say(console, f"  {most} layers are shown, evenly spaced; --layers '*' shows all", "dim")
    for note in findings.notes:
        say(console, wrapped(note, room, "  "), "dim")
    for warning in findings.warnings:
        say(console, wrapped(f"warning: {warning}", room, "  "), "yellow")


def tables(
    arm: ShiftArm, definitions: Sequence[Definition], names: SiteNames, room: int, most: int | None = None
) -> Iterator[list[Text]]:
    """Lines of as many tables as it takes, each within `room`; what is of the whole network is the last row.

    Args:
        arm: one variant.
        definitions: the columns.
        names: of layers and places, as they are shown.
        room: characters of a line.
        most: layers that are shown, evenly spaced, the first and the last among them.
    """
    rows, cells = _rows(arm, names), {(c.metric, names[c.layer, c.place]): c for c in arm.cells}
    count = min(len(rows), most or len(rows))
    rows = [rows[round(i * (len(rows) - 1) / max(count - 1, 1))] for i in range(count)]
    rows.append(names["", ""])
    columns = {d.name: [write_cell(cells.get((d.name, layer))) for layer in rows] for d in definitions}
    columns = {name: column for name, column in columns.items() if any(column)}
    if columns:
        yield from (table(part) for part in _parts(rows, columns, room))


def _rows(arm: ShiftArm, names: SiteNames) -> list[str]:
    """Layers that have a number of any metric, in the order of the metric that has most of them."""
    by_metric: dict[str, list[str]] = {}
    for cell in arm.cells:
        if cell.layer:
            by_metric.setdefault(cell.metric, []).append(names[cell.layer, cell.place])
    lists = sorted(by_metric.values(), key=len, reverse=True)
    return list(dict.fromkeys(layer for layers in lists for layer in layers))


def _parts(first: Sequence[str], columns: Mapping[str, Sequence[str]], room: int) -> Iterator[list[Column]]:
    """The columns in as many parts as fit into `room`, each behind the column of layers."""
    part: dict[str, Sequence[str]] = {}
    for title, cells in columns.items():
        if part and width(_headed(first, {**part, title: cells})) > room:
            yield _headed(first, part)
            part = {}
        part[title] = cells
    yield _headed(first, part)


def _headed(first: Sequence[str], columns: Mapping[str, Sequence[str]]) -> list[Column]:
    """Columns whose titles stand in as many lines as the longest needs; without rows that are empty in all of them."""
    kept = [i for i, row in enumerate(zip(*columns.values(), strict=True)) if any(row)]
    columns = {"layer": first, **columns}
    height = max(len(_lines(title)) for title in columns)
    return [
        _column(title, [cells[i] for i in kept], height, right=title != "layer") for title, cells in columns.items()
    ]


def _column(title: str, cells: Sequence[str], height: int, *, right: bool) -> Column:
    lines = _lines(title)
    head, *more = [*lines, *[""] * (height - len(lines))]
    return Column(head, (*(Text(line, style="bold") for line in more), *map(Text, cells)), right=right, gap=2)


def _lines(title: str) -> list[str]:
    """A title of several words, a word a line; the hyphen stays with the word before it."""
    *words, last = title.split("-")
    return [*(f"{word}-" for word in words), last]


def write_cell(cell: Cell | None) -> str:
    """`0.211 ±0.004 ↓`, with `~` where it is within sampling noise; nothing where there is no number."""
    if cell is None:
        return ""
    std = "" if cell.std is None else f" ±{cell.std:.2g}"
    return f"{cell.mean:.3g}{std} {ARROWS[cell.trend]}{'~' if cell.within_noise else ' '}"
