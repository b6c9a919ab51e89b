"""What the command that asks costs at 10,000 and 20,000 runs of no work: planned, shown, stored and read; --json.

The study of `many_runs.py`, through an executor whose jobs are done as soon as they are submitted. What making up the
numbers takes is taken off the coordinator's time, which is processor time; the two minutes are by the clock. Each
figure is the median of three fresh processes, with the least and the most.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from many_runs import STUDY, made_up

GOALS: dict[str, tuple[float | None, str]] = {
    "10,000 runs: plan, progress and store": (5.0, "s of the coordinator's processor time"),
    "10,000 runs: memory": (500.0, "MB"),
    "20,000 runs: planned, stored and read": (120.0, "s by the clock"),
    "20,000 runs: memory": (1000.0, "MB"),
    "20,000 runs: the table from the packs": (5.0, "s of processor time"),
    "a run stored in a folder": (None, "ms by the clock"),
    "a run stored in a pack, of ten at once": (None, "ms by the clock"),
}


class NoWork(Executor):
    """Jobs are done when they are submitted, with numbers that are made up."""

    def __init__(self) -> None:
        self._random, self.seconds = np.random.default_rng(0), 0.0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Make up what the runs of a job have measured."""
        start = time.process_time()
        job, future = args[0], Future[Any]()
        future.set_result([made_up(run, self._random) for run in job.runs])
        self.seconds += time.process_time() - start
        return future


def measure(runs: int, folder: Path) -> dict[str, float]:
    """Train a study of so many runs of no work."""
    from bncli.cli.progress import show_progress
    from bncli.session.study import open_session
    from bncli.session.training import train

    nowhere = os.open(os.devnull, os.O_WRONLY)
    own, clock, workers = time.process_time(), time.perf_counter(), NoWork()
    os.dup2(nowhere, 2)
    study = {**STUDY, "seeds": runs // 100}
    session = open_session(study, device="cpu", executor=workers, store=folder, yes=True)
    with show_progress(str(folder.with_name("events.jsonl"))) as (on_event, _):
        _, results = train(session, on_event)
    assert len(results) == runs, len(results)
    return {
        "own": time.process_time() - own - workers.seconds,
        "clock": time.perf_counter() - clock - workers.seconds,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def read(runs: int, folder: Path) -> dict[str, float]:
    """Plan the study again, read all of it, analyse it, and lay out the table."""
    from rich.console import Console

    from bncli.report.study.table import show
    from bncli.session.analysis import analyse_session
    from bncli.session.study import open_session

    clock = time.perf_counter()
    session = open_session({**STUDY, "seeds": runs // 100}, device="cpu", store=folder, yes=True)
    own = time.process_time()
    results = session.store.read_all([run.id for run in session.runs])
    findings = analyse_session(session, results)
    with Path(os.devnull).open("w") as nowhere:
        show(findings, Console(file=nowhere, width=160))
    return {
        "own": time.process_time() - own,
        "clock": time.perf_counter() - clock,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def store(runs: int, folder: Path) -> dict[str, float]:
    """Store a tenth of the runs in folders, and all of them in a pack, ten at once."""
    from bncli.config.study import study_of
    from bncli.plan import runs_of
    from bncli.store.folder import Store

    random = np.random.default_rng(0)
    results = [made_up(run, random) for run in runs_of(study_of({**STUDY, "seeds": runs // 100}), "cpu")]
    few, many = Store(folder / "few"), Store(folder / "many")
    few.prepare()
    times = [time.perf_counter()]
    for result in results[: runs // 10]:
        few.write(result)
    times.append(time.perf_counter())
    for i in range(0, runs, 10):
        many.append(results[i : i + 10])
    many.packs.sync()
    times.append(time.perf_counter())
    return {"folder": 1e4 * (times[1] - times[0]) / runs, "pack": 1e3 * (times[2] - times[1]) / runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)  # what, how many runs, where: in a fresh process
    options = parser.parse_args()
    if options.once:
        what, runs, folder = options.once
        print(json.dumps({"train": measure, "read": read, "store": store}[what](int(runs), Path(folder))))
        return
    found: dict[str, list[float]] = {name: [] for name in GOALS}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as temporary:

            def once(what: str, runs: int, place: str = temporary) -> dict[str, float]:
                command = [sys.executable, __file__, "--once", what, str(runs), f"{place}/{runs}"]
                return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)

            few, many, table = once("train", 10_000), once("train", 20_000), once("read", 20_000)
            each = once("store", 2_000)
        values = (
            few["own"], few["memory"], many["clock"] + table["clock"], many["memory"], table["own"], each["folder"],
            each["pack"],
        )  # fmt: skip
        for name, value in zip(GOALS, values, strict=True):
            found[name].append(value)
    if options.json:
        print(json.dumps({
            name: {
                "value": statistics.median(values), "low": min(values), "high": max(values), "unit": GOALS[name][1],
                "goal": GOALS[name][0],
            }
            for name, values in found.items()
        }))  # fmt: skip
        return
    for name, values in found.items():
        goal, unit = GOALS[name]
        aim = unit if goal is None else f"goal {goal:g} {unit}"
        print(f"{name:40} {statistics.median(values):7.2f} ({min(values):.2f} to {max(values):.2f}), {aim}")


if __name__ == "__main__":
    main()
