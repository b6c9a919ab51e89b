"""Measuring processes: what they measure, what they survive, and two environments in one job."""

import gc
import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch

import bncli
from bncli.errors import BncliError
from bncli.limits import BENCH_MEASURES, read_limit
from bncli.timing.cases import Case
from bncli.timing.gate import judge, readings_of
from bncli.timing.process.client import Worker, started
from bncli.timing.process.protocol import Job, case_of, job_of
from bncli.timing.process.worker import prepare_for_forks
from bncli.timing.results import Readings
from bncli.timing.run import against, check_differs
from bncli.timing.subjects import Effort

ROOT = Path(__file__).parent.parent.parent
EFFORT = Effort(seconds=0.0, half_width=0.0, warmup=0.0, warm=True)
NO_NORM = Case("none", (), "eval-forward", (4, 4), "f32", "nc", "cpu")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """A measuring process that finds the cases of this folder."""
    with started("cpu", environment={"PYTHONPATH": str(ROOT)}) as process:
        yield process


def _job(do: str, rounds: int = 100) -> Job:
    return Job(do, "tests.timing.made_cases:entry", {"do": do, "rounds": rounds})


def test_a_case_is_measured_in_a_process_of_its_own(worker: Worker) -> None:
    found = [worker.measure(_job(name), EFFORT, 0) for name in ("work", "print", "work")]
    assert [result.name for result in found] == ["work", "print", "work"]
    assert all(len(result.samples["case"]) == 8 for result in found)
    assert all(result.ratios["native"].value > 0 for result in found)


def test_a_case_may_print(worker: Worker, capfd: pytest.CaptureFixture[str]) -> None:
    assert worker.measure(_job("print"), EFFORT, 0).name == "print"


@pytest.mark.parametrize(
    ("do", "how"),
    [
        ("crash", "was ended by SIGKILL"),
        ("leave", "ended itself, with exit code 1"),
        ("leave-at-once", "ended itself, with exit code 0"),
    ],
)
def test_a_case_that_ends_its_process_is_said_and_the_next_is_measured(worker: Worker, do: str, how: str) -> None:
    with pytest.raises(BncliError) as caught:
        worker.measure(_job(do), EFFORT, 0)
    assert str(caught.value) == f"{do}: this bncli: the process that measured it {how}"
    assert worker.measure(_job("work"), EFFORT, 0).name == "work"


def test_a_bug_in_a_case_keeps_its_traceback(worker: Worker) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        worker.measure(_job("bug"), EFFORT, 0)


def test_a_case_that_cannot_be_built_there_is_said(worker: Worker) -> None:
    with pytest.raises(BncliError) as caught:
        worker.measure(Job("new", "bncli.timing.tomorrow:entry", {}), EFFORT, 0)
    assert str(caught.value).startswith(
        f"new: this bncli: bncli {bncli.__version__} cannot build this case (ModuleNotFoundError: "
    )


def test_a_case_survives_its_way_to_a_measuring_process() -> None:
    case = Case("batch", (("eps", 0.1),), "train-forward", (4, 4), "f32", "nc", "cpu", threads=2)
    assert case_of(job_of(case).case) == case


def test_an_interpreter_without_bncli_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-S"]  # without its site-packages
    with pytest.raises(BncliError) as caught, started("cpu", command, {"PYTHONPATH": str(tmp_path)}):
        pass
    said = "is bncli installed there, with torch? (what it said stands above)"
    assert str(caught.value) == f"{' '.join(command)}: the measuring process ended with code 1; {said}"
    assert "No module named" in capfd.readouterr().err


def test_a_file_that_cannot_be_run_is_said() -> None:
    with pytest.raises(BncliError) as caught, started("cpu", ["/nowhere/python"]):
        pass
    assert str(caught.value) == "/nowhere/python: cannot be run (No such file or directory)"


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    said = '{"protocol": 9, "bncli": "3.0", "place": "/there", "torch": "3", "python": "3.15"}'
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nread line\necho '{said}'\n")
    script.chmod(0o755)
    with pytest.raises(BncliError) as caught, started("cpu", [str(script)]):
        pass
    assert (
        str(caught.value)
        == f"{script}: its bncli 3.0 measures by protocol 9, this one by 2; install the same bncli there"
    )


def test_what_is_no_bncli_is_said() -> None:
    with pytest.raises(BncliError) as caught, started("cpu", ["sh", "-c", "read line; echo hello"]):
        pass
    assert str(caught.value).startswith(
        "sh -c read line; echo hello: said 'hello', not what a bncli says; is bncli installed there"
    )


def test_no_backward_pass_comes_before_the_forks_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[object]()
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(torch.autograd, "grad", lambda *arguments: done.append(arguments))
    for there in (True, False):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda there=there: there)
        prepare_for_forks.__wrapped__("json")
        assert bool(done) == (not there)


def test_the_same_environment_twice_is_refused(worker: Worker) -> None:
    with pytest.raises(
        BncliError, match=r"--against: both environments are bncli .*, torch .*; name another interpreter"
    ):
        check_differs(worker, worker)


def test_a_kernel_slowed_in_another_checkout_is_found(worker: Worker, tmp_path: Path) -> None:
    shutil.copytree(Path(bncli.__file__).parent, tmp_path / "bncli", ignore=shutil.ignore_patterns("__pycache__"))
    kernel = tmp_path / "bncli" / "norms" / "batch.py"
    text = kernel.read_text()
    assert text.count("        return x\n") == 1
    kernel.write_text(
        text.replace("        return x\n", "        for _ in range(50):\n            x.exp()\n        return x\n")
    )
    rules, job, chance = [read_limit("time:+50%", BENCH_MEASURES, slower=True)], job_of(NO_NORM), random.Random(0)
    path = f"PYTHONPATH={tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    slow = partial(started, "cpu", ["env", path, sys.executable])

    def pairs(count: int) -> Readings:
        return readings_of(against(slow, lambda: nullcontext(worker), [job], EFFORT, count, chance))

    result = judge(rules, None, pairs(2), lambda names: pairs(3))
    assert [(j.case, j.verdict) for j in result.judgements] == [(NO_NORM.name, "regression")]
    assert result.judgements[0].change.value > 5
