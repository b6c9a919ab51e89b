"""Where checks are written, and the exit codes that they give."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from bncli.cli.files import write
from bncli.errors import BncliError
from bncli.findings import Check
from bncli.records import StudyRun
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


def exit_for_failures(runs: Sequence[StudyRun]) -> None:
    """Exit with 5 if a run failed, saying which and why."""
    ended = [run.result.info for run in runs if run.result]
    failed = [info for info in ended if not info.has_numbers]
    if failed:
        reasons = "; ".join(sorted({info.reason for info in failed}))
        print(f"{len(failed)} of {len(ended)} runs failed: {reasons}", file=sys.stderr)
        raise typer.Exit(5)


def write_json(place: str, document: Mapping[str, Any]) -> None:
    """Write the one JSON document to a file, or to stdout for `-`.

    Raises:
        BncliError: if the file cannot be written.
    """
    from bncli.report.study.json import dumps

    write(place, dumps(document) + "\n", f"--json {place}", after="; the runs themselves are stored")


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise BncliError(f"{path}: cannot write ({error.strerror})") from None
