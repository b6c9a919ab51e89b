"""Rows and columns as lines of text in which no number is broken: tables, stacked lists, wrapped sentences."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from bncli.errors import as_line, as_lines
from bncli.findings import Note

_GLUE = "\u00a0"  # textwrap does not break here
_NUMBER_AND_UNIT = re.compile(r"(?<=\d) (?=%|points\b|steps\b|nats\b|paired\b|seeds\b)|(?<=±) | (?=±)")
_INTERVAL = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True)
class Column:
    """One column of a table; the cells of all columns stand in the same order of rows."""

    title: str
    cells: tuple[Text, ...]
    right: bool = False  # numbers of one column end under each other
    gap: int = 3  # blanks before the next column

    def __post_init__(self) -> None:
        """Have each cell on one line, whatever names are in it."""
        lines = tuple(
            cell if cell.plain.isprintable() else Text(as_line(cell.plain), style=cell.style) for cell in self.cells
        )
        object.__setattr__(self, "cells", lines)

    @property
    def width(self) -> int:
        """Characters that the widest cell or the title takes."""
        return max(cell_len(self.title), *(cell.cell_len for cell in self.cells), 0)


def width(columns: Sequence[Column]) -> int:
    """Characters that a table takes, with one blank before it."""
    return 1 + sum(c.width + c.gap for c in columns) - columns[-1].gap


def table(columns: Sequence[Column]) -> list[Text]:
    """A title line and one line a row, without borders."""
    titles = _line(columns, [Text(c.title, style="bold") for c in columns])
    return [titles, *(_line(columns, list(row)) for row in zip(*(c.cells for c in columns), strict=True))]


def stacked(columns: Sequence[Column], heads: int, room: int) -> list[Text]:
    """One block a row: the first `heads` cells on a line, then each other cell beside its title, or below it."""
    lines = []
    label = max((cell_len(c.title) for c in columns[heads:]), default=0)
    for row in zip(*(c.cells for c in columns), strict=True):
        lines.append(Text(" ").join(cell for cell in row[:heads] if cell.plain.strip()))
        for column, cell in zip(columns[heads:], row[heads:], strict=True):
            if not cell.plain:
                continue
            if 4 + label + cell.cell_len <= room:
                lines.append(Text("  " + column.title.ljust(label + 2)) + cell)
            else:
                lines += [Text("  " + column.title), Text("    ") + cell]
    return lines


def wrapped(sentence: str, room: int, indent: str = "") -> str:
    """Break a sentence between words; a number keeps its unit, an interval stays whole."""
    glued = _INTERVAL.sub(lambda found: found[0].replace(" ", _GLUE), as_lines(sentence))
    glued = _NUMBER_AND_UNIT.sub(_GLUE, glued)
    lines = textwrap.wrap(
        glued, max(room, 20), break_long_words=False, break_on_hyphens=False, subsequent_indent=indent
    )
    return "\n".join(lines).replace(_GLUE, " ")


def say(console: Console, text: str | Text, style: str = "") -> None:
    """Print as it stands: no markup, no highlighting, no wrapping, nothing cut off."""
    line = text if isinstance(text, Text) else Text(text, style=style)
    if (shown := as_lines(line.plain)) != line.plain:  # somebody's name would steer the terminal
        line = Text(shown, style=line.style)
    console.print(line, soft_wrap=True, markup=False, highlight=False)


MOST_NOTES = 4  # shown without --explain


def show_notes(notes: Sequence[Note], console: Console, *, explain: bool = False) -> None:
    """Print the first footnotes; with `explain` all, each with its paragraph."""
    for note in notes if explain else notes[:MOST_NOTES]:
        say(console, wrapped(note.text, console.width, "  "), "" if explain else "dim")
        if explain and note.explanation:
            say(console, textwrap.indent(wrapped(note.explanation, console.width - 4), "    "), "dim")
    if not explain and (left := len(notes) - MOST_NOTES) > 0:
        notes_left = f"{left} more note{'s' * (left > 1)}"
        say(console, wrapped(f"{notes_left}, and a paragraph on each: --explain", console.width, "  "), "dim")


def _line(columns: Sequence[Column], cells: Sequence[Text]) -> Text:
    line = Text(" ")
    for column, cell in zip(columns, cells, strict=True):
        blanks = " " * (column.width - cell.cell_len)
        line += Text(blanks) + cell if column.right else cell + Text(blanks)
        line += Text(" " * column.gap)
    line.rstrip()
    return line
