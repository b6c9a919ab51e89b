"""What pages are put together from: tables, lists and code as HTML, with every text escaped."""

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from rich.text import Text

from bncli.errors import as_lines
from bncli.findings import Check, Note
from bncli.report.layout import Column

_YAML_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # that YAML takes for something else
_OPTION = re.compile(r"(?<!\S)--[a-z][\w-]*")
_CODE = r"<code>\g<0></code>"
_LONG = 48  # characters of a cell that may be broken into lines


@dataclass(frozen=True)
class Section:
    """One heading of a page and what stands below it, as HTML; an empty one is left out."""

    name: str  # of links to it
    title: str
    body: str


@dataclass(frozen=True)
class PageContent:
    """What a page says, whatever its findings are of."""

    question: str
    setup: Sequence[str]  # lines
    answer: Sequence[str]  # the first is the answer, the others say more
    next_steps: Sequence[str]  # what to do now, a sentence each
    tables: Sequence[Section]
    details: Sequence[Section]  # below the charts
    warnings: Sequence[str]
    checks: Sequence[Check]
    notes: Sequence[Note]
    facts: Mapping[str, str]  # of the machine and the software, by label


def text(words: str) -> str:
    """Words as they stand, on a page: nothing in them is markup, and nothing steers."""
    return escape(as_lines(words))


def paragraphs(sentences: Iterable[str]) -> str:
    """A paragraph each."""
    return "".join(f"<p>{text(sentence)}</p>" for sentence in sentences)


def bullets(sentences: Iterable[str], kind: str = "") -> str:
    """A list, in which options of commands are code; nothing where there is nothing to list."""
    items = "".join(f"<li>{_OPTION.sub(_CODE, text(sentence))}</li>" for sentence in sentences)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def make_columns(cells: Mapping[str, Sequence[str]], right: Container[str] = ()) -> list[Column]:
    """Columns by their titles, those in `right` of numbers; none of which every cell is empty."""
    return [
        Column(title, tuple(map(Text, column)), right=title in right) for title, column in cells.items() if any(column)
    ]


def write_table(columns: Sequence[Column], caption: str, verdicts: Mapping[str, str] | None = None) -> str:
    """Columns as a table that a browser can sort: the first column with a title heads its rows.

    Args:
        columns: as a terminal shows them.
        caption: what it is a table of.
        verdicts: words for the symbols of the column without a title, which becomes one of verdicts.
    """
    words, head = verdicts or {}, next((i for i, column in enumerate(columns) if column.title), 0)
    titles = [column.title or "verdict" for column in columns]
    heads = "".join(
        f'<th scope="col"{_kind(c)}{_hint(c)}>{text(title)}</th>' for c, title in zip(columns, titles, strict=True)
    )
    rows = []
    for row in zip(*(column.cells for column in columns), strict=True):
        cells = []
        for i, (column, cell) in enumerate(zip(columns, row, strict=True)):
            shown = text(cell.plain)
            if not column.title:
                shown = _verdict(cell.plain, words)
            cells.append(
                f'<th scope="row">{shown}</th>' if i == head else f"<td{_kind(column, cell.plain)}>{shown}</td>"
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return frame_table(heads, "".join(rows), caption)


def write_checks(checks: Sequence[Check], caption: str) -> str:
    """What had to hold, and how it came out."""
    rows = "".join(
        f'<tr><td><span class="verdict {c.outcome}">{text(c.word)}</span></td>'
        f'<th scope="row" class="long">{text(c.name)}</th><td class="long">{text(c.message)}</td></tr>'
        for c in checks
    )
    heads = "".join(f'<th scope="col">{title}</th>' for title in ("outcome", "what", "measured"))
    return frame_table(heads, rows, caption) if checks else ""


def frame_table(heads: str, rows: str, caption: str) -> str:
    """A table in a box of its own that scrolls where the page is too narrow, by keys too."""
    label = f'aria-label="{text(caption)}"'
    return (
        f'<p class="soft">{text(caption)}</p><div class="scroll" tabindex="0" role="region" {label}>'
        f'<table class="sortable" {label}><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def fold(summary: str, body: str) -> str:
    """What is long, closed until somebody asks for it; on paper it is open."""
    return f'<details class="wide"><summary>{text(summary)}</summary>{body}</details>' if body else ""


def write_notes(notes: Sequence[Note]) -> str:
    """Footnotes: those with an explanation open to it."""
    explained = "".join(
        f"<details><summary>{text(note.text)}</summary><p>{text(note.explanation)}</p></details>"
        for note in notes
        if note.explanation
    )
    return explained + bullets((note.text for note in notes if not note.explanation), "notes")


def write_facts(facts: Mapping[str, str]) -> str:
    """Labels and what stands beside them."""
    lines = "".join(f"<dt>{text(label)}</dt><dd>{text(value)}</dd>" for label, value in facts.items())
    return f'<dl class="facts">{lines}</dl>' if lines else ""


def write_yaml(value: Any, indent: str = "") -> str:
    """Plain data as YAML, a line a key: texts, numbers and lists as JSON writes them, which YAML reads too."""
    lines = []
    for key, part in value.items():
        name = key if key.isidentifier() and key.lower() not in _YAML_WORDS else json.dumps(key)
        if isinstance(part, Mapping) and part:
            lines.append(f"{indent}{name}:\n{write_yaml(part, indent + '  ')}")
        else:
            lines.append(f"{indent}{name}: {json.dumps(part, ensure_ascii=False)}\n")
    return "".join(lines)


_KINDS = {"+": "better", "-": "worse", "?": "inconclusive"}  # how a symbol is coloured, whatever its word


def _verdict(symbol: str, words: Mapping[str, str]) -> str:
    word = words.get(symbol, symbol)
    if not word:
        return ""
    sign = f"{text(symbol)} " if symbol not in ("", word) else ""
    return f'<span class="verdict {text(_KINDS.get(symbol, word))}">{sign}{text(word)}</span>'


def _kind(column: Column, cell: str = "") -> str:
    names = [*(["right"] if column.right else []), *(["long"] if len(cell) > _LONG else [])]
    return f' class="{" ".join(names)}"' if names else ""


def _hint(column: Column) -> str:
    """Numbers on the left sort as numbers too."""
    return ' data-number="yes"' if any(cell.plain[:1].isdigit() for cell in column.cells) else ""
