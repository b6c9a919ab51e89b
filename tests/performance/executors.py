"""What Ray and Dask cost beside the local pool, and what workers cost that are killed; a table, or --json.

    python tests/performance/executors.py

A study of 60 runs, each a job of its own of 1 to 2 s, on two workers: the local pool's, two nodes of Ray with a processor
each, and two workers of Dask, all on this machine. They take turns, in another order in every round, and a cluster is
started for its turn only, so that its processes burden nobody else. Start-up (new workers import torch) is not timed:
the clock runs from the sixth job that is done to the last, over 54 jobs. On a machine that others use this clock is
noisy, and favours clusters: Linux shares processors out by session, of which each node has its own and the local pool one.
So the same is also worked out from what the jobs say they took: the share of its two workers' time that an executor spends
on them, the local pool's over its own. Goals: the same records, and times under 1.1 of the local pool's.

Then each has the study once more while every 10 s, six times, one worker that trains is sent SIGKILL; where new workers
have not yet finished a job, the killer waits until they have. Goals: 60 of 60 records, each job done once, all equal
to those of the local pool left in peace.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.executors.clusters import ROOT, DaskCluster, Node, RayCluster, find_forked_workers

EXECUTORS = ("local", "ray", "dask")
STEPS, WORKERS, STARTING = 1000, 2, 6  # STARTING: jobs that are done before the clock runs
KILLS, EVERY = 6, 10.0  # seconds
STUDY = {
    "data": "digits", "model": {"name": "mlp", "hidden": [100, 100]},
    "training": {"steps": STEPS, "batch_size": 60}, "evaluation": {"every": STEPS // 4, "split": "validation"},
    "measures": ["final_loss"], "variants": {"none": "none", "batch": "batch"}, "reference": "none",
}  # fmt: skip


@dataclass
class Turn:
    """One study on one executor."""

    records: dict[str, Any] = field(default_factory=dict)  # by run, of those that the store has
    times: list[float] = field(default_factory=list)  # at which a job was done
    work: list[float] = field(default_factory=list)  # seconds that it says it took
    done: Counter[str] = field(default_factory=Counter)  # how often a run was
    kills: int = 0

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[STARTING - 1]

    @property
    def busy(self) -> float:
        """Share of the workers' time that went into jobs."""
        start = self.times[STARTING - 1]
        counted = zip(self.times[STARTING:], self.work[STARTING:], strict=True)  # those that began before only since
        return sum(min(work, done - start) for done, work in counted) / (WORKERS * self.seconds)


@contextmanager
def started(executor: str, folder: Path) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """The executor's full name, and what finds its processes that train."""
    if executor == "local":
        yield executor, lambda: find_forked_workers(os.getpid())
        return
    cluster = RayCluster(folder) if executor == "ray" else DaskCluster(folder, WORKERS)
    mark = "ray::call" if executor == "ray" else "spawn_main"  # the latter under Dask's nannies

    def training() -> list[int]:
        nodes: list[Node] = [cluster.head, *cluster.nodes] if isinstance(cluster, RayCluster) else cluster.workers
        return [pid for node in nodes for pid in node.started(mark)]

    try:
        if isinstance(cluster, RayCluster):
            cluster.add_node(WORKERS)
        yield f"{executor}:{cluster.address}", training
    finally:
        cluster.stop()


def take_turn(executor: str, seeds: int, *, killing: bool = False) -> Turn:
    """Train the study into a new store."""
    import bncli
    from bncli.session.events import Finished

    turn, ended = Turn(), threading.Event()

    def note(event: object) -> None:
        if isinstance(event, Finished):
            turn.times.append(time.perf_counter())
            turn.work.append(sum(sum(result.info.seconds.values()) for result in event.results))
            turn.done.update(result.info.id for result in event.results)

    def kill(training: Callable[[], list[int]]) -> None:
        seen = 0
        while turn.kills < KILLS and not ended.wait(EVERY):
            while not (len(turn.times) > seen and (found := training())):
                if ended.wait(0.02):
                    return
            with suppress(ProcessLookupError):
                os.kill(found[turn.kills % len(found)], signal.SIGKILL)
                turn.kills += 1
            seen = len(turn.times)

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        started(executor, Path(folder)) as (name, training),
    ):
        if killing:
            threading.Thread(target=kill, args=(training,), daemon=True).start()
        how: dict[str, Any] = {"jobs": WORKERS} if executor == "local" else {}
        found = bncli.train(
            {**STUDY, "seeds": seeds}, executor=name, engine="plain", device="cpu", store=Path(folder) / "store",
            on_event=note, **how,
        )  # fmt: skip
        ended.set()
    turn.records = {
        run.id: list(run.result.records) for run in found.runs if run.result and run.result.info.has_numbers
    }
    return turn


def count_unlike(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> int:
    """Runs that one has and the other has not, or with other records."""
    return sum(found.get(key) != wanted.get(key) for key in found.keys() | wanted.keys())


def measure(rounds: int, seeds: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Every figure's values, one a round."""
    found: dict[str, list[float]] = {}
    for place in range(rounds):
        order = EXECUTORS[place % 3 :] + EXECUTORS[: place % 3]
        turns = {executor: take_turn(executor, seeds) for executor in order}
        local = turns["local"]
        for executor, turn in turns.items():
            say(
                f"round {place + 1}, {executor}: {turn.seconds:.1f} s past start-up, {turn.busy:.1%} of the workers'"
                " time in jobs"
            )
        for executor in EXECUTORS[1:]:
            turn = turns[executor]
            for name, value in {
                "time": turn.seconds / local.seconds,
                "time by the jobs' own seconds": local.busy / turn.busy,
                "runs unlike local's": count_unlike(turn.records, local.records),
            }.items():
                found.setdefault(f"{executor}: {name}", []).append(value)
    for executor in EXECUTORS:
        turn = take_turn(executor, seeds, killing=True)
        say(f"{executor}, {turn.kills} workers killed: {turn.times[-1] - turn.times[0]:.0f} s from first to last job")
        for name, value in {
            "workers killed": turn.kills,
            "records": len(turn.records),
            "runs done twice": sum(count > 1 for count in turn.done.values()),
            "runs unlike undisturbed ones": count_unlike(turn.records, local.records),
        }.items():
            found[f"{executor} under kills: {name}"] = [value]
    return found


def describe(name: str, values: list[float], seeds: int) -> dict[str, Any]:
    """One figure as a document has it."""
    unit, goal = {
        "time": ("x the local pool's", "< 1.1"),
        "time by the jobs' own seconds": ("x the local pool's", "< 1.1"),
        "workers killed": (f"of {KILLS}", f"{KILLS}"),
        "records": (f"of {2 * seeds}", f"{2 * seeds}"),
    }.get(name.partition(": ")[2], ("runs", "0"))
    return {"value": statistics.median(values), "low": min(values), "high": max(values), "unit": unit, "goal": goal}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=30, help="of each of two variants")
    options = parser.parse_args()
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    values = measure(
        options.rounds, options.seeds, lambda line: print(line, file=sys.stderr if options.json else None, flush=True)
    )
    figures = {name: describe(name, each, options.seeds) for name, each in values.items()}
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(
            f"{name:50} {figure['value']:7.4g} ({figure['low']:.4g} to {figure['high']:.4g})"
            f" {figure['unit']}, goal {figure['goal']}"
        )


if __name__ == "__main__":
    main()
