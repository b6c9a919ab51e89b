"""`bncli doctor`: states of made-up machines, what it advises, and what it never says."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bncli.report.timing.table import build_document, describe_condition
from bncli.timing.clock import WallClock
from bncli.timing.results import Condition, Rates
from bncli.timing.system import advise, measure_noise, measure_timer, read_cache_size
from bncli.timing.workloads import read_last_level_cache

GOOD = Condition(
    cores=4, threads=4, governor="performance", load=0.1, busy={}, steal_time=0.0, timer_seconds=5e-8, noise=0.01,
    rates=(Rates(1, 12e9, {"f32": 1e11}),),
)  # fmt: skip
ENVIRONMENT = {"processor": "a processor", "system": "Linux x86_64", "bncli": "0", "torch": "2", "python": "3"}


def test_a_good_machine_needs_no_advice() -> None:
    assert list(advise(GOOD)) == []


def test_a_machine_that_tells_nothing_needs_none_either() -> None:
    silent = replace(GOOD, governor=None, load=None, busy=None, steal_time=None)
    assert list(advise(silent)) == []
    text = dict(describe_condition(silent, ENVIRONMENT))
    assert text["governor"] == "unknown (this system does not tell)"
    found = build_document(silent, ENVIRONMENT, [])
    assert (found["busy"], found["busy_reason"]) == (None, "this system does not tell without further tools")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"busy": {"python3": 1.5, "cc1": 0.1}}, "other programs take 1.6 of 4 cores (python3 1.5, cc1 0.1): end them"),
        ({"busy": None, "load": 3.0}, "the load is 3.0 on 4 cores"),
        ({"steal_time": 0.05}, "the host gives 5% of this machine's time to others"),
        ({"governor": "powersave"}, "the governor is 'powersave', which moves the clock with the load: sudo cpupower"),
        ({"threads": 8}, "torch would use 8 threads on 4 cores"),
        ({"cores": 1, "threads": 1}, "with one core whatever else runs is in the times"),
        ({"timer_seconds": 1.5e-2}, "the clock moves in steps of 15000.0 us"),
        ({"noise": 0.2}, "the same work varies by 20.0%"),
    ],
)
def test_each_fault_has_one_sentence(change: dict[str, object], words: str) -> None:
    (said,) = advise(replace(GOOD, **change))  # type: ignore[arg-type]
    assert said.startswith(words)


def test_the_noise_floor_of_a_steady_clock_is_zero() -> None:
    class Steady(WallClock):
        def time_chunk(self, call: object, sets: object) -> float:
            return 1e-3

    assert measure_noise(Steady()) == 0.0


def test_the_cache_of_a_gpu_is_its_l2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=50 * 2**20))
    assert read_cache_size("cuda") == 50 * 2**20
    assert read_cache_size("cpu") == read_last_level_cache()


def test_the_timer_moves() -> None:
    assert 0 < measure_timer() < 0.1


def test_the_command_says_nothing_personal(tmp_path: Path) -> None:
    secret = "--password=hunter2"
    sleeper = subprocess.Popen([sys.executable, "-c", "while True: pass", secret])
    try:
        command = [sys.executable, "-m", "bncli", "doctor", "--json", "-"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        sleeper.kill()
        sleeper.wait()
    found = json.loads(done.stdout)
    assert found["schema"] == "bncli/doctor/2"
    assert found["rates"][0]["bandwidth"] > 0
    assert found["busy"] is None or any(name.startswith("python") for name in found["busy"])
    assert secret not in done.stdout
    assert str(Path.home()) not in done.stdout
