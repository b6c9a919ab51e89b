"""Shift findings on a terminal: sentences, then for each variant a table of layers by metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from bncli.findings import Cell, Definition, ShiftArm, ShiftFindings, Trend
from bncli.notation import written_setting
from bncli.report.bands import BandPlot
from bncli.report.layout import Column, say, table, width, wrapped
from bncli.report.shift_plots import drawn, last_bands, layer_names

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
    names, thin = layer_names(findings), not findings.layers
    for arm in findings.arms:
        shown = replace(arm, cells=_thinned(arm.cells)) if thin else arm
        setting = f" at {written_setting(arm.setting)}" if arm.setting else ""
        for lines in tables(shown, findings.definitions, names, room):
            say(console, "")
            say(console, f"{arm.variant}{' (ref)' if arm.is_reference else ''}{setting}", "bold")
            for text in lines:
                say(console, text)
    for group in last_bands(findings):
        say(console, "")
        say(console, f"15th, 50th and 85th percentile at {names[group[0].layer]}", "bold")
        console.print(BandPlot([drawn(band) for band in group]))
    say(console, "")
    if thin and any(_thinned(arm.cells) != arm.cells for arm in findings.arms):
        say(console, f"  of each metric at most {MOST_LAYERS} layers are shown; --layers '*' shows all", "dim")
    for note in findings.notes:
        say(console, wrapped(note, room, "  "), "dim")
    for warning in findings.warnings:
        say(console, wrapped(f"warning: {warning}", room, "  "), "yellow")


def tables(
    arm: ShiftArm, definitions: Sequence[Definition], names: Mapping[str, str], room: int
) -> Iterator[list[Text]]:
    """Lines of as many tables as it takes: metrics of the same layers together, each table within `room`."""
    groups: dict[tuple[str, ...], list[Definition]] = {}
    for definition in definitions:
        layers = tuple(cell.layer for cell in arm.cells if cell.metric == definition.name)
        if layers:
            groups.setdefault(layers, []).append(definition)
    cells = {(cell.metric, cell.layer): cell for cell in arm.cells}
    for layers, metrics in groups.items():
        columns = {d.name: [_written(cells[d.name, layer]) for layer in layers] for d in metrics}
        first = [names[layer] for layer in layers]
        yield from (table(part) for part in _parts(first, columns, room))


def _thinned(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Of each metric at most `MOST_LAYERS` layers, evenly spaced, the first and the last among them."""
    by_metric: dict[str, list[Cell]] = {}
    for cell in cells:
        by_metric.setdefault(cell.metric, []).append(cell)
    kept = []
    for found in by_metric.values():
        count = min(len(found), MOST_LAYERS)
        kept += [found[round(i * (len(found) - 1) / max(count - 1, 1))] for i in range(count)]
    return tuple(kept)


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
    """Columns whose titles stand in as many lines as the longest needs."""
    height = max(len(_lines(title)) for title in columns)
    return [
        _column(title, cells, height, right=title != "layer") for title, cells in {"layer": first, **columns}.items()
    ]


def _column(title: str, cells: Sequence[str], height: int, *, right: bool) -> Column:
    lines = _lines(title)
    head, *more = [*lines, *[""] * (height - len(lines))]
    return Column(head, (*(Text(line, style="bold") for line in more), *map(Text, cells)), right=right, gap=2)


def _lines(title: str) -> list[str]:
    """A title of several words, a word a line; the hyphen stays with the word before it."""
    *words, last = title.split("-")
    return [*(f"{word}-" for word in words), last]


def _written(cell: Cell) -> str:
    """`0.211 ±0.004 ↓`, with `~` where it is within sampling noise."""
    spread = "" if cell.spread is None else f" ±{cell.spread:.2g}"
    return f"{cell.centre:.3g}{spread} {ARROWS[cell.trend]}{'~' if cell.within_noise else ' '}"
