"""How far studies are: what the store has of their runs, and what the commands that train them last noted in it."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bncli.errors import StoreError
from bncli.files import is_intact, read_json, with_digest, write_atomically
from bncli.store.packs import host_name, list_folder
from bncli.store.studies import NAME, StoredStudy, Studies, sort_studies

SCHEMA = 1
EVERY_SECONDS = 5.0  # a command notes how far it is
SILENT_SECONDS = 60.0  # after which a command that notes nothing is said to give no sign of life
FORGOTTEN_SECONDS = 86_400.0  # after which it is not spoken of any more


@dataclass(frozen=True)
class CommandStatus:
    """How far one command is with what it trains now: a study, or one stage of a search."""

    study: str  # its id
    name: str  # of the preset
    runs: int  # that it set out to train
    done: int = 0  # of them: trained to their end or diverged, and stored
    failed: int = 0
    in_flight: int = 0  # handed to workers, which train them or are about to
    seconds_left: float | None = None  # None is not known yet
    said: str = ""  # what it said last
    started: float = field(default_factory=time.time)  # in seconds since 1970, by the clock of its machine
    time: float = field(default_factory=time.time)  # when this was noted, likewise
    host: str = field(default_factory=host_name)
    pid: int = field(default_factory=os.getpid)

    def silent(self, now: float) -> bool:
        """Whether it gives no sign of life: it was killed, or its machine is gone or cannot reach the store."""
        return now - self.time > SILENT_SECONDS


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is, all commands together."""

    id: str
    name: str
    runs: int  # ever planned for it
    done: int  # of them, that the store has
    in_flight: int
    failed: int  # in what is trained now, or else when it was last looked at
    waiting: int
    seconds_left: float | None  # until the last command ends; None if no command trains it, or that is not known yet
    said: str  # what a command that trains it said last
    asked: float  # when it was last planned or looked at, in seconds since 1970
    commands: Sequence[CommandStatus]  # that train it, or gave no sign of life since; the first started first
    unfinished: bool = False  # a search that was never reported: its results say what else is to be trained


def note_status(folder: Path, status: CommandStatus) -> None:
    """Note in a store how far this command is, in the place of what it noted before.

    Raises:
        OSError: if it cannot be written.
    """
    place = _place(folder, status)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, json.dumps(with_digest({"schema": SCHEMA, **asdict(status)})), durable=False)


def forget_status(folder: Path, status: CommandStatus) -> None:
    """Take away what this command has noted: it ends."""
    with suppress(OSError):
        _place(folder, status).unlink(missing_ok=True)


def _place(folder: Path, status: CommandStatus) -> Path:
    return folder / "status" / f"{status.study}-{status.host}-{status.pid}.json"


def summarise_studies(folder: Path, now: float) -> tuple[Sequence[StudyStatus], Sequence[StoreError]]:
    """Every study of a store, the last asked first, and what could not be read of it. Nothing is written.

    Raises:
        StoreError: if a folder of the store cannot be read.
    """
    studies, found, problems = Studies(folder), list[StoredStudy](), list[StoreError]()
    for key in studies.ids():
        try:
            found.append(studies.read(key, looks_needed=False))
        except StoreError as error:
            problems.append(error)
    noted: dict[str, list[CommandStatus]] = {}
    for status in read_notes(folder, now):
        noted.setdefault(status.study, []).append(status)
    summaries = [_summarise(study, noted.pop(study.id, []), now) for study in sort_studies(found)]
    unknown = [_begin(key, commands, now) for key, commands in noted.items()]  # no worker has given a sign of life yet
    return [*unknown, *summaries], problems


def read_notes(folder: Path, now: float) -> Iterator[CommandStatus]:
    """What commands have noted in a store within a day; what is damaged is passed over: it will be replaced."""
    for name in list_folder(folder / "status"):
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            document = read_json(folder / "status" / name)
            if document.pop("schema") == SCHEMA and is_intact({"schema": SCHEMA, **document}):
                del document["digest"]
                status = CommandStatus(**document)
                if now - status.time < FORGOTTEN_SECONDS and NAME.fullmatch(status.study):
                    yield status


def _summarise(study: StoredStudy, commands: Sequence[CommandStatus], now: float) -> StudyStatus:
    alive = [command for command in commands if not command.silent(now)]
    last = max((command.started for command in alive), default=0.0)
    shown = [command for command in commands if command in alive or command.time > last]  # else somebody took over
    runs, done = len(study.planned), len(study.stored)
    if not alive:
        shown = shown if done < runs else []
        failed = min(study.looks[-1].failed, runs - done) if study.looks else 0
        return StudyStatus(
            study.id, study.name, runs, done, 0, failed, runs - done - failed, None, "", study.asked, shown,
            not study.looks and any(study.study.get(kind) for kind in ("tune", "bisect", "search")),
        )  # fmt: skip
    failed = min(max(command.failed for command in alive), runs - done)
    in_flight = min(sum(command.in_flight for command in alive), runs - done - failed)
    return StudyStatus(
        study.id, study.name, runs, done, in_flight, failed, runs - done - failed - in_flight, _left(alive, now),
        max(alive, key=lambda command: command.time).said, study.asked, sorted(shown, key=lambda c: c.started),
    )  # fmt: skip


def _begin(key: str, commands: Sequence[CommandStatus], now: float) -> StudyStatus:
    """A study that the store is yet to be told of."""
    first, runs = commands[0], max(command.runs for command in commands)
    in_flight = min(runs, sum(command.in_flight for command in commands))
    left = _left(commands, now)
    return StudyStatus(
        key, first.name, runs, 0, in_flight, 0, runs - in_flight, left, first.said, first.started, commands
    )


def _left(commands: Sequence[CommandStatus], now: float) -> float | None:
    """Seconds until the last of several commands ends, less the age of what it noted."""
    each = [c.seconds_left - (now - c.time) for c in commands if c.seconds_left is not None]
    return max(0.0, *each) if each else None


def as_documents(studies: Sequence[StudyStatus], now: float) -> Sequence[Mapping[str, Any]]:
    """The same as plain data; of commands also how long ago they noted something, and whether they are silent."""
    return [
        {
            **asdict(study),
            "commands": [
                {**asdict(each), "silent": each.silent(now), "seconds_ago": max(0.0, now - each.time)}
                for each in study.commands
            ],
        }
        for study in studies
    ]
