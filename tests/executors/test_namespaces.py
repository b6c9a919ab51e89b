"""Studies on machines of their own: network namespaces with file systems of their own, and no folder that all see."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bncli
from bncli.executors import open_workers
from tests.executors.clusters import ROOT, DaskCluster, RayCluster, wait_until

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("clusters")]
NET = f"10.213.{os.getpid() % 250}"
SOON = {  # how soon each notices that a machine has gone without a word; by default after minutes
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "8s", "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    "RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}  # fmt: skip
LOOP = """
def train(run, length: int = 6, seconds: float = 0.3):
    import time
    for step in range(length):
        time.sleep(seconds)
        yield {"step": step, "loss": 1 / (step + 1 + run.seed)}
"""
NORMS = """
from torch import nn

class Scale(nn.Module):
    def __init__(self, channels: int, *, by: float = 0.5):
        super().__init__()
        self.by = by

    def forward(self, x):
        return self.by * (x - x.mean(0))

NORMS = {"scaled": Scale}
"""
# what a machine with disks of its own does not see: what a test writes here, the memory that processes share
HIDE = "hostname {name}; for place in {folder} /dev/shm; do mount -t tmpfs none $place; done; {more} cd {folder}; "


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)


class Machines:
    """Two, each with a cable of its own to this one and with no way to the other; `{NET}.1` is this one."""

    def __init__(self, stack: ExitStack) -> None:
        self.names = [f"bn{os.getpid()}m{number}" for number in (2, 3)]
        for number, name in enumerate(self.names, start=2):
            ip(f"netns add {name}")
            stack.callback(ip, f"netns del {name}")
            ip(f"link add {name} type veth peer name eth0 netns {name}")
            stack.callback(ip, f"link del {name}")
            ip(f"address add {NET}.1 peer {NET}.{number} dev {name}")
            ip(f"link set {name} up")
            ip(f"-n {name} address add {NET}.{number} peer {NET}.1 dev eth0")
            ip(f"-n {name} link set eth0 up")
            ip(f"-n {name} link set lo up")
            subprocess.run([*self.inside(name, Path("/mnt")), "true"], check=True, capture_output=True, text=True)

    def inside(self, name: str, folder: Path, more: str = "") -> list[str]:
        """A command that runs the one which follows it on this machine, where the folder is empty."""
        hide = HIDE.format(name=name, folder=shlex.quote(str(folder)), more=more)
        return ["ip", "netns", "exec", name, "unshare", "--mount", "--uts", "sh", "-ec", f'{hide} exec "$@"', "sh"]

    def cut(self, name: str) -> None:
        """Takes the cable out, at this end."""
        ip(f"link set {name} down")


@pytest.fixture
def machines() -> Iterator[Machines]:
    if os.name != "posix" or os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("network namespaces need root, ip of iproute2, and unshare of util-linux")
    with ExitStack() as stack:
        try:
            made = Machines(stack)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {shlex.join(error.cmd)}: {error.stderr.strip()}")
        yield made


@pytest.fixture(params=["dask", pytest.param("ray", marks=pytest.mark.nightly)])
def executor(request: Any, machines: Machines, tmp_path: Path) -> Iterator[str]:
    """Of a cluster whose head is here, with nothing to train on, and whose workers are on the two machines."""
    cluster: Any
    with ExitStack() as stack:
        if request.param == "dask":
            pytest.importorskip("distributed")
            cluster = DaskCluster(tmp_path, workers=0, host=f"{NET}.1", **SOON)
            stack.callback(cluster.stop)
            for name in machines.names:
                cluster.add_worker(inside=machines.inside(name, tmp_path), TMPDIR=str(tmp_path), **SOON)
        else:
            pytest.importorskip("ray")
            cluster = RayCluster(tmp_path, host=f"{NET}.1", cpus=0, **SOON)
            stack.callback(cluster.stop)
            for number, name in enumerate(machines.names, start=2):
                inside = machines.inside(name, tmp_path, "mkdir -p /tmp/ray; mount -t tmpfs none /tmp/ray;")
                cluster.add_node(number, inside, **SOON)
        yield f"{request.param}:{cluster.address}"


def test_workers_without_a_shared_folder_complete_a_study_and_another_while_one_is_cut_off(
    executor: str, machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    chance = np.random.default_rng(0)
    sizes = {"train": 200, "val": 50, "test": 50}
    inputs = {f"x_{part}": chance.normal(size=(n, 4)).astype(np.float32) for part, n in sizes.items()}
    np.savez(tmp_path / "own.npz", **inputs, **{f"y_{part}": chance.integers(0, 3, n) for part, n in sizes.items()})
    (tmp_path / "norms.py").write_text(NORMS)
    (tmp_path / "loop.py").write_text(LOOP)
    preset = {
        "model": {"name": "mlp", "hidden": [8]}, "training": {"steps": 40, "batch_size": 20},
        "evaluation": {"every": 20, "split": "validation"}, "measures": ["final_loss"],
        "variants": {"none": "none", "batch": "batch", "own": "scaled"}, "reference": "none", "seeds": 3,
    }  # fmt: skip
    how: Any = {"data": str(tmp_path / "own.npz"), "plugins": [str(tmp_path / "norms.py")], "device": "cpu"}

    workers = open_workers(executor, None, "cpu")
    look = f"hostname; ls {shlex.quote(str(tmp_path))}; sleep 1"
    seen = [each.result() for each in [workers.executor.submit(subprocess.getoutput, look) for _ in range(4)]]
    workers.stop()
    assert {text.split()[0] for text in seen} == set(machines.names)
    assert not [text for text in seen if "own.npz" in text or ".py" in text]

    here = bncli.train(preset, executor="local", jobs=1, store=tmp_path / "here", **how)
    there = bncli.train(preset, executor=executor, store=tmp_path / "there", **how)
    results = {run.id: run.result for run in there.runs if run.result}
    assert len(results) == 9
    assert {key: list(run.records) for key, run in results.items()} == {
        run.id: list(run.result.records) for run in here.runs if run.result
    }
    assert {run.info.environment["machine"] for run in results.values()} <= set(machines.names)

    study = {"variants": {"one": "none", "two": "none"}, "reference": "one", "seeds": 6, "measures": ["final_loss"]}
    (tmp_path / "study.yaml").write_text(json.dumps(study | {"task": {"name": "train"}}))
    words = ["train", "study.yaml", "--task", "loop.py:train", "--executor", executor, "--device", "cpu"]
    how = {"cwd": tmp_path, "env": os.environ | SOON | {"PYTHONPATH": str(ROOT)}}
    command = subprocess.Popen([sys.executable, "-m", "bncli", *words], **how)
    try:
        wait_until(lambda: list((tmp_path / ".bncli/runs").glob("*/record.json")), "one run is stored")
        machines.cut(machines.names[1])
        assert command.wait(120) == 0
    finally:
        command.kill()
    after = bncli.train(tmp_path / "study.yaml", task=f"{tmp_path / 'loop.py'}:train", store=tmp_path / ".bncli")
    results = {run.id: run.result for run in after.runs if run.result}
    assert {tuple((each.step, each.value) for each in run.records) for run in results.values()} == {
        tuple((step, 1 / (step + 1 + seed)) for step in range(6)) for seed in range(6)
    }
    assert sum(run.info.environment["machine"] == machines.names[0] for run in results.values()) >= 10
