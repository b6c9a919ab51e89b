"""What a system says of itself, read from made-up folders; and the warnings that follow."""

from pathlib import Path

import pytest
import torch

from bncli.timing import system
from bncli.timing.system import (
    SystemMetrics,
    describe_changes,
    read_governor,
    read_gpu_clock,
    read_metrics,
    read_processor_clock,
    watch,
)

QUIET = SystemMetrics(ticks=(100, 0, 0, 100, 0, 0, 0, 0), throttled=3, hertz=2.4e9)
LATER = SystemMetrics(ticks=(300, 0, 0, 200, 0, 0, 0, 0), throttled=3, hertz=2.45e9)


def process(system: Path, number: int, name: str, ticks: int) -> None:
    (system / str(number)).mkdir(exist_ok=True)
    (system / str(number) / "stat").write_text(f"{number} ({name}) R 1 1 1 0 0 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0")


def test_busy_programs_are_counted_in_cores_by_name(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu 100 0 0 100 0 0 0 0\ncpu0 1\ncpu1 1\n")
    for number, name in ((7, "py (x) 3"), (8, "py (x) 3"), (9, "idle"), (11, "ended")):
        process(tmp_path, number, name, 1000)

    def later(seconds: float) -> None:
        (tmp_path / "stat").write_text("cpu 200 0 0 190 0 0 0 10\ncpu0 1\ncpu1 1\n")  # 100 ticks on each processor
        process(tmp_path, 7, "py (x) 3", 1050)
        process(tmp_path, 8, "py (x) 3", 1025)
        (tmp_path / "11" / "stat").unlink()
        process(tmp_path, 12, "new", 99)

    busy, steal_time = watch(tmp_path, sleep=later)
    assert busy == {"py (x) 3": pytest.approx(0.75)}
    assert steal_time == pytest.approx(0.05)


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert watch(tmp_path) == (None, None)
    assert read_governor(tmp_path) is None


def test_governors_are_named_once(tmp_path: Path) -> None:
    for number, name in enumerate(("powersave", "performance", "powersave")):
        (tmp_path / f"cpu{number}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{number}" / "cpufreq" / "scaling_governor").write_text(name + "\n")
    assert read_governor(tmp_path) == "performance, powersave"


def test_what_has_not_changed_is_not_said() -> None:
    assert list(describe_changes([QUIET, LATER])) == []
    assert list(describe_changes([])) == []
    assert list(describe_changes([SystemMetrics(None, None, None)] * 2)) == []


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (
            SystemMetrics((290, 0, 0, 200, 0, 0, 0, 10), 3, 2.4e9),
            "the host gave 3% of this machine's time to others meanwhile",
        ),
        (
            SystemMetrics(LATER.ticks, 15, 2.4e9),
            "heat slowed the processor 12 times meanwhile: let it cool, or cap its clock",
        ),
        (
            SystemMetrics(LATER.ticks, 3, 1.8e9),
            "the processor's clock moved between 1.80 and 2.40 GHz meanwhile: governor, heat or load",
        ),
    ],
)
def test_each_change_has_one_sentence(later: SystemMetrics, words: str) -> None:
    assert list(describe_changes([QUIET, later])) == [words]


def test_clocks_come_from_the_governor_or_else_from_the_processor_list(tmp_path: Path) -> None:
    assert read_processor_clock(tmp_path, tmp_path) is None
    (tmp_path / "cpuinfo").write_text("model name : it\ncpu MHz\t\t: 2400.0\nmodel name : it\ncpu MHz\t\t: 2600.0\n")
    assert read_processor_clock(tmp_path, tmp_path) == 2.6e9
    (tmp_path / "cpu0" / "cpufreq").mkdir(parents=True)
    (tmp_path / "cpu0" / "cpufreq" / "scaling_cur_freq").write_text("1800000\n")
    assert read_processor_clock(tmp_path, tmp_path) == 1.8e9


def test_heat_is_counted_over_all_cores(tmp_path: Path) -> None:
    assert read_metrics("cpu", tmp_path, tmp_path) == SystemMetrics(None, None, None)
    for number in range(2):
        (tmp_path / f"cpu{number}" / "thermal_throttle").mkdir(parents=True)
        (tmp_path / f"cpu{number}" / "thermal_throttle" / "core_throttle_count").write_text("4\n")
    (tmp_path / "stat").write_text("cpu 1 2 3 4 5 6 7 8 0 0\n")
    assert read_metrics("cpu", tmp_path, tmp_path) == SystemMetrics((1, 2, 3, 4, 5, 6, 7, 8, 0, 0), 8, None)


def test_a_gpu_is_asked_for_the_clock_of_its_multiprocessors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "clock_rate", lambda: 1980)
    assert read_metrics("cuda").hertz == 1.98e9

    def missing() -> int:
        raise ModuleNotFoundError("pynvml does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "clock_rate", missing)
    assert read_gpu_clock() is None


def test_measuring_what_a_machine_can_do_leaves_this_processs_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "measure_bandwidth", lambda device, clock: float(torch.get_num_threads()))
    before = torch.get_num_threads()
    assert system.measure_rates(before + 1, [], "cpu").bandwidth == before + 1
    assert torch.get_num_threads() == before
