"""A folder with one immutable record for each finished run."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from bncli.errors import StoreError, UndecidedError
from bncli.files import add_digests, folder_written_atomically, write_atomically
from bncli.records import RunInfo, RunResult
from bncli.store.pack import Pack, load_pack, migrate_findings, read_curves, write_curves

SCHEMA = 2
PACKED_FROM = 500  # runs; reading fewer one by one takes less than a second
# of record.json from version n to n + 1, applied at read; 2 has other columns of curves (store/curves.py)
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: dict}


class Store:
    """Finished runs under `folder`/runs/ID: `record.json`, and the measured curves in `curves.npz`.

    A run is written to a temporary folder, synced and renamed, so it is there whole or not at all. Any number of
    processes may write; folders of several machines merge by copying. Beside them, checkpoints/JOB/ holds the state of
    a job while it trains.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs = folder / "runs"

    def checkpoints(self, job_id: str) -> Path:
        """Where a job keeps its checkpoints; made by the first."""
        return self.folder / "checkpoints" / job_id

    def drop_checkpoints(self, job_id: str) -> None:
        """Forget a job's checkpoints: its results are stored."""
        shutil.rmtree(self.checkpoints(job_id), ignore_errors=True)

    def prepare(self) -> None:
        """Make sure that results can be written, before anything is trained for them.

        Raises:
            StoreError: if they cannot.
        """
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._runs).close()
        except OSError as error:
            raise StoreError(f"{self._runs}: cannot write here ({error.strerror}); choose another --store") from None

    def run_ids(self) -> Sequence[str]:
        """The ids of all runs that are stored here, ascending."""
        try:
            names = sorted(entry.name for entry in os.scandir(self._runs) if entry.is_dir() and entry.name[0] != ".")
        except FileNotFoundError:
            return []
        return [name for name in names if name in self]

    def __contains__(self, run_id: str) -> bool:
        return (self._runs / run_id / "record.json").exists()

    def read(self, run_id: str) -> RunResult:
        """Read one run.

        Raises:
            StoreError: if its files are corrupt, foreign or newer than this bncli.
        """
        place = self._runs / run_id
        stored = self._document(place)
        document = self._migrated(place, stored)
        try:
            info = RunInfo(**document["info"])
            with (place / "curves.npz").open("rb") as file:
                records = read_curves(file, stored["schema"])
            spec = document["spec"]
        except Exception as error:  # a flipped bit comes as an error of zip, of zlib, of numpy, or as a wrong type
            raise _unreadable(place, error) from None
        if info.id != run_id:
            raise _unreadable(place, f"it is the record of run {info.id}")
        return RunResult(spec, info, records)

    def read_all(self, run_ids: Iterable[str]) -> dict[str, RunResult]:
        """Read many runs, by id; hundreds of them from one file, `pack.npz`, which is made where it lacks many.

        Raises:
            StoreError: as `read`.
        """
        ids = list(run_ids)
        if len(ids) < PACKED_FROM:
            return {run_id: self.read(run_id) for run_id in ids}
        made = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(self._runs) if entry.name[0] != "."}
        kept = self._pack(made)
        found = {run_id: kept[run_id] if run_id in kept else self.read(run_id) for run_id in ids}
        fresh = {run_id: run for run_id, run in found.items() if run_id not in kept}
        if len(fresh) >= PACKED_FROM // 2:
            self._write_pack(Pack({**kept, **fresh}, made))
        return found

    def _pack(self, made: Mapping[str, int]) -> Mapping[str, RunResult]:
        """Runs of the pack whose folders are still those that were packed; none where it cannot be used."""
        try:
            pack = load_pack((self.folder / "pack.npz").read_bytes())
        except (OSError, KeyError, TypeError, ValueError, EOFError, BadZipFile):
            return {}
        return {run_id: run for run_id, run in pack.runs.items() if made.get(run_id) == pack.made[run_id]}

    def _write_pack(self, pack: Pack) -> None:
        """Write the pack, or do without: every run is in its own folder too."""
        with suppress(OSError):
            write_atomically(self.folder / "pack.npz", pack.dump(), durable=False)

    def write(self, result: RunResult) -> None:
        """Write one run; a run that is there already stays as it is.

        Raises:
            StoreError: if it cannot be written; what was stored before stays intact.
        """
        place = self._runs / result.info.id
        if result.info.id in self:
            return
        try:
            with folder_written_atomically(place) as working:
                self._fill(working, result)
                add_digests(working)
        except OSError as error:
            if result.info.id in self:  # another process was faster with the same run
                return
            raise StoreError(
                f"{place}: cannot write ({error.strerror}); runs stored before are intact: free the space or choose"
                " another --store, and run the same command again"
            ) from None

    def baseline(self, name: str) -> Path:
        """Where a baseline is kept: by name here, or in a file of its own (`ci/main.json`)."""
        is_file = name.endswith(".json") or len(Path(name).parts) > 1
        return Path(name) if is_file else self.folder / "baselines" / f"{name}.json"

    def write_baseline(self, name: str, document: Mapping[str, Any]) -> Path:
        """Write a baseline in the place of the one before, whole or not at all.

        Raises:
            StoreError: if it cannot be written.
        """
        place = self.baseline(name)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(place, json.dumps(document, indent=1, allow_nan=False))
        except OSError as error:
            raise StoreError(f"{place}: cannot write ({error.strerror}); choose another place") from None
        return place

    def read_baseline(self, name: str) -> dict[str, Any]:
        """Read what `write_baseline` wrote, also where an older bncli did.

        Raises:
            UndecidedError: if there is none.
            StoreError: if it cannot be read.
        """
        place = self.baseline(name)
        try:
            document = json.loads(place.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UndecidedError(f"{place}: there is no such baseline; make one with --save-baseline {name}") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{place}: cannot be read ({error}); save the baseline anew") from None
        if not isinstance(document, dict):
            raise StoreError(f"{place}: not a baseline of bncli; save it anew")
        return migrate_findings(document)

    def _fill(self, folder: Path, result: RunResult) -> None:
        with (folder / "curves.npz").open("wb") as file:
            write_curves(file, result.records)
        document = {"schema": SCHEMA, "spec": result.spec, "info": asdict(result.info)}
        with (folder / "record.json").open("w", encoding="utf-8") as text:
            json.dump(document, text, indent=1, allow_nan=False)

    def _document(self, place: Path) -> dict[str, Any]:
        try:
            document = json.loads((place / "record.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _unreadable(place, error) from None
        if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
            raise _unreadable(place, "not a record of bncli")
        return document

    def _migrated(self, place: Path, document: dict[str, Any]) -> dict[str, Any]:
        if document["schema"] > SCHEMA:
            raise StoreError(f"{place}: schema {document['schema']}, this bncli reads up to {SCHEMA}; update bncli")
        for version in range(document["schema"], SCHEMA):
            document = MIGRATIONS[version](document)
        return document


def require_store(folder: Path) -> None:
    """Raise a StoreError where there is no store, so that a mistyped folder is not taken for an empty one."""
    if not any((folder / name).is_dir() for name in ("runs", "studies", "baselines", "sources")):
        inside = folder / ".bncli"
        near = f"; did you mean {inside}?" if inside.is_dir() else "; --store names another"
        raise StoreError(f"{folder}: there is no store of bncli{near}")


def stores_in(folder: Path) -> Sequence[Path]:
    """A store, and those inside it of the gate for learning: one for each state of the code."""
    return [folder, *(place for place in sorted((folder / "sources").glob("[!.]*")) if place.is_dir())]


def _unreadable(place: Path, why: object) -> StoreError:
    return StoreError(f"{place}: cannot be read ({why}); delete that folder to train the run again")
