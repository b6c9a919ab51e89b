"""Measuring processes: what they measure, what they survive, and two environments in one job."""

import gc
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch

import bncli
from bncli.errors import BncliError
from bncli.limits import BENCH_MEASURES, read_limit
from bncli.timing.cases import Case
from bncli.timing.documents import read_case, read_facts, read_result
from bncli.timing.gate import collect_readings, judge
from bncli.timing.process.client import CaseError, Worker, start_worker
from bncli.timing.process.protocol import RemoteCase, describe_answer, describe_case
from bncli.timing.process.worker import prepare_for_forks
from bncli.timing.results import ProcessReadings
from bncli.timing.run import check_differs, time_pairs
from bncli.timing.workloads import TimerSettings
from tests.report.made_bench import record

ROOT = Path(__file__).parent.parent.parent
SETTINGS = TimerSettings(seconds=0.0, half_width=0.0, warmup=0.0, warm=True)
NO_NORM = Case("none", (), "eval-forward", (4, 4), "f32", "nc", "cpu")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """A measuring process that finds the cases of this folder."""
    with start_worker("cpu", environment={"PYTHONPATH": str(ROOT)}) as process:
        yield process


def _job(do: str, rounds: int = 100) -> RemoteCase:
    return RemoteCase(do, {"do": do, "rounds": rounds}, "tests.timing.made_cases:entry")


def test_a_case_is_measured_in_a_process_of_its_own(worker: Worker) -> None:
    found = [worker.measure(_job(name), SETTINGS, 0) for name in ("work", "print", "work")]
    assert [result.name for result in found] == ["work", "print", "work"]
    assert all(len(result.samples["case"]) == 8 for result in found)
    assert all(result.ratios["native"].value > 0 for result in found)


def test_a_profile_comes_from_a_measuring_process(worker: Worker) -> None:
    case = Case("batch", (("impl", "plain"),), "train-both", (8, 16), "f32", "nc", "cpu")
    names = {kernel.name for kernel in worker.profile(case, SETTINGS)["case"]}
    assert {"aten::native_batch_norm", "aten::native_batch_norm_backward"} <= names
    assert worker.is_sound


def test_a_case_may_print(worker: Worker, capfd: pytest.CaptureFixture[str]) -> None:
    assert worker.measure(_job("print"), SETTINGS, 0).name == "print"


@pytest.mark.parametrize(
    ("do", "how"),
    [
        ("crash", "the process that measured it was ended by SIGKILL"),
        ("leave", "it raised SystemExit: 100"),
        ("leave-at-once", "the process that measured it ended itself, with exit code 0"),
    ],
)
def test_a_case_that_ends_its_process_is_said_and_the_next_is_measured(worker: Worker, do: str, how: str) -> None:
    with pytest.raises(BncliError) as caught:
        worker.measure(_job(do), SETTINGS, 0)
    assert str(caught.value) == f"{do}: {how}"
    assert worker.measure(_job("work"), SETTINGS, 0).name == "work"


def test_a_bug_in_a_case_keeps_its_traceback(worker: Worker) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        worker.measure(_job("bug"), SETTINGS, 0)


def test_a_case_that_cannot_be_built_there_is_said(worker: Worker) -> None:
    with pytest.raises(BncliError) as caught:
        worker.measure(RemoteCase("new", {}, "bncli.timing.tomorrow:entry"), SETTINGS, 0)
    assert str(caught.value).startswith(f"new: bncli {bncli.__version__} cannot build this case (ModuleNotFoundError: ")


def test_a_case_survives_its_way_to_a_measuring_process() -> None:
    case = Case("batch", (("eps", 0.1),), "train-forward", (4, 4), "f32", "nc", "cpu", threads=2)
    assert read_case(describe_case(case).case) == case


def test_an_interpreter_without_bncli_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-S"]  # without its site-packages
    with pytest.raises(BncliError) as caught, start_worker("cpu", command, {"PYTHONPATH": str(tmp_path)}):
        pass
    said = "is bncli installed there, with torch? (what it said stands above)"
    assert str(caught.value) == f"{' '.join(command)}: the measuring process ended with code 1; {said}"
    assert "No module named" in capfd.readouterr().err


def test_a_file_that_cannot_be_run_is_said() -> None:
    with pytest.raises(BncliError) as caught, start_worker("cpu", ["/nowhere/python"]):
        pass
    assert str(caught.value) == "/nowhere/python: cannot be run (No such file or directory)"


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    said = '{"protocol": 9, "bncli": "3.0", "place": "/there", "torch": "3", "python": "3.15"}'
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nread line\necho '{said}'\n")
    script.chmod(0o755)
    with pytest.raises(BncliError) as caught, start_worker("cpu", [str(script)]):
        pass
    assert (
        str(caught.value)
        == f"{script}: its bncli 3.0 measures by protocol 9, this one by 2; install the same bncli there"
    )


