"""Reads everything in a store once, and says what is damaged and what to do about it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bncli.errors import StoreError
from bncli.files import damaged_files
from bncli.store.folder import Store, stores_in
from bncli.store.studies import Studies

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
