"""Studies on real clusters of Ray and Dask, on loopback: the same numbers as here, whatever is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bncli
from bncli.errors import BncliError, ConfigError
from bncli.executors import Placement
from bncli.session.events import Finished, WorkerDied
from tests.executors.clusters import ROOT, DaskCluster, RayCluster, wait_until

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("clusters")]
STUDY = {
    "data": "digits", "model": {"name": "mlp", "hidden": [8]}, "training": {"steps": 40, "batch_size": 20},
    "evaluation": {"every": 20, "split": "validation"}, "measures": ["final_loss"],
    "variants": {"none": "none", "batch": "batch", "zca": "zca"}, "reference": "none", "seeds": 2,
}  # fmt: skip
TASK = f"{Path(__file__).parent / 'made_tasks.py'}:train"


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    pytest.importorskip("ray")
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    cluster = RayCluster(tmp_path_factory.mktemp("ray"))
    cluster.add_node(2)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    pytest.importorskip("distributed")
    cluster = DaskCluster(tmp_path_factory.mktemp("dask"))
    yield cluster
    cluster.stop()


@pytest.fixture(params=["ray", "dask"])
def executor(request: pytest.FixtureRequest) -> str:
    return f"{request.param}:{request.getfixturevalue(f'{request.param}_cluster').address}"


def of_task(folder: Path, kind: str, variants: int = 3, **options: Any) -> dict[str, Any]:
    names = ["bad", *(f"v{i}" for i in range(1, variants))]
    own = {"name": "train", "folder": str(folder), "kind": kind, **options}
    return {
        "task": own, "variants": dict.fromkeys(names, "none"), "reference": "bad", "seeds": 2,
        "measures": ["final_loss"],
    }  # fmt: skip


def train(executor: str, store: Path, preset: dict[str, Any] = STUDY, **how: Any) -> tuple[dict[str, Any], list[Any]]:
    events: list[Any] = []
    found = bncli.train(preset, executor=executor, store=store, device="cpu", on_event=events.append, **how)
    return {run.id: run.result for run in found.runs}, events


def status_of(results: dict[str, Any]) -> list[str]:
    return sorted(result.info.status for result in results.values())


def test_a_cluster_gives_the_numbers_of_this_machine(executor: str, tmp_path: Path) -> None:
    here, _ = train("local", tmp_path / "here", jobs=1)
    there, _ = train(executor, tmp_path / "there")
    assert {key: list(run.records) for key, run in there.items()} == {
        key: list(run.records) for key, run in here.items()
    }
    assert {run.info.environment["machine"] for run in there.values()} == {os.uname().nodename}


def test_a_worker_that_is_killed_costs_nothing_but_time(executor: str, tmp_path: Path) -> None:
    results, events = train(executor, tmp_path / "store", of_task(tmp_path, "dies once"), task=TASK)
    assert status_of(results) == ["done"] * 6
    assert sum(isinstance(event, Finished) for event in events) == 6
    assert len((tmp_path / "bad-0").read_text().split()) == 2


def test_a_killed_worker_prints_nothing_into_a_document(ray_cluster: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(json.dumps(of_task(tmp_path, "dies once", seconds=0.3)))
    words = ["compare", "own.yaml", "--task", TASK, "--executor", f"ray:{ray_cluster.address}", "--events", "-"]
    how: Any = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    done = subprocess.run([sys.executable, "-m", "bncli", *words], capture_output=True, text=True, check=True, **how)
    assert len((tmp_path / "bad-0").read_text().split()) == 2
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()].count("finished") == 6


def test_a_job_that_always_dies_is_given_up_and_the_rest_is_done(executor: str, tmp_path: Path) -> None:
    results, _ = train(executor, tmp_path / "store", of_task(tmp_path, "dies"), task=TASK)
    assert status_of(results) == ["done"] * 4 + ["failed"] * 2
    assert len((tmp_path / "bad-0").read_text().split()) >= 4


def test_a_job_that_hangs_is_ended(executor: str, tmp_path: Path) -> None:
    results, _ = train(executor, tmp_path / "store", of_task(tmp_path, "hangs"), task=TASK, time_limit=15.0)
    assert status_of(results) == ["done"] * 4 + ["timed out"] * 2


def test_small_data_travel_with_the_job(executor: str, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    parts = {
        f"{kind}_{part}": n
        for part, n in (("train", 200), ("val", 50), ("test", 50))
        for kind, n in (("x", n), ("y", n))
    }
    np.savez(tmp_path / "own.npz", **{
        name: chance.normal(size=(n, 4)).astype(np.float32) if name[0] == "x" else chance.integers(0, 3, n)
        for name, n in parts.items()
    })  # fmt: skip

    results, _ = train(executor, tmp_path / "store", STUDY | {"seeds": 1}, data=str(tmp_path / "own.npz"))
    assert status_of(results) == ["done"] * 3


def test_a_worker_with_another_bncli_is_refused_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    shutil.copytree(ROOT / "bncli", tmp_path / "other" / "bncli", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "other/bncli/norms/batch.py").open("a") as file:
        file.write("\n# changed\n")
    cluster = DaskCluster(tmp_path, workers=0)
    try:
        cluster.add_worker(PYTHONPATH=str(tmp_path / "other"))
        with pytest.raises(
            BncliError, match=r"^--executor: the worker on \S+ has the code of bncli \w+, this machine \w+"
        ):
            train(f"dask:{cluster.address}", tmp_path / "store")
    finally:
        cluster.stop()


def test_workers_of_several_threads_are_refused_at_once(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    cluster = DaskCluster(tmp_path, workers=0)
    try:
        with pytest.raises(ConfigError, match="the scheduler has no workers; start `dask scheduler`"):
            train(f"dask:{cluster.address}", tmp_path / "store")
        cluster.add_worker("--nthreads=2")
        with pytest.raises(ConfigError, match="a worker has 2 threads"):
            train(f"dask:{cluster.address}", tmp_path / "store")
    finally:
        cluster.stop()


@pytest.mark.parametrize(
    ("executor", "said"),
    [("ray:127.0.0.1:1", "nothing answers there"), ("dask:127.0.0.1:1", "nothing answers there"), ("dask:nonsense", "nothing answers there"),
     ("ray://127.0.0.1:1", "nothing answers there .*refused"),
     ("dask", "expected the scheduler's address"), ("ray:", "expected an address after the colon")],
)  # fmt: skip
def test_a_cluster_that_is_not_there_is_one_line(executor: str, said: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("distributed")
    with pytest.raises(ConfigError, match=said):
        train(executor, tmp_path / "store")


def test_a_request_that_no_node_can_meet_is_said_at_once(ray_cluster: RayCluster, tmp_path: Path) -> None:
    said = "a job needs 1 CPUs and 2 GPUs, and no node of the cluster has them: . with 1 and 0; lower"
    with pytest.raises(ConfigError, match=said):
        train(f"ray:{ray_cluster.address}", tmp_path, placement=Placement(gpus_per_job=2))


def test_dask_places_no_job_by_its_gpus(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--gpus-per-job 0\.5: the executor dask:.* does not place jobs by that$"):
        train(f"dask:{dask_cluster.address}", tmp_path, placement=Placement(gpus_per_job=0.5))


def test_a_node_that_is_killed_takes_no_result_along(ray_cluster: RayCluster, tmp_path: Path) -> None:
    node = ray_cluster.add_node(3)
    killed = False

    def kill(event: object) -> None:
        nonlocal killed
        if isinstance(event, Finished) and not killed:
            killed = True
            node.kill()

    preset = of_task(tmp_path, "well", variants=6, seconds=0.3)
    found = bncli.train(preset, executor=f"ray:{ray_cluster.address}", store=tmp_path / "s", task=TASK, on_event=kill)
    assert [run.result.info.status for run in found.runs if run.result] == ["done"] * 12


def test_a_command_that_is_killed_goes_on_where_it_was(executor: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(json.dumps(of_task(tmp_path, "well", variants=6, seconds=0.2)))
    words = [sys.executable, "-m", "bncli", "train", "own.yaml", "--task", TASK, "--executor", executor]
    how: Any = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how)

    def records() -> list[Path]:
        return list((tmp_path / ".bncli/runs").glob("[!.]*/record.json"))  # none that was being written

    wait_until(lambda: len(records()) >= 3, "three runs are stored")
    first.kill()
    first.wait()
    kept = {place.parent.name: place.stat().st_mtime_ns for place in records()}
    second = subprocess.run(words, capture_output=True, text=True, check=False, **how)
    assert second.returncode == 0, second.stderr
    after = {place.parent.name: place.stat().st_mtime_ns for place in records()}
    assert len(after) == 12
    assert after.items() >= kept.items()


@pytest.mark.parametrize("seconds", [15, pytest.param(60, marks=pytest.mark.nightly)])
def test_a_head_that_cannot_be_reached_for_a_while_loses_nothing(
    executor: str, request: Any, tmp_path: Path, seconds: float
) -> None:
    cluster = request.getfixturevalue(f"{executor.partition(':')[0]}_cluster")
    (head,) = cluster.head.started("gcs_server" if executor.startswith("ray") else "dask_scheduler")
    stopped = False

    def stop(event: object) -> None:
        nonlocal stopped
        if isinstance(event, Finished) and not stopped:
            stopped = True
            os.kill(head, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(head, signal.SIGCONT)

    preset = of_task(tmp_path, "well", variants=6, seconds=0.2)
    found = bncli.train(preset, executor=executor, store=tmp_path / "s", task=TASK, on_event=stop)
    assert [run.result.info.status for run in found.runs if run.result] == ["done"] * 12


def test_a_worker_that_must_leave_hands_its_job_back_with_what_it_has_done(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    long = STUDY | {"variants": {"none": "none"}, "seeds": 1, "training": {"steps": 4000, "batch_size": 20}}
    long["evaluation"] = {"every": 50, "split": "validation"}
    here, _ = train("local", tmp_path / "here", long, jobs=1)
    events: list[Any] = []
    shared = tmp_path / "shared"
    shared.mkdir()

    def terminate(event: Any) -> None:
        events.append(event)
        steps = [e.step for e in events if type(e).__name__ == "Progress"]
        if steps and steps[-1] >= 500 and not any(isinstance(e, WorkerDied) for e in events):
            for node in (ray_cluster.head, *ray_cluster.nodes):
                for pid in node.started("ray::call"):
                    os.kill(pid, signal.SIGTERM)

    how = {"store": tmp_path / "there", "device": "cpu", "placement": Placement(shared=shared)}
    found = bncli.train(long, executor=f"ray:{ray_cluster.address}", on_event=terminate, **how)
    *_, died = [place for place, event in enumerate(events) if isinstance(event, WorkerDied)]
    steps = [event.step for event in events[died:] if type(event).__name__ == "Progress"]
    assert min(steps) >= 500  # from its checkpoint, in another process
    (run,) = found.runs
    assert run.result is not None
    assert list(run.result.records) == list(here[run.id].records)
    assert not list((tmp_path / "shared/checkpoints").glob("*"))
