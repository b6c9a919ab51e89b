"""Where a command's tables, documents and checks go: stdout, files, GitHub; and the exit codes that follow."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bncli.errors import BncliError, ConfigError
from bncli.files import replace_text
from bncli.findings import Check
from bncli.records import StudyRun
from bncli.streams import raw_stdout

if TYPE_CHECKING:
    from rich.console import Console

    from bncli.report.exports import AnyReport
    from bncli.report.sheet import Sheet

PIPE_WIDTH = 160  # a pipe or a file has no width of its own; COLUMNS overrules


def stdout() -> "Console":
    """A console on stdout; NO_COLOR, FORCE_COLOR and COLUMNS are respected by rich."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    return Console(width=width, highlight=False, soft_wrap=False)


def stderr() -> "Console":
    """A console on stderr for what moves: while it does, rich puts itself in the place of `sys.stderr`."""
    from rich.console import Console

    return Console(file=getattr(sys.stderr, "rich_proxied_file", sys.stderr))


def is_animated() -> bool:
    """Whether stderr is a terminal on which bars can move."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


def write(place: str, text: str, flag: str, *, append: bool = False, after: str = "") -> None:
    """Write `text` to a file, or to stdout for `-`; on a full disk the file before stays as it was.

    Args:
        place: a path, or -.
        text: what is written.
        flag: that named the place, as it was given.
        append: to what is there.
        after: what the message says besides.

    Raises:
        BncliError: that names the flag, if the file cannot be written.
    """
    if place == "-":
        raw_stdout().write(text)
        return
    try:
        (_append_text if append else replace_text)(Path(place), text)
    except OSError as error:
        raise BncliError(f"{flag}: cannot write ({error.strerror}){after}") from None


def require_writable(**places: str | Path | None) -> None:
    """Make sure that every file can be written, before hours of work go into what it is to hold.

    Args:
        places: paths by the name of their option; None is not asked for, and - is stdout.

    Raises:
        ConfigError: with every one that cannot.
    """
    given = {f"--{name} {place}": str(place) for name, place in places.items() if place}
    found = [f"{flag}: {why}" for flag, place in given.items() if (why := refuse_place(place))]
    if found:
        raise ConfigError(*found)


def refuse_place(place: str) -> str:
    """Why a file cannot be written, in words; nothing is made for the question."""
    path = Path(place)
    try:
        if place == "-":
            return ""
        if path.is_dir():
            return f"{place} is a folder; name a file in it"
        if not path.parent.is_dir():
            return f"there is no folder {path.parent}"
        writable = os.access(path if path.exists() else path.parent, os.W_OK)
    except OSError as error:  # a name too long
        return f"cannot write ({error.strerror})"
    return "" if writable else "cannot write (Permission denied)"


def print_report(data: "AnyReport", *, explain: bool = False, plain: bool = False) -> None:
    """Print a report of whatever kind at the terminal's width, without what was checked of a study.

    Args:
        data: what was found.
        explain: all footnotes, each with a paragraph.
        plain: a line a fact, and what was checked too.
    """
    from bncli.findings import Findings
    from bncli.findings.shift import ShiftFindings
    from bncli.report.exports import render
    from bncli.report.sheet import Sheet
    from bncli.report.shift import table as shift
    from bncli.report.study import table as study
    from bncli.report.study.runs import show_accounting, show_runs
    from bncli.report.timing import table as bench

    console = stdout()
    if plain:
        print(render(data, "text"), end="")
    elif isinstance(data, Sheet):
        _print_sheet(data, console)
    elif isinstance(data.findings, Findings):
        study.show(data.findings, console, explain=explain)
    elif isinstance(data.findings, ShiftFindings):
        shift.show(data.findings, console, explain=explain)
    elif data.findings is None:
        show_runs(data.runs, console)
        show_accounting([run.result for run in data.runs if run.result], console)
    else:
        bench.show(data.findings, console)


def _print_sheet(sheet: "Sheet", console: "Console") -> None:
    """Print a sheet: what is so seldom shown that it has no layout of its own."""
    from bncli.report.layout import say, stacked, table, width, wrapped

    room = console.width
    say(console, wrapped(sheet.title, room), "bold")
    for line in sheet.setup:
        say(console, wrapped(line, room), "dim")
    for sentence in sheet.sentences:
        say(console, wrapped(sentence, room))
    for heading, columns in sheet.tables:
        say(console, "")
        if heading:
            say(console, heading, "bold")
        for text in table(list(columns)) if width(columns) <= room else stacked(columns, 2, room):
            say(console, text)
    say(console, "")
    for note in sheet.notes:
        say(console, wrapped(note, room, "  "), "dim")
    for warning in sheet.warnings:
        say(console, wrapped(f"warning: {warning}", room, "  "), "yellow")


def show_outcome(title: str, checks: Sequence[Check]) -> None:
    """Print the checks under a heading."""
    from bncli.report.checks import show_checks

    print(f"\n{title}:")
    show_checks(checks, stdout())


def exit_for_checks(checks: Sequence[Check]) -> None:
    """Exit with 3 if a check failed, with 4 if one could not be decided."""
    outcomes = {check.outcome for check in checks}
    if "failed" in outcomes:
        raise typer.Exit(3)
    if "undecided" in outcomes:
        raise typer.Exit(4)


def exit_for_failures(runs: Sequence[StudyRun]) -> None:
    """Exit with 5 if a run failed, saying which and why."""
    ended = [run.result.info for run in runs if run.result]
    failed = [info for info in ended if not info.has_numbers]
    if failed:
        reasons = "; ".join(sorted({info.reason for info in failed}))
        print(f"{len(failed)} of {len(ended)} runs failed: {reasons}", file=sys.stderr)
        raise typer.Exit(5)


def _append_text(place: Path, text: str) -> None:
    """Add to the end of a file, all or nothing.

    Raises:
        OSError: if it cannot be written; the file is as long as it was.
    """
    with place.open("ab", buffering=0) as file:
        before, rest = os.fstat(file.fileno()).st_size, text.encode()
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with suppress(OSError):
                os.truncate(file.fileno(), before)
            raise
