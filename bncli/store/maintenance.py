"""Joins stores, with what they refuse to mix; and reads everything once to find what is damaged, with the remedy."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bncli.errors import StoreError
from bncli.files import damaged_files, folder_written_atomically, write_atomically
from bncli.store.folder import Store, require_store, stores_in
from bncli.store.studies import Studies, read_document, study_id

Kind = Literal["run", "study", "baseline", "checkpoint"]


@dataclass(frozen=True)
class Checked:
    """One thing that was read, and what is wrong with it: a line with the place and the way out, or nothing."""

    kind: Kind
    problem: str = ""


def verify(folder: Path) -> Iterator[Checked]:
    """Read every run, study, baseline and checkpoint once; the pack is only a copy, made anew where it is damaged."""
    for place in stores_in(folder):
        store, studies = Store(place), Studies(place)
        for run in _content(place / "runs"):
            yield from (Checked("run", problem) for problem in run_problems(store, run) or [""])
        for study in _content(place / "studies"):
            yield from (Checked("study", problem) for problem in _study_problems(studies, study) or [""])
        for file in _content(place / "baselines"):
            yield Checked("baseline", _baseline_problem(store, file))
        for job in _content(place / "checkpoints"):
            yield from (Checked("checkpoint", _checkpoint_problem(file)) for file in sorted(job.glob("[!.]*")))


def run_problems(store: Store, place: Path) -> list[str]:
    """What is wrong with the folder of one run, one line each."""
    if not ((place / "record.json").exists() or (place / "curves.npz").exists()):
        return [_foreign(place, "a run")]
    try:
        document = json.loads((place / "record.json").read_text(encoding="utf-8"))
        damage = ", ".join(damaged_files(place, document))
        if not damage:
            store.read(place.name)
    except StoreError as error:
        return [str(error)]
    except Exception as error:  # a damaged archive raises what it likes
        damage = f"{type(error).__name__}: {error.strerror if isinstance(error, OSError) else error}"
    if damage:
        return [f"{place}: cannot be read ({damage}); delete that folder to train the run again"]
    known = {"record.json", "curves.npz", *document.get("files", ())}
    return [_foreign(file, "a file") for file in _content(place) if file.name not in known]


def _study_problems(studies: Studies, place: Path) -> list[str]:
    if not ((place / "study.json").exists() or (place / "plans").exists()):
        return [_foreign(place, "a study")]
    return list(studies.problems(place.name))


def _baseline_problem(store: Store, file: Path) -> str:
    if file.suffix != ".json":
        return _foreign(file, "a baseline")
    try:
        store.read_baseline(str(file))
    except StoreError as error:
        return str(error)
    return ""


def _checkpoint_problem(file: Path) -> str:
    """A checkpoint's name ends with the digest of its content (engine/state.py)."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:  # its job went on meanwhile
        return ""
    if file.stem.endswith(f"-{hashlib.sha256(content).hexdigest()[:16]}"):
        return ""
    return f"{file}: a damaged checkpoint; delete it: training goes on from the one before"


def _content(folder: Path) -> list[Path]:
    """What is in a folder, without what is being written."""
    return sorted(path for path in folder.glob("*") if path.name[0] != ".")


def _foreign(place: Path, what: str) -> str:
    return f"{place}: not {what} of bncli; move it elsewhere or delete it"


@dataclass(frozen=True)
class Merged:
    """What became of one thing: copied, there already, or refused with a line that says why."""

    kind: Kind | Literal["plan", "look"]
    outcome: Literal["added", "there", "refused"]
    problem: str = ""


