"""Stores with runs and studies made by hand."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bncli.files import digest
from bncli.records import Record, RunInfo, RunResult
from bncli.store.folder import Store
from bncli.store.studies import Look, Studies

DAY = 86_400
BASELINE = {
    "schema": "bncli/findings/3",
    "runs": [{"variant": "batch", "setting": {}, "seed": 0, "info": None}],
    "measures": [],
    "arms": [],
    "study": None,
}
NOW = 1_800_000_000.0  # 2027-01-15


def name_run(spec: Mapping[str, Any]) -> str:
    """In the place of `bncli.store.pack.run_id`, so that runs made by hand have the names that tests know them by."""
    return str(spec["named"]) if "named" in spec else digest(spec)[:20]


def add_run(
    folder: Path, run: str, accuracy: float = 0.5, seconds: float = 1.0, age_days: float = 0, metric: str = "accuracy"
) -> Path:  # fmt: skip
    """Store a run, made so many days before NOW."""
    store = Store(folder)
    store.prepare()
    info = RunInfo(run, "done", 5, seconds={"training": seconds})
    store.write(RunResult({"seed": 1, "named": run}, info, (Record(metric, 5, accuracy, "fraction"),)))
    return age(folder / "runs" / run, age_days)


def add_study(
    folder: Path, name: str, runs: str, seeds: tuple[int, ...] = (0,), asked: str = "", age_days: float = 0, jobs: str = "",
    look: bool = False,
) -> str:  # fmt: skip
    """Remember a study of runs, separated by spaces; what it asks is its name unless said."""
    studies = Studies(folder)
    study = {"question": "?", "model": asked or name, "seeds": list(seeds)}
    key = studies.remember(name, study, runs.split(), jobs.split())
    if look:
        studies.add_look(key, Look(name, seeds, "cpu", len(runs.split()), 0, time="2026-01-01T00:00:00Z"))
    age(folder / "studies" / key, age_days)
    return key


def add_checkpoint(folder: Path, job: str, age_days: float = 0) -> Path:
    """A job's checkpoint, as old as said."""
    place = Store(folder).checkpoints(job)
    place.mkdir(parents=True)
    (place / "000000000005-e3b0c44298fc1c14.pt").write_bytes(b"")  # the digest of nothing
    return age(place, age_days)


def age(place: Path, days: float) -> Path:
    """Make all files of a folder so many days old at NOW."""
    for path in (place, *place.rglob("*")):
        os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    return place


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
