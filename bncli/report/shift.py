"""Shift findings on a terminal: sentences, then for each variant a table of layers by metrics."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from bncli.findings import Cell, Definition, ShiftArm, ShiftFindings, Trend
from bncli.notation import written_setting
from bncli.report.layout import Column, say, table, width, wrapped

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
    for arm in findings.arms:
        setting = f" at {written_setting(arm.setting)}" if arm.setting else ""
        for lines in tables(arm, findings.definitions, room):
            say(console, "")
            say(console, f"{arm.variant}{' (ref)' if arm.is_reference else ''}{setting}", "bold")
            for text in lines:
                say(console, text)
    say(console, "")
    for note in findings.notes:
        say(console, wrapped(note, room, "  "), "dim")
    for warning in findings.warnings:
        say(console, wrapped(f"warning: {warning}", room, "  "), "yellow")


def tables(arm: ShiftArm, definitions: Sequence[Definition], room: int) -> Iterator[list[Text]]:
    """Lines of as many tables as it takes: metrics of the same layers together, each table within `room`."""
    groups: dict[tuple[str, ...], list[Definition]] = {}
    for definition in definitions:
        layers = tuple(cell.layer for cell in arm.cells if cell.metric == definition.name)
        if layers:
            groups.setdefault(layers, []).append(definition)
    cells = {(cell.metric, cell.layer): cell for cell in arm.cells}
    for layers, metrics in groups.items():
        first = _column("layer", [layer or "whole network" for layer in layers], _height(metrics), right=False)
        columns: list[Column] = []
        for definition in metrics:
            column = _metric(definition, [cells[definition.name, layer] for layer in layers], _height(metrics))
            if columns and width([first, *columns, column]) > room:
                yield table([first, *columns])
                columns = []
            columns.append(column)
        yield table([first, *columns])


def _metric(definition: Definition, cells: Sequence[Cell], height: int) -> Column:
    return _column(definition.name, [_written(cell) for cell in cells], height, right=True)


def _column(title: str, cells: Sequence[str], height: int, *, right: bool) -> Column:
    """A column whose title stands in `height` lines."""
    lines = _lines(title)
    head, *more = [*lines, *[""] * (height - len(lines))]
    return Column(head, (*(Text(line, style="bold") for line in more), *map(Text, cells)), right=right, gap=2)


def _height(definitions: Sequence[Definition]) -> int:
    return max(len(_lines(definition.name)) for definition in definitions)


def _lines(title: str) -> list[str]:
    """A title of several words, a word a line; the hyphen stays with the word before it."""
    *words, last = title.split("-")
    return [*(f"{word}-" for word in words), last]


def _written(cell: Cell) -> str:
    """`0.211 ±0.004 ↓`, with `~` where it is within sampling noise."""
    spread = "" if cell.spread is None else f" ±{cell.spread:.2g}"
    return f"{cell.centre:.3g}{spread} {ARROWS[cell.trend]}{'~' if cell.within_noise else ' '}"
