"""`bncli status`: how far the studies of a store are, beside the commands that train them or after their end."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bncli.cli.completion import complete_study
from bncli.cli.options import Json, StoreFolder

if TYPE_CHECKING:
    from bncli.store.status import CommandStatus, StudyStatus


def status(
    study: Annotated[
        str,
        typer.Argument(
            help="A study's name or id, or how the id begins; all if left out.", autocompletion=complete_study
        ),
    ] = "",
    store: StoreFolder = Path(".bncli"),
    json: Json = None,
) -> None:
    """Say how far studies are: runs done, in flight, failed and waiting, the time left, what was said last.

    It reads the store alone, also from another machine that shares it, and writes nothing there.
    """
    from bncli.errors import StoreError, unknown
    from bncli.store.folder import require_store, stores_in
    from bncli.store.status import as_documents, summarise_studies

    require_store(store)
    now, found = time.time(), list["StudyStatus"]()
    for place in stores_in(store):
        studies, problems = summarise_studies(place, now)
        found += studies
        for problem in problems:
            print(problem, file=sys.stderr)
    if study:
        known = {each.name for each in found}
        found = [each for each in found if study == each.name or each.id.startswith(study)]
        if not found:
            raise StoreError(unknown("study", study, known) if known else f"{store}: it remembers no studies")
    if json:
        from json import dumps

        from bncli.cli.output import write

        document = {"schema": "bncli/status/1", "studies": as_documents(found, now)}
        write(json, dumps(document, indent=1, ensure_ascii=False) + "\n", f"--json {json}")
        return
    for each in found:
        print("\n".join(_describe(each, now)))
    if not found:
        print(f"no studies in {store}; `bncli compare` trains one and remembers it, --store names another place")


def _describe(study: "StudyStatus", now: float) -> list[str]:
    """A study in a line, and a line for each command that trains it."""
    from bncli.errors import as_line

    counts = [f"{study.done:,} of {study.runs:,} runs done"]
    alive = [command for command in study.commands if not command.silent(now)]
    counts += [f"{study.in_flight:,} in flight"] if alive else []
    counts += [f"{study.failed:,} failed"] if study.failed else []
    counts += [f"{study.waiting:,} waiting" if alive else f"{study.waiting:,} not trained"] if study.waiting else []
    if alive:
        left = "how long is left is not known yet" if study.seconds_left is None else _left(study.seconds_left)
    elif study.done < study.runs:
        left = f"no command trains it; last asked for {_ago(now - study.asked)}"
    else:
        done = "all that is planned so far; the same command goes on" if study.unfinished else "complete"
        left = f"{done}; last asked for {_ago(now - study.asked)}"
    lines = [as_line(f"{study.name} ({study.id[:12]}): {', '.join(counts)}; {left}")]
    return lines + [as_line(f"  {_describe_command(command, now)}") for command in study.commands]


def _describe_command(command: "CommandStatus", now: float) -> str:
    place = f"process {command.pid} on {command.host}, started {_ago(now - command.started)}"
    if command.silent(now):
        return f"{place}: no sign of life for {_duration(now - command.time)}; the same command continues the study"
    return f"{place}: {command.said or 'nothing has ended yet'}"


def _left(seconds: float) -> str:
    return f"about {_duration(seconds)} left"


def _ago(seconds: float) -> str:
    return "just now" if seconds < 1 else f"{_duration(seconds)} ago"


def _duration(seconds: float) -> str:
    """A duration in words: 5 seconds, 12 minutes, 3 hours, 2 days."""
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}s"
    return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"
