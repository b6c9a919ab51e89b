"""Seconds from 10,000 stored runs to the table: planning, reading, analysing, laying out; a table, or --json.

The runs are made up, not trained: 5 variants x 20 learning rates x 100 seeds, 21 evaluations of 13 quantities each. No torch
is imported. The first reading, after the runs were stored, may have more to do than those after it.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bncli.config.study import study_of
from bncli.plan import Run, runs_of
from bncli.records import Record, RunInfo, RunResult
from bncli.store.folder import Store
from bncli.store.lines import pack_run

GOAL = 1.0  # seconds of processor time, planning too; 4 at the first reading
HOW = {
    "one command": "stored by one command, as lines of a pack",
    "a hundred commands": "stored by a hundred commands of a hundred runs, as folders",
    "folders alone": "as folders, without the copies that storing makes, as bncli stored them before",
}
STEPS = range(0, 2001, 100)
WEIGHTS = [f"layers.{i}.{name}" for i in range(4) for name in ("weight", "bias")][:10]
STUDY = {
    "variants": {name: name for name in ("none", "batch", "layer", "rms", "zca")},
    "reference": "none",
    "seeds": 100,
    "sweep": {"training.lr": [round(0.01 * 1.3**i, 5) for i in range(20)]},
}


def made_up(run: Run, rng: np.random.Generator) -> RunResult:
    """A run whose accuracy rises to about 0.97, sooner at higher rates."""
    pace, noise = 300 / run.training.lr**0.3 * rng.lognormal(0, 0.1), rng.normal(0, 0.002, len(STEPS))
    records = []
    for step, wobble in zip(STEPS, noise, strict=True):
        accuracy = float(0.1 + 0.87 * (1 - np.exp(-step / pace)) + wobble)
        records += [Record("accuracy", step, accuracy, "fraction"), Record("loss", step, 2.3 - 2 * accuracy, "nats")]
        records += [Record("train_loss", step, 2.2 - 2 * accuracy, "nats")] if step else []
        records += [Record("parameter_norm", step, 1.0 + 0.001 * step, "L2", name) for name in WEIGHTS]
    environment = {"bncli": "0", "torch": "0", "processor": "made up", "device": "cpu", "threads": 1}
    seconds = {"training": 0.9, "evaluation": 0.1, "data": 0.1}
    info = RunInfo(run.id, "done", STEPS[-1], parameters=89610, seconds=seconds, environment=environment)
    return RunResult(run.spec(), info, tuple(records))


def fill(folder: Path, how: str) -> None:
    """Store the runs of the study; not synced to disk, which is no part of what is measured."""
    os.fsync = lambda handle: None
    rng = np.random.default_rng(0)
    runs = [pack_run(made_up(run, rng)) for run in runs_of(study_of(STUDY), "cpu")]
    if how == "one command":
        store = Store(folder)
        for i in range(0, len(runs), 10):
            store.append(runs[i : i + 10])
        return
    for i in range(0, len(runs), 100):
        store = Store(folder)
        store.prepare()
        for run in runs[i : i + 100]:
            store.write(run)
    if how == "folders alone":
        shutil.rmtree(folder / "copies")


def measure(folder: Path) -> dict[str, float]:
    """Seconds of each part, and of the whole; in this process, which has what it needs imported."""
    from rich.console import Console

    from bncli.report.study.table import show
    from bncli.session.analysis import analyse_session
    from bncli.session.study import Session

    times = [time.process_time()]
    runs = tuple(runs_of(study_of(STUDY), "cpu"))
    session = Session("many", study_of(STUDY), "cpu", runs, (), Store(folder))
    ids = [run.id for run in runs]
    times.append(time.process_time())
    results = session.store.read_all(ids)
    times.append(time.process_time())
    findings = analyse_session(session, results)
    times.append(time.process_time())
    with Path(os.devnull).open("w") as nowhere:
        show(findings, Console(file=nowhere, width=160))
    times.append(time.process_time())
    assert len(results) == 10_000
    assert "torch" not in sys.modules
    parts = dict(zip(("plan", "read", "analyse", "table"), np.diff(times).tolist(), strict=True))
    sums = {"analysis and table": sum(parts[k] for k in ("read", "analyse", "table")), "all": sum(parts.values())}
    return {**parts, **sums, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="stores made before, or where to make them; else a temporary one")
    parser.add_argument("--once", help=argparse.SUPPRESS)  # what was stored how: one measurement, in a fresh process
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(options.folder / options.once)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        found = {how: measure_often(folder, how) for how in HOW}
    if options.json:
        print(json.dumps({"many_runs": {"unit": "seconds", "goal": GOAL, **found}}))
        return
    for how, (first, after) in found.items():
        print(f"{how}: {HOW[how]}")
        for key, number in after.items():
            print(f"    {key:20} first {first[key]:7.2f}, after {number:7.2f} {'MB' if key == 'memory' else 's'}")


def measure_often(folder: Path, how: str) -> tuple[dict[str, float], dict[str, float]]:
    """The first reading, and the median of three after it."""
    if not (folder / how).exists():
        fill(folder / how, how)
    command = [sys.executable, __file__, "--once", how, "--folder", str(folder)]
    first, *again = (
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(4)
    )
    return first, {key: sorted(each[key] for each in again)[1] for key in first}


if __name__ == "__main__":
    main()