def merge(source: Path, into: Path) -> Iterator[Merged]:
    """Copy runs, studies with their plans and looks, and baselines that `into` lacks; interrupted, do it again.

    Raises:
        StoreError: if `source` is no store, or `into` cannot be written; what was copied before stays.
    """
    require_store(source)
    if source.resolve() == into.resolve():
        raise StoreError(f"{source}: cannot be merged into itself; --store names where it goes")
    for place in stores_in(source):
        target = into / place.relative_to(source)
        Store(target).prepare()
        try:
            yield from _merge_runs(Store(place), Store(target))
            yield from _merge_studies(Studies(place), Studies(target))
            yield from _merge_baselines(place / "baselines", target / "baselines")
        except OSError as error:
            at = error.filename or target
            raise StoreError(f"{at}: cannot copy ({error.strerror}); what was merged stays; merge again") from None


def _merge_runs(source: Store, into: Store) -> Iterator[Merged]:
    for place in sorted((source.folder / "runs").glob("[!.]*")):
        run = place.name
        if problems := run_problems(source, place):
            yield from (Merged("run", "refused", problem) for problem in problems)
        elif run in into or not _copy_folder(place, into.folder / "runs" / run):
            problem = _difference(source, into, run)
            yield Merged("run", "refused" if problem else "there", problem)
        else:
            yield Merged("run", "added")


def _difference(source: Store, into: Store, run: str) -> str:
    """Why two runs of one id are not the same: their numbers differ. When and where they were made may."""
    kept = into.folder / "runs" / run
    if problems := run_problems(into, kept):
        return problems[0]
    one, other = source.read(run), into.read(run)
    ends = [(result.spec, result.info.status, result.info.step) for result in (one, other)]
    if ends[0] == ends[1] and repr([*one.records]) == repr([*other.records]):  # as texts, where nan is nan
        return ""
    return f"{kept}: {source.folder} has other numbers for this run; it stays as it is: delete it to take the others"


def _merge_studies(source: Studies, into: Studies) -> Iterator[Merged]:
    for key in source.ids():
        place, target = (studies.folder / "studies" / key for studies in (source, into))
        problems = list(source.problems(key))
        target.parent.mkdir(exist_ok=True)
        if not problems and not target.exists() and _copy_folder(place, target):
            yield Merged("study", "added")
            continue
        if problems := problems or list(into.problems(key)):
            yield from (Merged("study", "refused", problem) for problem in problems)
            continue
        asked = [study_id(read_document(file / "study.json").get("study", {})) for file in (place, target)]
        if asked[0] != asked[1]:
            yield Merged(
                "study", "refused", f"{target}: {source.folder} has another study of this id; it stays as it is"
            )
            continue
        yield Merged("study", "there")
        yield from (Merged("plan", *_merge_file(file, target / "plans")) for file in sorted(place.glob("plans/[!.]*")))
        yield from (Merged("look", *_merge_file(file, target / "looks")) for file in sorted(place.glob("looks/[!.]*")))


def _merge_baselines(source: Path, into: Path) -> Iterator[Merged]:
    for file in sorted(source.glob("[!.]*.json")):
        yield Merged("baseline", *_merge_file(file, into))


def _merge_file(file: Path, folder: Path) -> tuple[Literal["added", "there", "refused"], str]:
    """Copy one file with its time, unless there is one of that name."""
    target = folder / file.name
    if not target.exists():
        folder.mkdir(exist_ok=True)
        write_atomically(target, file.read_bytes())
        _copy_time(file, target)
        return "added", ""
    if target.read_bytes() == file.read_bytes():
        return "there", ""
    return "refused", f"{target}: {file} is another; it stays as it is: rename one of them to have both"


def _copy_time(file: Path, copy: Path) -> None:
    """What is old stays old (`bncli store prune --older-than`)."""
    times = file.stat()
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))


def _copy_folder(place: Path, target: Path) -> bool:
    """Copy a folder whole, with the times of its files; False if one of that name appeared meanwhile."""
    try:
        with folder_written_atomically(target) as working:
            for path in (path for path in sorted(place.rglob("*")) if path.name[0] != "."):
                copy = working / path.relative_to(place)
                if path.is_dir():
                    copy.mkdir()
                else:
                    shutil.copyfile(path, copy)
                    _copy_time(path, copy)
    except OSError:
        if not target.exists():
            raise
        return False
    return True
