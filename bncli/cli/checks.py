"""Where checks are written, and the exit codes that they give."""

import os
from collections.abc import Sequence
from pathlib import Path

import typer

from bncli.errors import BncliError
from bncli.findings import Check
from bncli.report.checks import annotations, junit, markdown, show_checks


def finish(
    title: str, checks: Sequence[Check], xml: Path | None, table: Path | None, github: bool, *, quiet: bool
) -> None:
    """Show the checks (not where stdout is a document), write them, and exit as they came out."""
    if not quiet:
        from bncli.cli.console import stdout

        print(f"\n{title}:")
        show_checks(checks, stdout())
    write_checks(title, checks, xml, table, github and not quiet)
    exit_for_checks(checks)


def write_checks(title: str, checks: Sequence[Check], xml: Path | None, table: Path | None, github: bool) -> None:
    """Write the checks wherever they are wanted; on GitHub to the job's summary, with annotations on stdout.

    Raises:
        BncliError: if a file cannot be written.
    """
    if xml:
        _write(xml, junit(title, checks), "w")
    if table:
        _write(table, markdown(title, checks), "w")
    if github:
        for line in annotations(checks):
            print(line)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            _write(Path(summary), markdown(title, checks), "a")


def exit_for_checks(checks: Sequence[Check]) -> None:
    """Exit with 3 if a check failed, with 4 if one could not be decided."""
    outcomes = {check.outcome for check in checks}
    if "failed" in outcomes:
        raise typer.Exit(3)
    if "undecided" in outcomes:
        raise typer.Exit(4)


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise BncliError(f"{path}: cannot write ({error.strerror})") from None