FIRST_WORKER = """
import json, sys

def main():
    for line in sys.stdin:
        message = json.loads(line)
        if message["do"] == "hello":
            reply = {"protocol": 2, "bncli": "0.1", "place": "/first", "torch": "2.13.0", "python": "3.11.2"}
        elif message["do"] == "open":
            wrong = sorted(message) != ["build", "case", "device", "do", "effort", "seed"]
            if wrong or message["build"] != "bncli.bench.jobs:entry_of":
                reply = {"bug": str(message)}
            else:
                reply = {name: {"clones": 2, "cold": True} for name in ("case", "native", "copy")}
        elif message["do"] == "size":
            reply = {"calls": 3} if message["contender"] == "native" else {"bug": str(message)}
        elif message["do"] == "chunk":
            reply = {"seconds": 0.5} if (message["contender"], message["block"]) == ("native", 7) else {"bug": line}
        else:
            reply = {"closed": True}
        print(json.dumps(reply), flush=True)
"""


def test_a_bncli_from_before_the_modules_had_their_names_is_asked_as_it_was(tmp_path: Path) -> None:
    """Its worker was `bncli.bench.worker`; the words on the wire are those of protocol 2."""
    (tmp_path / "bncli" / "bench").mkdir(parents=True)
    for package in ("bncli", "bncli/bench"):
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "bncli" / "bench" / "worker.py").write_text(FIRST_WORKER)
    command = ["env", f"PYTHONPATH={tmp_path}", sys.executable]
    with start_worker("cpu", command) as first, first.open(describe_case(NO_NORM), SETTINGS, 0) as timers:
        timers["native"].size(1.0)
        assert (timers["native"].calls, timers["native"].time_chunk(7)) == (3, 0.5)
        assert first.installation.describe() == "bncli 0.1 at /first, torch 2.13.0, Python 3.11.2"
        with pytest.raises(CaseError, match=r"its bncli 0\.1 knows no --profile; install the same bncli there$"):
            first.profile(NO_NORM, SETTINGS)


def test_what_goes_over_the_wire_keeps_its_names() -> None:
    assert list(describe_case(NO_NORM).case) == [
        "norm", "options", "pass_", "shape", "dtype", "layout", "device", "threads", "compiled",
    ]  # fmt: skip
    assert list(asdict(SETTINGS)) == [
        "seconds", "half_width", "warmup", "chunk", "least_blocks", "most_blocks", "warm", "graph", "memory_byte",
        "cache_byte",
    ]  # fmt: skip
    result = record().rows[0].results[0]
    assert list(describe_answer(result)) == [
        "name", "samples", "calls", "seconds", "ratios", "outliers", "stopped", "clones", "cold", "warnings",
    ]  # fmt: skip
    assert read_result(json.loads(json.dumps(describe_answer(result)))) == result
    facts = record().rows[0].facts
    assert list(describe_answer(facts)) == ["ran", "saved_byte", "peak_byte", "correctness", "reasons"]
    assert read_facts(json.loads(json.dumps(describe_answer(facts)))) == facts


def test_what_is_no_bncli_is_said() -> None:
    with pytest.raises(BncliError) as caught, start_worker("cpu", ["sh", "-c", "read line; echo hello"]):
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


def test_a_rival_is_timed_in_the_same_process_before_torch_and_the_copy(worker: Worker) -> None:
    case = replace(NO_NORM, versus=("layer", (("eps", 1e-3),)))
    result = worker.measure(describe_case(case), SETTINGS, 0)
    assert list(result.ratios) == ["layer,eps=0.001", "native", "copy"]
    assert len(result.samples["layer,eps=0.001"]) == len(result.samples["case"])
    assert read_case(json.loads(json.dumps(describe_case(case).case))) == case


def test_a_rival_that_becomes_wrong_is_found_out_where_it_is_timed(worker: Worker) -> None:
    kernel = f"{ROOT / 'tests/timing/made_cheats.py'}:StopsLater"
    case = Case("batch", (), "train-both", (32, 8), "f32", "nc", "cpu", versus=(kernel, ()))
    with pytest.raises(CaseError) as caught:
        worker.measure(describe_case(case), SETTINGS, 0)
    assert caught.value.failure.status == "wrong"
    assert "made_cheats.py:StopsLater/train-both/N32C8/f32/nc/cpu: once it has been timed" in str(caught.value)


def test_a_kernel_slowed_in_another_checkout_is_found(worker: Worker, tmp_path: Path) -> None:
    shutil.copytree(Path(bncli.__file__).parent, tmp_path / "bncli", ignore=shutil.ignore_patterns("__pycache__"))
    kernel = tmp_path / "bncli" / "norms" / "batch.py"
    text = kernel.read_text()
    assert text.count("        return check_floating(x)\n") == 1
    kernel.write_text(
        text.replace("        return check", "        for _ in range(50):\n            x.exp()\n        return check")
    )
    rules, job, chance = (
        [read_limit("time:+50%", BENCH_MEASURES, slower=True)],
        describe_case(NO_NORM),
        random.Random(0),
    )
    path = f"PYTHONPATH={tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    slow = partial(start_worker, "cpu", ["env", path, sys.executable])

    def pairs(count: int) -> ProcessReadings:
        return collect_readings(time_pairs(slow, lambda: nullcontext(worker), [job], SETTINGS, count, chance))

    result = judge(rules, None, pairs(2), lambda names: pairs(3))
    assert [(j.case, j.verdict) for j in result.judgements] == [(NO_NORM.name, "regression")]
    assert result.judgements[0].change.value > 5
