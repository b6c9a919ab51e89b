"""Joins stores, with what they refuse to mix; and reads everything once to find what is damaged, with the remedy."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from bncli.errors import StoreError, as_line
from bncli.files import (
    CHECKPOINT_BYTES,
    describe_failure,
    digest_checkpoint,
    folder_written_atomically,
    read_bytes,
    write_atomically,
)
from bncli.records import RunResult
from bncli.store.arrays import ARRAYS_BYTES
from bncli.store.folder import BASELINE_BYTES, Store, require_store, stores_in
from bncli.store.packs import SUFFIX, list_folder
from bncli.store.studies import NAME, Studies, read_document, study_id

Kind = Literal["run", "study", "baseline", "checkpoint", "copies file", "file"]
RUN_FILES = ("record.json", "curves.npz")
KNOWN = {
    "runs",
    "studies",
    "checkpoints",
    "baselines",
    "sources",
    "set-aside",
    "status",
    "packs",
    "copies",
    "pack.npz",  # copies, as bncli made them before
}  # in a store
CHECKPOINT = re.compile(r"\d{12}-([0-9a-f]{16})\.pt")  # with the digest of its content (engine/state.py)


@dataclass(frozen=True)
class Checked:
    """One thing that was read, and what is wrong with it: a line with the place and the way out, or nothing."""

    kind: Kind
    problem: str = ""


def verify(folder: Path) -> Iterator[Checked]:
    """Read every run, study, baseline, checkpoint and copy once, and name what is not of bncli."""
    for place in stores_in(folder):
        store, studies = Store(place), Studies(place)
        yield from _check("run", place / "runs", partial(run_problems, store))
        yield from _check_packs(store)
        yield from _check("study", place / "studies", partial(_study_problems, studies))
        yield from _check("baseline", place / "baselines", partial(_baseline_problems, store))
        yield from _check("checkpoint", place / "checkpoints", _checkpoint_problems)
        yield from _check("copies file", store.copies.folder, partial(_copy_problems, store))
        yield from _check("file", place, lambda path: [_foreign(path, "a file")] if path.name not in KNOWN else None)
        yield from _check("file", place / "sources", lambda path: None if path.is_dir() else [_foreign(path, "a file")])
        yield from _check("file", place / "set-aside", lambda path: None)


def _check(kind: Kind, folder: Path, problems_of: Callable[[Path], Sequence[str] | None]) -> Iterator[Checked]:
    """Everything in one folder of the store; what has None for problems is not counted."""
    try:
        content = _content(folder)
    except StoreError as error:
        yield Checked(kind, str(error))
        return
    for path in content:
        try:
            problems = problems_of(path)
        except StoreError as error:  # a folder in it cannot be read
            problems = [str(error)]
        if problems is not None:
            yield from (Checked(kind, problem) for problem in problems or [""])


def _check_packs(store: Store) -> Iterator[Checked]:
    """The runs in packs, each a line."""
    runs = store.packs.lines()
    for damage in store.packs.damaged().values():
        yield Checked("run", str(damage))
    for _, result in store.packs.read_many(list(runs)):
        yield Checked("run", str(result) if isinstance(result, StoreError) else "")
    strange = (file for file in _content(store.packs.folder) if file.suffix != SUFFIX)
    yield from (Checked("file", _foreign(file, "a pack")) for file in strange)


def _copy_problems(store: Store, file: Path) -> list[str]:
    if file.suffix != SUFFIX:
        return [_foreign(file, "a file")]
    return [_problem_of(lambda: store.copies.check(file))]


def run_problems(store: Store, place: Path) -> list[str]:
    """What is wrong with the folder of one run, one line each."""
    meant = re.fullmatch("[0-9a-f]{20}", place.name) or any(os.path.lexists(place / name) for name in RUN_FILES)
    if not meant:
        return [_foreign(place, "a run")]
    if problem := _problem_of(lambda: store.read_folder(place.name)):
        return [problem]
    return [_foreign(file, "a file") for file in _content(place) if file.name not in RUN_FILES]


def _study_problems(studies: Studies, place: Path) -> list[str]:
    if not (os.path.lexists(place / "study.json") or os.path.lexists(place / "plans")) or not NAME.fullmatch(
        place.name
    ):
        return [_foreign(place, "a study")]
    if problems := list(studies.problems(place.name)):
        return problems
    strange = [file for file in _content(place) if file.name not in ("study.json", "plans", "looks")]
    strange += [file for kind in ("plans", "looks") for file in _content(place / kind) if file.suffix != ".json"]
    return [_foreign(file, "a file") for file in strange]


def _baseline_problems(store: Store, file: Path) -> list[str]:
    if file.suffix != ".json":
        return [_foreign(file, "a baseline")]
    problem = _problem_of(lambda: store.read_baseline(str(file)))
    return [problem] if problem else []


def _problem_of(read: Callable[[], object]) -> str:
    try:
        read()
    except StoreError as error:
        return str(error)
    return ""


def _checkpoint_problems(place: Path) -> list[str]:
    """Of the folder of one job, and of its halves where a GPU had too little memory for all of its lanes."""
    if place.is_symlink() or not place.is_dir():
        return [_foreign(place, "a job's checkpoints")]
    found = list[str]()
    for file in _content(place):
        if file.is_dir() and not file.is_symlink() and file.name.startswith("task-"):
            continue  # what a loop of somebody's own keeps, in a form of its own
        if file.is_dir() and not file.is_symlink():
            found += _checkpoint_problems(file)
        elif problem := _checkpoint_problem(file):
            found.append(problem)
    return found


def _checkpoint_problem(file: Path) -> str:
    named = CHECKPOINT.fullmatch(file.name)
    if not named:
        return _foreign(file, "a checkpoint")
    try:
        if named[1] == digest_checkpoint(read_bytes(file, CHECKPOINT_BYTES)):
            return ""
        why = "it is not what was written"
    except (OSError, ValueError) as error:
        why = describe_failure(error)
    if not os.path.lexists(file):  # its job went on meanwhile
        return ""
    return as_line(f"{file}: a damaged checkpoint ({why}); delete it: training goes on from the one before")


def _content(folder: Path) -> list[Path]:
    """What is in a folder, without what is hidden or being written.

    Raises:
        StoreError: if it cannot be read.
    """
    return [folder / name for name in list_folder(folder)]


def _foreign(place: Path, what: str) -> str:
    return as_line(f"{place}: not {what} of bncli; move it elsewhere or delete it")


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
    if os.path.realpath(source) == os.path.realpath(into):  # Path.resolve raises for a link to itself
        raise StoreError(f"{source}: cannot be merged into itself; --store names where it goes")
    for place in stores_in(source):
        target = into / place.relative_to(source)
        Store(target).prepare()
        try:
            yield from _merge_runs(Store(place), Store(target))
            yield from _merge_studies(Studies(place), Studies(target))
            yield from _merge_baselines(Store(place), target / "baselines")
        except OSError as error:
            at = error.filename or target
            raise StoreError(f"{at}: cannot copy ({error.strerror}); what was merged stays; merge again") from None


def _merge_runs(source: Store, into: Store) -> Iterator[Merged]:
    for place in _content(source.folder / "runs"):
        run = place.name
        if problems := run_problems(source, place):
            yield from (Merged("run", "refused", problem) for problem in problems)
        elif run in into or not _copy_folder(place, into.folder / "runs" / run):
            yield _compare(source.read_folder(run), source, into)
        else:
            yield Merged("run", "added")
    runs, there = source.packs.lines(), into.packs.lines()
    yield from (Merged("run", "refused", str(damage)) for damage in source.packs.damaged().values())
    for run, result in source.packs.read_many(list(runs)):
        if isinstance(result, StoreError):
            yield Merged("run", "refused", str(result))
        elif run in there or os.path.lexists(into.folder / "runs" / run):
            yield _compare(result, source, into)
        else:
            into.packs.append_lines([(run, source.packs.raw(run))])
            yield Merged("run", "added")
    into.packs.sync()


def _compare(run: RunResult, source: Store, into: Store) -> Merged:
    """What becomes of a run that both have: its numbers must be the same, when and where they were made need not."""
    kept = into.place(run.info.id)
    if run.info.id not in into.packs and (problems := run_problems(into, kept)):
        return Merged("run", "refused", problems[0])
    other = into.read(run.info.id)
    ends = [(result.spec, result.info.status, result.info.step) for result in (run, other)]
    numbers = [sorted(map(repr, result.records)) for result in (run, other)]  # as texts, where nan is nan
    if ends[0] == ends[1] and numbers[0] == numbers[1]:
        return Merged("run", "there")
    differs = f"{kept}: {source.folder} has other numbers for this run; it stays as it is: delete it to take the others"
    return Merged("run", "refused", differs)


def _merge_studies(source: Studies, into: Studies) -> Iterator[Merged]:
    for key in source.ids():
        place, target = (studies.folder / "studies" / key for studies in (source, into))
        problems = _study_problems(source, place)
        target.parent.mkdir(exist_ok=True)
        if not problems and not os.path.lexists(target) and _copy_folder(place, target):
            yield Merged("study", "added")
            continue
        if problems := problems or _study_problems(into, target):
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


def _merge_baselines(source: Store, into: Path) -> Iterator[Merged]:
    for file in _content(source.folder / "baselines"):
        if problems := _baseline_problems(source, file):
            yield from (Merged("baseline", "refused", problem) for problem in problems)
        else:
            yield Merged("baseline", *_merge_file(file, into))


def _merge_file(file: Path, folder: Path) -> tuple[Literal["added", "there", "refused"], str]:
    """Copy one file with its time, unless there is one of that name."""
    target, content = folder / file.name, read_bytes(file, BASELINE_BYTES, follow=True)
    if not os.path.lexists(target):
        folder.mkdir(exist_ok=True)
        write_atomically(target, content)
        _copy_time(file, target)
        return "added", ""
    with suppress(OSError, ValueError):
        if read_bytes(target, BASELINE_BYTES, follow=True) == content:
            return "there", ""
    return "refused", as_line(f"{target}: {file} is another; it stays as it is: rename one of them to have both")


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
                    copy.write_bytes(read_bytes(path, ARRAYS_BYTES))
                    _copy_time(path, copy)
    except OSError:
        if not os.path.lexists(target):
            raise
        return False
    return True
