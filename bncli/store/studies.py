"""What a store remembers of studies: the question, which runs answer it, and when somebody looked."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bncli.code_hash import VERSION
from bncli.errors import DamageError, StoreError
from bncli.files import (
    digest,
    folder_written_atomically,
    is_intact,
    read_json,
    reading,
    set_aside,
    with_digest,
    write_atomically,
)
from bncli.store.folder import Store
from bncli.store.packs import list_folder

SCHEMA = 1
NOT_ASKED = ("seeds", "looks", "question")  # how much of an answer, and how the question is worded
NAME = re.compile(r"[\w-][\w.-]{0,99}")  # of a run, a job, a study: what can be a file's name and no other place


def study_id(study: Mapping[str, Any]) -> str:
    """Name a study, as plain JSON, by what it asks.

    More seeds are the same study with another look at it, and so is another wording: neither `seeds`, `looks`,
    `question`, nor the `source` of a claim counts. Nor does what is empty (null, a list or mapping without content), so
    that a key that a later version adds with an empty default leaves the ids of today.
    """
    asked = {key: value for key, value in study.items() if key not in NOT_ASKED}
    claims = asked.get("claims") or ()
    asked["claims"] = [{key: value for key, value in claim.items() if key != "source"} for claim in claims]
    return digest(_without_empty(asked))[:20]


def _utc_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Look:
    """One reporting of a study: what somebody could have stopped at."""

    name: str  # of the preset then
    seeds: tuple[int, ...]
    device: str
    planned: int  # runs
    done: int  # of them, trained to their end or diverged
    failed: int = 0
    summary: str = ""  # the answer, in words
    time: str = field(default_factory=_utc_now)  # UTC, ISO 8601 to the second: 2026-03-02T14:05:01Z
    looks: tuple[int, ...] = ()  # the plan that it belongs to: numbers of seeds at which the study is looked at

    @property
    def seconds(self) -> float:
        """Its time, in seconds since 1970."""
        return datetime.fromisoformat(self.time).timestamp()


@dataclass(frozen=True)
class Plan:
    """The runs that a study asked for at one number of seeds, and the jobs that train them."""

    name: str
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    jobs: tuple[str, ...]
    asked: float  # when last, in seconds since 1970


@dataclass(frozen=True)
class StoredStudy:
    """A study with everything that was ever planned for it and reported of it."""

    id: str
    question: str
    study: Mapping[str, Any]  # as it was when first remembered
    plans: Sequence[Plan]
    looks: Sequence[Look]  # oldest first
    stored: frozenset[str]  # which planned runs the store has

    @property
    def name(self) -> str:
        """What it was called when last looked at, or else when last planned."""
        return self.looks[-1].name if self.looks else max(self.plans, key=lambda plan: plan.asked).name

    @property
    def names(self) -> frozenset[str]:
        """Everything that it was ever called."""
        return frozenset([plan.name for plan in self.plans] + [look.name for look in self.looks])

    @property
    def asked(self) -> float:
        """When it was last planned or looked at, in seconds since 1970."""
        return max([plan.asked for plan in self.plans] + [look.seconds for look in self.looks])

    @property
    def planned(self) -> frozenset[str]:
        """The ids of all runs that were ever planned for it."""
        return frozenset(run for plan in self.plans for run in plan.runs)

    @property
    def seeds(self) -> frozenset[int]:
        """All seeds that were ever planned."""
        return frozenset(seed for plan in self.plans for seed in plan.seeds)


class Studies:
    """Studies under `folder`/studies/ID: `study.json`, and a file for each plan and each look.

    Files are written whole and never changed, each carries a digest of what it says, and the names of plans and looks
    follow from their content: any number of processes may write, and folders of several machines merge by copying.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._studies, self._store = folder, folder / "studies", Store(folder)

    def remember(
        self, name: str, study: Mapping[str, Any], run_ids: Sequence[str], job_ids: Sequence[str] = ()
    ) -> str:  # fmt: skip
        """Remember that a study was asked, before its runs are trained; and again when a search plans more of them.

        Args:
            name: of the preset.
            study: as plain JSON, with its `seeds`.
            run_ids: of the runs that it plans, those of a search too.
            job_ids: of the jobs that train them, by which their checkpoints are known.

        A damaged file in the place of one of these is set aside.

        Returns:
            The study's id.

        Raises:
            StoreError: if it cannot be written.
        """
        key = study_id(study)
        place = self._studies / key
        head = {"schema": SCHEMA, "id": key, "name": name, "question": study.get("question", ""), "bncli": VERSION}
        plan = {"schema": SCHEMA, "name": name, "seeds": study.get("seeds", ()), "runs": run_ids, "jobs": job_ids}
        try:
            for folder in (place, place / "plans", place / "looks"):
                if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
                    set_aside(folder, self.folder / "set-aside")
            if os.path.lexists(place / "study.json"):
                self._make_room(place / "study.json")
            if not os.path.lexists(place / "study.json"):
                self._write_new(place, with_digest({**head, "study": study}), with_digest(plan))
            file = self._write_named(place / "plans", "", with_digest(plan))
        except OSError as error:
            raise _unwritable(place, error) from None
        with suppress(OSError):  # of another user, or in a store that is only read
            os.utime(file)  # it was asked now
        return key

    def add_look(self, key: str, look: Look) -> None:
        """Keep that a remembered study was reported.

        Raises:
            StoreError: if it cannot be written.
        """
        place = self._studies / key
        try:
            moment = re.sub("[:-]", "", look.time)
            self._write_named(
                place / "looks", f"{moment}-", with_digest({"schema": SCHEMA, **_without_empty(asdict(look))})
            )
        except OSError as error:
            raise _unwritable(place, error) from None

    def ids(self) -> Sequence[str]:
        """Of all studies here, ascending.

        Raises:
            StoreError: if the folder cannot be read.
        """
        return [name for name in list_folder(self._studies) if NAME.fullmatch(name) and (self._studies / name).is_dir()]

    def list(self, *, looks_needed: bool = True) -> Sequence[StoredStudy]:
        """All studies, the last asked first. Raises as `read`."""
        return sort_studies(self.read(key, looks_needed=looks_needed) for key in self.ids())

    def read(self, key: str, *, looks_needed: bool = True) -> StoredStudy:
        """Read one study; damaged looks are left out where looks are not needed.

        Raises:
            StoreError: if a file of it is damaged, foreign, or newer than this bncli.
        """
        place = self._studies / key
        if place.is_symlink():
            raise DamageError(place, "it is a link, which is not followed", _remedy(place))
        head = read_document(place / "study.json")
        if not isinstance(head.get("study"), Mapping):
            raise DamageError(place / "study.json", "it does not say what was asked", _remedy(place))
        plans = [_plan(file) for file in _documents(place / "plans")]
        if not plans:
            raise DamageError(place, "it has no plan", _remedy(place))
        looks = list[Look]()
        for file in _documents(place / "looks"):
            with suppress(*[] if looks_needed else [StoreError]):
                looks.append(_look(file))
        stored = self._store.select_stored(run for plan in plans for run in plan.runs)
        return StoredStudy(
            key, str(head.get("question", "")), head["study"], plans, sorted(looks, key=lambda look: look.time), stored
        )

    def problems(self, key: str) -> Iterator[str]:
        """What of one study cannot be read, one line a file with the way out."""
        place = self._studies / key
        readers: list[tuple[Callable[[Path], object], Iterator[Path]]] = [
            (read_document, iter([place / "study.json"])),
            (_plan, _documents(place / "plans")),
            (_look, _documents(place / "looks")),
        ]
        found = False
        for read, files in readers:
            for file in files:
                try:
                    read(file)
                except StoreError as error:
                    found = True
                    yield str(error)
        if not found:
            try:
                self.read(key)
            except StoreError as error:
                yield str(error)

    def _write_new(self, place: Path, head: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        text = json.dumps(head, indent=1)
        if place.exists():  # a damaged study.json was set aside or deleted
            return write_atomically(place / "study.json", text)
        self._studies.mkdir(parents=True, exist_ok=True)
        try:
            with folder_written_atomically(place) as working:
                (working / "study.json").write_text(text, encoding="utf-8")
                self._write_named(working / "plans", "", plan)
        except OSError:
            if not (place / "study.json").exists():  # else another process was faster with the same study
                raise

    def _write_named(self, folder: Path, start: str, document: Mapping[str, Any]) -> Path:
        """Write a document under a name that follows from what it says; a good one that is there already stays."""
        file = folder / f"{start}{document['digest'][:16]}.json"
        folder.mkdir(exist_ok=True)
        if os.path.lexists(file):
            self._make_room(file)
        if not os.path.lexists(file):
            write_atomically(file, json.dumps(document, indent=1))
        return file

    def _make_room(self, file: Path) -> None:
        """Set a damaged file aside."""
        try:
            read_document(file)
        except DamageError:
            with suppress(FileNotFoundError):  # another process was faster
                set_aside(file, self.folder / "set-aside")


def sort_studies(studies: Iterable[StoredStudy]) -> Sequence[StoredStudy]:
    """The last asked first."""
    return sorted(studies, key=lambda study: study.asked, reverse=True)


def read_document(file: Path) -> Mapping[str, Any]:
    """Read a file of a study, as it was written.

    Raises:
        DamageError: if it is damaged or foreign.
        StoreError: if it is newer than this bncli.
    """
    with reading(file, _remedy(file)):
        document = read_json(file)
        schema = document.get("schema")
        if type(schema) is not int or schema < 1:
            raise ValueError(f"not a file of bncli: schema {schema!r}")
        if not is_intact(document):
            raise ValueError("it is not what was written")
        is_head = file.name == "study.json"
        if is_head and document.get("id") != file.parent.name:
            raise ValueError(f"it is that of study {document.get('id')}")
        if not is_head and not file.stem.endswith(document["digest"][:16]):
            raise ValueError("it is another under this name")
        if schema > SCHEMA:
            raise StoreError(f"{file}: schema {schema}, this bncli reads up to {SCHEMA}; update bncli")
    return document


def _documents(folder: Path) -> Iterator[Path]:
    """The files of a folder that are in their place."""
    return (file for file in sorted(folder.glob("*.json")) if file.name[0] != ".")


def _plan(file: Path) -> Plan:
    found = read_document(file)
    with reading(file, _remedy(file)):
        plan = Plan(
            found["name"], tuple(found["seeds"]), tuple(found["runs"]), tuple(found["jobs"]), file.stat().st_mtime
        )
        _check(plan.name, plan.seeds, ())
        for name in (*plan.runs, *plan.jobs):
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no run's id")
    return plan


def _look(file: Path) -> Look:
    fields = {key: value for key, value in read_document(file).items() if key not in ("schema", "digest")}
    with reading(file, _remedy(file)):
        look = Look(**{**fields, "seeds": tuple(fields["seeds"]), "looks": tuple(fields.get("looks", ()))})
        _check(look.name, look.seeds, (look.planned, look.done, look.failed, *look.looks))
        if not isinstance(look.device, str) or not isinstance(look.summary, str):
            raise ValueError("its device or its summary is no text")
        datetime.fromisoformat(look.time)
    return look


def _check(name: str, seeds: Sequence[int], counts: Sequence[int]) -> None:
    if not isinstance(name, str):
        raise ValueError("its name is no text")
    if not all(type(number) is int and number >= 0 for number in (*seeds, *counts)):
        raise ValueError("a seed or a count is no whole number")


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: _without_empty(each) for key, each in value.items()}
        return {key: each for key, each in kept.items() if each not in (None, [], {})}
    return [_without_empty(each) for each in value] if isinstance(value, list | tuple) else value


def _unwritable(place: Path, error: OSError) -> StoreError:
    return StoreError(f"{place}: cannot write ({error.strerror}); free the space or choose another --store")


def _remedy(file: Path) -> str:
    then = "that look is then forgotten" if file.parent.name == "looks" else "the study's next command writes it anew"
    return f"delete it: {then}"
