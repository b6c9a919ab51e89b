"""What `bncli bench` says of kernels that misbehave: each is named, the others are measured, no process is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.timing.made_misbehaviour import GOOD, HANGS, MISBEHAVIOURS

ROOT = Path(__file__).parent.parent.parent
KERNELS = "tests.timing.made_misbehaviour"
PRESET = """
budget: 1
warm: true
cases:
  - norms: [batch]
    shapes: [N8C16]
    passes: [{passes}]
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="what a process has started is asked of /proc")


class Bench:
    """A `bncli bench` of these kernels, in a process; what it starts bears a mark."""

    def __init__(self, folder: Path, kernels: Sequence[str], passes: str = "eval-forward", *more: str) -> None:
        self._folder, self._mark = folder, uuid4().hex
        (folder / "own.yaml").write_text(PRESET.format(passes=passes))
        command = [sys.executable, "-m", "bncli", "bench", "own.yaml", "--json", "-", *more]
        self.process = subprocess.Popen(
            [*command, *(f"--kernel={KERNELS}:{name}" for name in kernels)],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "MADE_MARK": self._mark},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def finish(self) -> tuple[int, dict[str, Any], str]:
        out, said = self.process.communicate()
        return self.process.returncode, json.loads(out), said

    def list_processes(self) -> list[str]:
        """The commands of those that live and bear its mark, but for bncli's own."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                environment, command = (place / "environ").read_bytes(), (place / "cmdline").read_bytes()
            except OSError:
                continue
            if f"MADE_MARK={self._mark}".encode() in environment and place.name != str(self.process.pid):
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def await_processes(self, *, some: str = "") -> None:
        """Until one has `some` in its command, or none is left."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = self.list_processes()
            if any(some in each for each in found) if some else not found:
                return
            time.sleep(0.05)
        pytest.fail(f"still there: {found}")


def list_sayings(document: dict[str, Any]) -> dict[str, set[str]]:
    """What is said of each kernel and norm: the status of its failures, or of its results."""
    said: dict[str, set[str]] = {}
    for each in document["rows"]:
        said.setdefault(each["name"].split("/")[0].rpartition(":")[2], set()).add(each["results"])
    for each in document["failures"]:
        assert each["reason"]
        assert len(each["reason"]) < 2000
        said.setdefault(each["name"].split("/")[0].rpartition(":")[2], set()).add(each["status"])
    return said


def check(bench: Bench, kernels: Sequence[str]) -> None:
    code, document, said = bench.finish()
    assert "Traceback" not in said
    found = list_sayings(document)
    assert found.pop("batch") == {"right"}
    assert all(len(row["processes"]) >= 2 for row in document["rows"] if row["name"].startswith("batch/"))
    for name in kernels:
        allowed = {"right", *MISBEHAVIOURS[name]} if name in MISBEHAVIOURS else {"right"}
        assert found[name] <= allowed, name
        assert (name in GOOD) == (found[name] == {"right"}), name
    assert code == (2 if any(each["status"] != "wrong" for each in document["failures"]) else 3)
    bench.await_processes()


SOME = (
    "RaisesWhenMade", "RaisesWithoutText", "RaisesNoException", "KillsItsParent", "WritesToEveryFile",
    "Lazy", "SlowsItsRival", "LeavesAProcess", "Prints",
)  # fmt: skip


@linux
def test_kernels_that_misbehave_are_named_and_cost_the_others_nothing(tmp_path: Path) -> None:
    check(Bench(tmp_path, SOME), SOME)


@linux
@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_no_kernel_of_the_whole_list_passes_for_one_that_is_well(tmp_path: Path) -> None:
    assert len(MISBEHAVIOURS) >= 40
    names = [name for name, said in MISBEHAVIOURS.items() if said != HANGS] + list(GOOD)
    check(Bench(tmp_path, names, "train-backward, eval-forward", "--time-limit", "60"), names)


@linux
@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_no_kernel_that_hangs_keeps_the_others_waiting(tmp_path: Path) -> None:
    names = [name for name, said in MISBEHAVIOURS.items() if said == HANGS]
    check(Bench(tmp_path, names, "train-both", "--time-limit", "8"), names)


@linux
@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)])
def test_nothing_outlives_a_command_that_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    bench = Bench(tmp_path, ["WaitsForAnother"], "eval-forward", "--only", "Waits")
    bench.await_processes(some="sleep 600")
    bench.process.send_signal(how)
    bench.process.communicate()
    bench.await_processes()
