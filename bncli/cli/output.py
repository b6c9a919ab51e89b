"""Where a command's tables, documents and checks go: stdout, files, GitHub; and the exit codes that follow."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bncli.errors import BncliError, ConfigError, unknown
from bncli.files import replace_text
from bncli.findings import Check
from bncli.records import StudyRun
from bncli.streams import raw_stdout

if TYPE_CHECKING:
    from rich.console import Console

    from bncli.timing.results import BenchRecord

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
    found = [f"--{name} {place}: {why}" for name, place in places.items() if place and (why := _refusal(str(place)))]
    if found:
        raise ConfigError(*found)


def _refusal(place: str) -> str:
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


def show_outcome(title: str, checks: Sequence[Check]) -> None:
    """Print the checks under a heading."""
    from bncli.report.checks import show_checks

    print(f"\n{title}:")
    show_checks(checks, stdout())


def write_checks(title: str, checks: Sequence[Check], xml: Path | None, table: Path | None, github: bool) -> None:
    """Write the checks wherever they are wanted; on GitHub to the job's summary, with annotations on stdout.

    Raises:
        BncliError: if a file cannot be written.
    """
    from bncli.report.checks import junit, markdown

    if xml:
        write(str(xml), junit(title, checks), f"--junit {xml}")
    if table:
        write(str(table), markdown(title, checks), f"--markdown {table}")
    if github:
        annotate(checks)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            write(summary, markdown(title, checks), "--github", append=True)


def annotate(checks: Sequence[Check]) -> None:
    """Print a line for each check that did not pass, which GitHub shows beside the change."""
    from bncli.report.checks import annotations

    for line in annotations(checks):
        print(line)


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


def write_json(place: str, document: Mapping[str, Any]) -> None:
    """Write the one JSON document of a study to a file, or to stdout for `-`.

    Raises:
        BncliError: if the file cannot be written.
    """
    from bncli.report.study.json import dumps

    write(place, dumps(document) + "\n", f"--json {place}", after="; the runs themselves are stored")


@dataclass(frozen=True)
class Destination:
    """One file to be written."""

    flag: str  # as it was given, for messages
    format: str
    path: str  # - is stdout
    append: bool = False


def read_destinations(exports: Sequence[str], json: str | None, *, github: bool) -> list[Destination]:
    """What `--export FORMAT:PATH`, `--json` and `--github` ask for, checked before anything is measured.

    Raises:
        ConfigError: for an unknown format, a missing path or folder, or a summary that GitHub has not asked for.
    """
    from bncli.report.timing.exports import EXPORTS

    found = [Destination(f"--json {json}", "json", json)] if json else []
    for text in exports:
        form, colon, path = text.partition(":")
        if form not in EXPORTS:
            raise ConfigError(f"--export {text}: {unknown('format', form, EXPORTS)}")
        if not colon or not path:
            suffix = {"csv": "csv", "md": "md", "junit": "xml"}.get(form, "json")
            raise ConfigError(f"--export {text}: expected FORMAT:PATH, as in {form}:bench.{suffix}")
        found.append(Destination(f"--export {text}", form, path))
    if github:
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if not summary:
            raise ConfigError(
                "--github: GITHUB_STEP_SUMMARY is not set; GitHub Actions sets it, elsewhere use --export"
            )
        found.append(Destination("--github", "md", summary, append=True))
    if wrong := [f"{each.flag}: {why}" for each in found if (why := _refusal(each.path))]:
        raise ConfigError(*wrong)
    return found


def write_record(record: "BenchRecord", destinations: Sequence[Destination]) -> None:
    """Write every file; of what was cut short nothing was judged, so no JUnit, which would read as passed.

    Raises:
        BncliError: if one cannot be written; the others are.
    """
    from bncli.report.timing.exports import EXPORTS

    failed = list[str]()
    for each in destinations:
        if each.format == "junit" and not record.complete:
            continue
        try:
            write(each.path, EXPORTS[each.format](record), each.flag, append=each.append)
        except BncliError as error:
            failed.append(str(error))
    if failed:
        raise BncliError("\n".join(failed))


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
