"""A folder with one immutable record for each finished run."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bncli.errors import DamageError, StoreError, UndecidedError, as_line, expect, expect_text
from bncli.files import (
    add_digests,
    beside,
    check_digests,
    folder_written_atomically,
    is_intact,
    read_bytes,
    read_json,
    reading,
    set_aside,
    with_digest,
    write_atomically,
)
from bncli.records import Record, RunResult
from bncli.store.arrays import ARRAYS_BYTES
from bncli.store.baselines import check_baseline
from bncli.store.copies import Copies, stamp_of
from bncli.store.pack import (
    check_run,
    migrate_findings,
    read_curves,
    read_info,
    read_packed,
    write_curves,
)
from bncli.store.packs import Packs, list_folder, unwritable

SCHEMA = 2
PACKED_FROM = 500  # runs; reading fewer one by one takes less than a second
NAME_BYTES = 255  # of a file, on most file systems
BASELINE_BYTES = 2**28  # a baseline of 25 runs has 1,200,000
ATTEMPTS = 5  # to put a run in its place, while other processes put theirs there or set aside what is there
PROBE_BYTES = 2**16  # written before training: a run of quickstart takes 12,000
TRAIN_AGAIN = "delete that folder to train the run again"
# of record.json from version n to n + 1, applied at read; 2 has other columns of curves (store/curves.py)
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: dict}


class Store:
    """Finished runs under `folder`/runs/ID: `record.json`, and the measured curves in `curves.npz`.

    A run is written to a temporary folder, synced and renamed, so it is there whole or not at all. Any number of
    processes may write; folders of several machines merge by copying. Runs by the thousand go into `packs` instead.
    Beside them, checkpoints/JOB/ holds the state of a job while it trains.

    Raises:
        ConfigError: if `folder` is neither a path nor a text.
    """

    def __init__(self, folder: Path | str) -> None:
        expect("folder", folder, folder is not None, "a path")
        expect_text("a path", folder=folder)
        self.folder = folder = Path(folder)
        self.aside = folder / "set-aside"  # where damaged and foreign things go that stood in the place of a run
        self.packs = Packs(folder)
        self.copies = Copies(folder)
        self._runs = folder / "runs"
        self._folders: int | None = None  # how many runs have one; None: not counted yet

    def checkpoints(self, job_id: str) -> Path:
        """Where a job keeps its checkpoints; made by the first."""
        return self.folder / "checkpoints" / job_id

    def drop_checkpoints(self, job_id: str) -> None:
        """Forget a job's checkpoints: its results are stored."""
        shutil.rmtree(self.checkpoints(job_id), ignore_errors=True)

    def prepare(self) -> None:
        """Make sure that results can be written, before anything is trained; packs that were found damaged are mended.

        Raises:
            StoreError: if they cannot.
        """
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            write_atomically(probe := beside(self._runs / "probe"), bytes(PROBE_BYTES))
            probe.unlink()
            self.packs.mend(self.aside)
        except OSError as error:
            why = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
            raise StoreError(f"{self._runs}: cannot write here ({why}); choose another --store") from None

    def run_ids(self) -> Sequence[str]:
        """The ids of all runs that are stored here, ascending.

        Raises:
            StoreError: if the folder cannot be read.
        """
        return sorted({*filter(self._has_folder, list_folder(self._runs)), *self.packs.lines()})

    def __contains__(self, run_id: str) -> bool:
        return self._has_folder(run_id) or run_id in self.packs

    def select_stored(self, run_ids: Iterable[str]) -> frozenset[str]:
        """Those of many runs that are here."""
        packed = self.packs.lines()
        return frozenset(run_id for run_id in run_ids if run_id in packed or self._has_folder(run_id))

    def _has_folder(self, run_id: str) -> bool:
        return os.path.exists(f"{self._runs}/{run_id}/record.json")  # noqa: PTH110 - Path.exists raises for long names

    def place(self, run_id: str) -> Path:
        """Where a run is: its folder, or FILE:LINE of a pack."""
        return self.packs.lines()[run_id].place if run_id in self.packs else self._runs / run_id

    def read(self, run_id: str) -> RunResult:
        """Read one run.

        Raises:
            DamageError: if its files are damaged, foreign, or say what cannot be.
            StoreError: if it is newer than this bncli.
        """
        return self.packs.read(run_id) if run_id in self.packs else self.read_folder(run_id)

    def read_folder(self, run_id: str) -> RunResult:
        """Read one run from its folder. Raises as `read`."""
        return self._read_folder(run_id, read_curves)

    def _read_packed(self, run_id: str) -> RunResult:
        return self._read_folder(run_id, read_packed)

    def _read_folder(self, run_id: str, read: Callable[[bytes, int], Sequence[Record]]) -> RunResult:
        place = self._runs / run_id
        with reading(place, TRAIN_AGAIN):
            if place.is_symlink():
                raise ValueError("it is a link, which is not followed")
            stored = read_json(place / "record.json")
            document = _migrate(place, stored)
            curves = read_bytes(place / "curves.npz", ARRAYS_BYTES)
            check_digests(stored, {"curves.npz": curves})
            result = RunResult(document["spec"], read_info(document["info"]), read(curves, stored["schema"]))
            if result.info.id != run_id:
                raise ValueError(f"it is the record of run {result.info.id}")
            check_run(result)
        return result

    def read_intact(self, run_ids: Iterable[str]) -> tuple[dict[str, RunResult], dict[str, DamageError]]:
        """Read what there is of many runs, by id; and what is wrong with those that are there but damaged.

        Hundreds of folders come from their copies, which are made where many lack one. Where runs are missing, what is
        damaged in packs counts too, by its place where it does not say of which run it is.

        Raises:
            StoreError: if some are newer than this bncli, with a line for each.
        """
        found, damaged, newer = dict[str, RunResult](), dict[str, DamageError](), list[str]()
        asked = dict.fromkeys(run_ids)
        packed = dict(self.packs.read_many(asked))
        many = len(asked) - len(packed) >= PACKED_FROM
        stamps = self.copies.stamps(run_id for run_id in asked if run_id not in packed) if many else {}
        copied, read = self.copies.read(stamps) if stamps else {}, self._read_packed if many else self.read_folder
        for run_id in asked:
            result = packed.get(run_id) or copied.get(run_id)
            try:
                if isinstance(result, StoreError):
                    raise result
                if result or os.path.lexists(f"{self._runs}/{run_id}"):
                    found[run_id] = result or read(run_id)
            except DamageError as error:
                damaged[run_id] = error
            except StoreError as error:
                newer.append(str(error))
        if newer:
            raise StoreError("\n".join(newer))
        if len(found) < len(asked):
            damaged |= {key: error for key, error in self.packs.damaged().items() if key not in found}
        fresh = [(found[key], stamp) for key, stamp in stamps.items() if key in found and key not in copied]
        if len(fresh) >= PACKED_FROM // 2:
            self.copies.drop_stale()
            self.copies.add(fresh)
        return found, damaged

    def read_all(self, run_ids: Iterable[str]) -> dict[str, RunResult]:
        """Read many runs, by id, all of which must be there.

        Raises:
            StoreError: as `read`.
        """
        ids = list(run_ids)
        found, _ = self.read_intact(ids)
        return {run_id: found.get(run_id) or self.read(run_id) for run_id in ids}

    def write(self, result: RunResult) -> str:
        """Write one run; one that is there already and can be read stays as it is.

        Returns:
            A line that names what was in its place and had to be set aside; empty if nothing was.

        Raises:
            StoreError: if it cannot be written; what was stored before stays intact.
        """
        place, said = self._runs / result.info.id, ""
        if result.info.id in self.packs:
            return said
        for attempt in range(ATTEMPTS):
            try:
                if os.path.lexists(place):
                    try:
                        self.read_folder(result.info.id)
                    except DamageError as damage:
                        with suppress(FileNotFoundError):  # another process was faster
                            moved = set_aside(place, self.aside)
                            said = f"{place}: could not be read ({damage.why}); it is in {moved} now, the run is stored"
                    else:
                        return said
                with folder_written_atomically(place) as working:
                    self._fill(working, result)
                    add_digests(working)
                    stamp = stamp_of(working)  # renaming leaves it; and who is faster has another
            except OSError as error:
                if os.path.lexists(place) and attempt < ATTEMPTS - 1:  # another process was faster
                    continue
                raise unwritable(place, error) from None
            if self._has_many():
                self.copies.add([(result, stamp)])
            break
        return said

    def _has_many(self) -> bool:
        """Whether there are so many folders that copies pay: those that there were, and those written since."""
        self._folders = len(list_folder(self._runs)) if self._folders is None else self._folders + 1
        return self._folders >= PACKED_FROM

    def append(self, results: Sequence[RunResult]) -> Mapping[str, str]:
        """Write many runs into a pack, in a tenth of the time; where a folder is there, as `write` does.

        Returns:
            What `write` says of runs, by id.

        Raises:
            StoreError: if they cannot be written; what was stored before stays intact.
        """
        known = self.packs.lines()
        apart = [result for result in results if os.path.lexists(f"{self._runs}/{result.info.id}")]
        said = {result.info.id: self.write(result) for result in apart}
        self.packs.append([result for result in results if result.info.id not in known and result.info.id not in said])
        return said

    def baseline(self, name: str) -> Path:
        """Where a baseline is kept: by name here, or in a file of its own (`ci/main.json`).

        Raises:
            StoreError: if no file can have that name.
        """
        is_file = name.endswith(".json") or len(Path(name).parts) > 1
        place = Path(name) if is_file else self.folder / "baselines" / f"{name}.json"
        if (size := len(os.fsencode(place.name))) > NAME_BYTES:
            raise StoreError(
                as_line(f"{name:.40}...: a file's name may have {NAME_BYTES} bytes, not {size}; choose another")
            )
        return place

    def write_baseline(self, name: str, document: Mapping[str, Any]) -> Path:
        """Write a baseline in the place of the one before, whole or not at all.

        Raises:
            StoreError: if it cannot be written.
        """
        place, text = self.baseline(name), json.dumps(with_digest(document), indent=1, allow_nan=False)
        if (size := len(text)) > BASELINE_BYTES:
            raise StoreError(f"{place}: a baseline may have {BASELINE_BYTES:,} bytes, not {size:,}; probe less often")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(place, text)
        except OSError as error:
            raise StoreError(f"{place}: cannot write ({error.strerror}); choose another place") from None
        return place

    def read_baseline(self, name: str) -> dict[str, Any]:
        """Read what `write_baseline` wrote, also where an older bncli did, without a digest.

        Raises:
            UndecidedError: if there is none.
            DamageError: if it cannot be read, or lacks what a gate asks of it.
        """
        place = self.baseline(name)
        if not os.path.lexists(place) and not place.parent.is_file():
            raise UndecidedError(f"{place}: there is no such baseline; make one with --save-baseline {name}")
        with reading(place, "save the baseline anew"):
            document = read_json(place, BASELINE_BYTES, follow=True)
            if "digest" in document and not is_intact(document):
                raise ValueError("it is not what was written")
            found = migrate_findings({key: value for key, value in document.items() if key != "digest"})
            check_baseline(found)
        return found

    def _fill(self, folder: Path, result: RunResult) -> None:
        with (folder / "curves.npz").open("wb") as file:
            write_curves(file, result.records)
        document = {"schema": SCHEMA, "spec": result.spec, "info": asdict(result.info)}
        (folder / "record.json").write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def _migrate(place: Path, document: dict[str, Any]) -> dict[str, Any]:
    """A record as it would have been written today."""
    schema = document.get("schema")
    if type(schema) is not int or schema < 1:
        raise ValueError(f"not a record of bncli: schema {schema!r}")
    if schema > SCHEMA and is_intact(document):
        raise StoreError(f"{place}: schema {schema}, this bncli reads up to {SCHEMA}; update bncli")
    if schema > SCHEMA:
        raise ValueError("record.json is not what was written")
    for version in range(schema, SCHEMA):
        document = MIGRATIONS[version](document)
    return document


def require_store(folder: Path) -> None:
    """Raise a StoreError where there is no store, so that a mistyped folder is not taken for an empty one."""
    is_folder = os.path.isdir  # Path.is_dir raises for names that are too long
    if not any(is_folder(folder / name) for name in ("runs", "packs", "studies", "baselines", "sources")):
        inside = folder / ".bncli"
        near = f"; did you mean {inside}?" if is_folder(inside) else "; --store names another"
        raise StoreError(f"{folder}: there is no store of bncli{near}")


def stores_in(folder: Path) -> Sequence[Path]:
    """A store, and those inside it of the gate for learning: one for each state of the code."""
    return [folder, *(place for place in sorted((folder / "sources").glob("[!.]*")) if place.is_dir())]
