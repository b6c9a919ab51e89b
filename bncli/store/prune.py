"""Removes what is no longer wanted from a store: by study, run or age, and never what a kept study needs."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bncli.errors import StoreError, unknown
from bncli.files import UNFINISHED, remove_atomically
from bncli.store.folder import Store, require_store, stores_in
from bncli.store.lines import StoredLine, made
from bncli.store.packs import Packs
from bncli.store.studies import StoredStudy, Studies

DAY = 86_400.0  # seconds: what was written to within a day may still be written to
SHORTEST = 4  # characters of an id that may stand for it


@dataclass(frozen=True)
class Removal:
    """One thing to be removed."""

    kind: Literal["run", "checkpoint", "study", "copies file", "unfinished", "set aside"]
    place: Path  # of a run in a pack FILE:LINE
    size_byte: int
    line: StoredLine | None = None  # of a pack, which is written anew without it
    run: str = ""  # its id


@dataclass(frozen=True)
class Pruning:
    """What is to be removed, in this order, and how many runs are spared because a kept study needs them."""

    removals: Sequence[Removal]
    spared: int


def plan_pruning(
    folder: Path, studies: Sequence[str] = (), runs: Sequence[str] = (), older_than: float | None = None,
    now: float | None = None,
) -> Pruning:  # fmt: skip
    """Say what to remove; nothing is touched.

    Args:
        folder: a store; those of the gate for learning inside it are pruned alike.
        studies: names or ids (or how they begin); their runs go with them.
        runs: ids (or how they begin).
        older_than: seconds; alone, it selects studies last asked and runs of no study made longer ago, together with
            names only those of them that are older.
        now: seconds since 1970.

    Raises:
        StoreError: if nothing is asked for, nothing or more than one thing has that name, a kept study needs that run,
            or a study cannot be read.
    """
    if not (studies or runs or older_than is not None):
        raise StoreError("say what to prune: --study NAME, --run ID or --older-than 30d; --dry-run shows it first")
    require_store(folder)
    places = {place: Studies(place).list(looks_needed=False) for place in stores_in(folder)}
    now = time.time() if now is None else now
    since = math.inf if older_than is None else now - older_than
    known = [study for found in places.values() for study in found]
    ids = {_study_named(text, known) for text in studies}
    there = {place: _list_runs(place) for place in places}
    chosen = {_run_named(text, [name for of_store in there.values() for name in of_store]) for text in runs}
    everything = not ids and not chosen  # then age alone selects
    removals, spared = list[Removal](), 0
    for place, found in places.items():
        going = [study for study in found if (study.id in ids or everything) and study.asked <= since]
        kept = [study for study in found if study not in going]
        found_here, needed = _select_runs(there[place], going, kept, chosen, since, everything=everything)
        limit = min(since, now - DAY) if everything else -math.inf
        removals += [*found_here, *_select_checkpoints(place, going, kept, limit, now - DAY)]
        removals += [_removal("study", place / "studies" / study.id) for study in going]
        copies = [place / name for name in ("copies", "pack.npz") if found_here and (place / name).exists()]
        removals += [_removal("copies file", path) for path in copies]
        if everything:
            aside = list((place / "set-aside").glob("[!.]*"))
            removals += [_removal("set aside", path) for path in aside if _newest(path) <= limit]
        spared += needed
        silent = [path for path in (place / "status").glob("[!.]*") if _newest(path) <= now - DAY]
        removals += [_removal("unfinished", path) for path in silent]
    unfinished = (path for path in sorted(folder.rglob(f"{UNFINISHED}*")) if _newest(path) <= now - DAY)
    removals += [_removal("unfinished", path) for path in unfinished]
    return Pruning(removals, spared)


def prune(pruning: Pruning) -> Iterator[Removal]:
    """Remove one thing after the other, each at once; runs go before their study, so that what is left can be named.

    Raises:
        StoreError: if something cannot be removed; it then stays whole.
    """
    lines: dict[Path, set[str]] = {}
    for removal in pruning.removals:
        if removal.line:
            lines.setdefault(removal.line.file, set()).add(removal.run)
    for removal in pruning.removals:
        try:
            if not removal.line:
                remove_atomically(removal.place)
            elif going := lines.pop(removal.line.file, None):  # all of one pack with the first of them
                with suppress(FileNotFoundError):  # somebody else was faster
                    Packs(removal.line.file.parents[1]).rewrite(removal.line.file, going)
        except OSError as error:
            raise StoreError(f"{removal.place}: cannot be removed ({error.strerror})") from None
        yield removal


def size_byte(place: Path) -> int:
    """What a file, or all files in a folder, hold."""
    files = [place] if place.is_file() else place.rglob("*")
    return sum(_stat(file)[1] for file in files if not file.is_dir())


def _list_runs(place: Path) -> Mapping[str, tuple[Removal, float]]:
    """Every run of a store, as it would be removed, and when it was made."""
    packs = Store(place).packs
    found = {
        run: (Removal("run", line.place, line.size_byte, line, run), made(packs.raw(run)))
        for run, line in packs.lines().items()
    }
    return found | {run: (_removal("run", at), _newest(at)) for run, at in _folders(place / "runs").items()}


def _select_runs(
    there: Mapping[str, tuple[Removal, float]], going: Sequence[StoredStudy], kept: Sequence[StoredStudy],
    chosen: set[str], since: float, *, everything: bool,
) -> tuple[list[Removal], int]:  # fmt: skip
    needed = {run: study for study in kept for run in study.planned}
    for run in sorted(chosen & needed.keys() & there.keys()):
        study = needed[run]
        raise StoreError(
            f"--run {run}: study {study.name!r} needs it; remove that too (--study {study.id}), or delete"
            f" {there[run][0].place} to train the run again"
        )
    planned = {run for study in going for run in study.planned}
    old = {run for run, (_, time_made) in there.items() if time_made <= since}
    wanted = (planned & there.keys()) | (old if everything else chosen & old)
    spared = len(planned & needed.keys() & there.keys())
    return [there[run][0] for run in sorted(wanted - needed.keys())], spared


def _select_checkpoints(
    place: Path, going: Sequence[StoredStudy], kept: Sequence[StoredStudy], since: float, quiet: float
) -> list[Removal]:
    """Checkpoints that no kept study continues from: of jobs that studies name, and of others from before `since`.

    One that was written to after `quiet` is left alone: a process may be training from it.
    """
    plans = [(study, plan) for study in kept for plan in study.plans]
    needed = {job for study, plan in plans for job in plan.jobs if not study.stored.issuperset(plan.runs)}
    named = {job for study in (*going, *kept) for plan in study.plans for job in plan.jobs}
    found = {job: (folder, _newest(folder)) for job, folder in _folders(place / "checkpoints").items()}
    return [
        _removal("checkpoint", folder)
        for job, (folder, newest) in found.items()
        if job not in needed and newest <= (quiet if job in named else since)
    ]


def _study_named(text: str, known: Sequence[StoredStudy]) -> str:
    found = {study.id for study in known if text in study.names or text == study.id}
    found = found or {study.id for study in known if len(text) >= SHORTEST and study.id.startswith(text)}
    if not known:
        raise StoreError(f"--study {text}: the store remembers no studies; remove by --run or --older-than")
    if not found:
        raise StoreError(f"--study {text}: {unknown('study', text, {name for each in known for name in each.names})}")
    return _only(f"--study {text}", "studies", found)


def _run_named(text: str, known: Sequence[str]) -> str:
    found = {name for name in known if name == text or (len(text) >= SHORTEST and name.startswith(text))}
    if not found:
        raise StoreError(f"--run {text}: there is no such run")
    return _only(f"--run {text}", "runs", found)


def _only(place: str, what: str, found: set[str]) -> str:
    if len(found) > 1:
        raise StoreError(f"{place}: {len(found)} {what} are called so; choose by id: {', '.join(sorted(found))}")
    return found.pop()


def _folders(folder: Path) -> Mapping[str, Path]:
    return {path.name: path for path in sorted(folder.glob("[!.]*")) if path.is_dir()}


def _removal(
    kind: Literal["run", "checkpoint", "study", "copies file", "unfinished", "set aside"], place: Path
) -> Removal:
    return Removal(kind, place, size_byte(place))


def _newest(place: Path) -> float:
    """When a file was last written, or the newest file in a folder, in seconds since 1970."""
    files = [file for file in place.rglob("*") if not file.is_dir()] if place.is_dir() else []
    return max(_stat(file)[0] for file in files or [place])


def _stat(file: Path) -> tuple[float, int]:
    """(when it was last written, its size); of a file that is gone by now: (now, 0)."""
    try:
        found = file.stat()
    except OSError:
        return time.time(), 0
    return found.st_mtime, found.st_size
