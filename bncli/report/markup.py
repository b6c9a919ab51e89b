"""Reports as plain text, Markdown, LaTeX, and the HTML of notebooks; numbers are those of the terminal's table."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from html import escape
from importlib import import_module

from bncli.errors import BncliError, as_line
from bncli.report.checks import markdown
from bncli.report.data import ReportData
from bncli.report.layout import Column
from bncli.report.sheet import Sheet, lay_out
from bncli.report.study.table import SYMBOLS

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "×": r"$\times$",
    "·": r"$\cdot$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
}  # fmt: skip
_SPOKEN = {symbol: verdict for verdict, (symbol, _) in SYMBOLS.items()}  # signs, for who hears them
_MINUS = re.compile(r"(?<![\w.)\]-])-(?=\d)")  # before a number, and no hyphen
_BLOCKS = re.compile("[\u2581-\u2588]")  # of curves, which LaTeX's fonts lack


def export_text(data: ReportData | Sheet) -> str:
    """One line a fact, for a screen reader, a log or a search: each row of a table says its columns."""
    sheet = lay_out(data)
    lines = [sheet.title, *sheet.setup, *sheet.sentences]
    for heading, columns in sheet.tables:
        lines += [f"{heading}:"] if heading else []
        for row in _cells(columns):
            said = [
                f"{column.title} {cell}" if column.title else _SPOKEN.get(cell, cell)
                for column, cell in zip(columns, row, strict=True)
                if cell
            ]
            lines.append("; ".join(said))
    lines += [f"warning: {warning}" for warning in sheet.warnings]
    lines += [f"{check.word}: {check.name} ({check.message})" for check in sheet.checks]
    lines += [f"note: {note}" for note in sheet.notes]
    return "\n".join(map(as_line, lines)) + "\n"


def export_markdown(data: ReportData | Sheet) -> str:
    """The answer, the tables, warnings, and what was checked."""
    sheet = lay_out(data)
    lines = [f"### {_as_markdown(sheet.title)}", ""]
    for sentence in sheet.sentences:
        lines += [_begin_markdown(sentence), ""]
    for heading, columns in sheet.tables:
        lines += [f"**{_as_markdown(heading)}**", ""] if heading else []
        lines += [*_markdown_table(columns), ""]
    lines += [f"- warning: {_as_markdown(warning)}" for warning in sheet.warnings]
    said = [_begin_markdown(each) for each in (*sheet.setup, *sheet.notes)]
    lines += ["", *(f"- {each}" for each in said), ""]
    if sheet.checks:
        lines.append(markdown("checks", sheet.checks))
    if sheet.command:
        lines += ["```sh", as_line(sheet.command), "```"]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def export_latex(data: ReportData | Sheet) -> str:
    r"""A `table` for each table, with `\toprule`, `\midrule` and `\bottomrule` of the package booktabs."""
    sheet, name = lay_out(data), re.sub(r"[^\w-]", "-", data.name, flags=re.ASCII)
    lines = [f"% {as_line(sheet.title)}", r"% \usepackage[T1]{fontenc} \usepackage{booktabs}"]
    lines += [f"% {as_line(sheet.command)}"] if sheet.command else []
    lines += [f"% warning: {as_line(warning)}" for warning in sheet.warnings]
    for number, (heading, columns) in enumerate(sheet.tables, 1):
        parts = [part for part in (sheet.title, heading, *sheet.setup) if part]
        caption = " ".join(part if part[-1] in ".?!" else f"{part}." for part in parts)
        label = f"tab:{name}" if len(sheet.tables) == 1 else f"tab:{name}-{number}"
        lines += [
            r"\begin{table}", r"\centering", f"\\caption{{{escape_latex(caption)}}}", f"\\label{{{label}}}",
            *_latex_table(columns), r"\end{table}",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def write_fragment(data: ReportData | Sheet) -> str:
    """The sentences, the tables and the warnings, without a page around them."""
    sheet = lay_out(data)
    head = "<br>".join([f"<b>{escape(sheet.title)}</b>", *map(escape, sheet.setup)])
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in sheet.sentences)
    tables = "".join(
        (f"<p>{escape(heading)}</p>" if heading else "") + _html_table(columns) for heading, columns in sheet.tables
    )
    warned = "".join(f"<p><small>warning: {escape(warning)}</small></p>" for warning in sheet.warnings)
    checks = "".join(
        f"<li>{escape(check.word)}: {escape(check.name)} ({escape(check.message)})</li>" for check in sheet.checks
    )
    return f"<div><p>{head}</p>{said}{tables}{warned}{f'<ul>{checks}</ul>' if checks else ''}</div>"


def write_plain_page(data: ReportData | Sheet) -> str:
    """The same as a whole page, for what has no page of its own."""
    sheet = lay_out(data)
    style = "body{font:16px sans-serif;margin:2em;color-scheme:light dark}td,th{padding:.2em .8em;text-align:left}"
    head = f'<meta charset="utf-8"><title>{escape(sheet.title)}</title><style>{style}</style>'
    drawn = ""
    with suppress(BncliError):  # without the extra `report` there are tables alone
        drawn = "".join(import_module("bncli.report.figures").render(figure, "svg") for figure in sheet.figures)
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{write_fragment(sheet)}{drawn}</body></html>\n'


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it, on one line."""
    whole = "".join(_SPECIAL.get(character, character) for character in as_line(text))
    return _MINUS.sub("$-$", whole)


def _as_markdown(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_|<~$])", r"\\\1", as_line(text))


def _begin_markdown(text: str) -> str:
    """The same at the begin of a paragraph or a list's item, where a sign or a number would begin a list."""
    return re.sub(
        r"^([-+#>\[]|\d+(?=[.)] ))", lambda at: at[1] + "\\" if at[1].isdigit() else "\\" + at[1], _as_markdown(text)
    )


def _cells(columns: Sequence[Column]) -> Iterator[list[str]]:
    """Rows of plain text."""
    for row in zip(*(column.cells for column in columns), strict=True):
        yield [cell.plain.strip() for cell in row]


def _markdown_table(columns: Sequence[Column]) -> list[str]:
    rows = [[column.title for column in columns], *_cells(columns)]
    head, *body = [f"| {' | '.join(map(_as_markdown, row))} |" for row in rows]
    rule = "".join("---:|" if column.right else "---|" for column in columns)
    return [head, f"|{rule}", *body]


def _latex_table(columns: Sequence[Column]) -> list[str]:
    columns = [column for column in columns if not any(_BLOCKS.search(cell.plain) for cell in column.cells)]
    rows = [[column.title for column in columns], *_cells(columns)]
    head, *body = [" & ".join(map(escape_latex, row)) + r" \\" for row in rows]
    ways = "".join("r" if column.right else "l" for column in columns)
    return [f"\\begin{{tabular}}{{{ways}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]


def _html_table(columns: Sequence[Column]) -> str:
    heads = "".join(f"<th>{escape(column.title)}</th>" for column in columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in _cells(columns))
    return f"<table><tr>{heads}</tr>{rows}</table>"
