"""The scheduler under a clock turned by hand: what it runs, in which order, when it stops, what it says."""

import gc
import random
from dataclasses import replace

import pytest

from bncli.timing.results import Estimate
from bncli.timing.scheduler import measure
from bncli.timing.workloads import (
    TimerSettings,
    Workload,
    count_argument_copies,
    make_argument_copies,
    read_last_level_cache,
)
from tests.timing.made_clock import HandClock, noisy

SETTINGS = TimerSettings(seconds=1000.0, warmup=0.0, chunk=1.0, cache_byte=1000)


def test_constant_times_give_exact_numbers() -> None:
    clock = HandClock()
    result = measure(clock.entry(case=3.0), clock, SETTINGS)
    assert result.seconds == {
        "case": Estimate(3, 3, 3),
        "native": Estimate(1, 1, 1),
        "copy": Estimate(0.25, 0.25, 0.25),
    }
    assert result.ratios == {"native": Estimate(3, 3, 3), "copy": Estimate(12, 12, 12)}
    assert result.samples["case"] == ((3.0, 3.0),) * 8
    assert (result.stopped, result.warnings, result.outliers) == ("narrow", (), {"case": 0, "native": 0, "copy": 0})


def test_subjects_are_interleaved_in_palindromes_of_any_order() -> None:
    clock = HandClock()
    measure(clock.entry(case=3.0), clock, replace(SETTINGS, least_blocks=60, most_blocks=60))
    timed = clock.chunks[-360:]
    blocks = [tuple(timed[i : i + 6]) for i in range(0, 360, 6)]
    assert all(block == block[::-1] and len(set(block)) == 3 for block in blocks)
    assert len(set(blocks)) == 6


def test_what_beats_in_time_with_the_blocks_does_not_move_the_ratio() -> None:
    """Another process takes its turn in every fourth chunk: the ratio of equal calls was 0.5 with a fixed order."""
    clock = HandClock()
    late = lambda time: 3.0 if len(clock.chunks) % 4 == 0 else 1.0  # noqa: E731
    entry = replace(clock.entry(late, late), rivals=(("native", clock.workload("native", late)),))
    result = measure(entry, clock, replace(SETTINGS, least_blocks=99, most_blocks=99))
    low, high = result.ratios["native"].low, result.ratios["native"].high
    assert low is not None
    assert high is not None
    assert low <= 1 <= high


def test_a_clock_that_slows_down_steadily_leaves_the_ratio_as_it_is() -> None:
    clock = HandClock()
    slowing = {name: (lambda time, s=s: s * (1 + 1e-3 * len(clock.chunks))) for name, s in (("a", 2.0), ("b", 1.0))}
    result = measure(clock.entry(case=slowing["a"], native=slowing["b"]), clock, replace(SETTINGS, chunk=0.1))
    assert result.ratios["native"].value == pytest.approx(2.0, rel=1e-5)  # neighbours differ by 1e-3
    assert result.samples["case"][0][0] < result.samples["case"][7][0]


def test_a_chunk_lasts_as_long_as_asked_and_times_are_of_one_call() -> None:
    clock = HandClock()
    result = measure(clock.entry(case=0.125, native=3.0, copy=0.25), clock, replace(SETTINGS, chunk=2.0))
    assert 16 <= result.calls["case"] <= 20
    assert (result.calls["native"], result.seconds["case"].value) == (1, 0.125)


def test_it_stops_when_time_is_up_with_the_least_blocks_at_least() -> None:
    never = replace(SETTINGS, half_width=0.0, least_blocks=10)
    short, long = HandClock(), HandClock()
    least = measure(short.entry(case=noisy(3, 0.1, 0)), short, replace(never, seconds=50.0))
    full = measure(long.entry(case=noisy(3, 0.1, 0)), long, replace(never, seconds=200.0))
    assert (least.stopped, len(least.samples["case"])) == ("time", 10)
    assert full.stopped == "time"
    assert 200 <= long.time <= 240  # warm-up and the last block counted in


def test_it_stops_when_blocks_run_out() -> None:
    clock = HandClock()
    result = measure(clock.entry(case=noisy(3, 0.1, 0)), clock, replace(SETTINGS, half_width=0.0, most_blocks=20))
    assert (result.stopped, len(result.samples["case"])) == ("blocks", 20)


def test_a_narrow_interval_stops_it_and_noise_makes_it_go_on() -> None:
    clock = HandClock()
    calm = measure(clock.entry(case=noisy(3, 0.001, 0)), clock, SETTINGS)
    wild = measure(clock.entry(case=noisy(3, 0.03, 0)), clock, SETTINGS)
    assert (calm.stopped, len(calm.samples["case"])) == ("narrow", 8)
    assert wild.stopped == "narrow"
    assert len(wild.samples["case"]) > 8


def test_cold_arguments_fill_the_cache_before_one_comes_again() -> None:
    clock = HandClock()
    result = measure(clock.entry(case=1.0), clock, SETTINGS)
    turns = [number for name, number in clock.called if name == "case"]
    assert result.argument_copies == {"case": 15, "native": 15, "copy": 15}  # of 100 bytes, for a cache of 1000
    assert turns == [i % 15 for i in range(len(turns))]
    assert result.cold


def test_warm_arguments_are_touched_untimed_before_each_chunk() -> None:
    clock = HandClock()
    result = measure(clock.entry(case=1.0), clock, replace(SETTINGS, warm=True, least_blocks=9, most_blocks=9))
    block = [number for name, number in clock.called if name == "case"][-9 * 4 :]
    assert block == [i for n in (0, 1, 2, 3, 4, 5, 6, 7, 0) for i in [n] * 4]
    assert result.samples["case"] == ((1.0, 1.0),) * 9
    assert not result.cold


def test_too_little_memory_for_a_cold_cache_is_said() -> None:
    clock = HandClock()
    result = measure(clock.entry(case=1.0), clock, replace(SETTINGS, memory_byte=500))
    assert (result.argument_copies["case"], result.cold) == (5, False)
    assert result.warnings == ("not cold: all argument sets together fit the last-level cache; see --warm",)


def test_argument_copies_amount_to_one_and_a_half_caches() -> None:
    assert count_argument_copies(64, cache_byte=1000, memory_byte=10**9) == 24
    assert count_argument_copies(10**6, cache_byte=1000, memory_byte=10**9) == 2
    assert count_argument_copies(1, cache_byte=10**9, memory_byte=10**9) == 1024


def test_argument_sets_are_made_one_by_one() -> None:
    numbers = iter(range(5))
    assert make_argument_copies(Workload(print, lambda: (next(numbers),), 1), 5, random.Random(0)) == [
        (i,) for i in range(5)
    ]


def test_the_last_level_cache_is_read_from_the_system(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for index, size in enumerate(("48K", "2048K", "32M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert read_last_level_cache(tmp_path) == 32 * 2**20
    assert read_last_level_cache(tmp_path / "nothing") == 32 * 2**20


def test_the_garbage_collector_rests_and_is_put_back() -> None:
    clock, seen = HandClock(), set()
    watched = clock.workload("case", lambda time: seen.add(gc.isenabled()) or 1.0)
    measure(replace(clock.entry(case=1.0), candidate=watched), clock, SETTINGS)
    assert (seen, gc.isenabled()) == ({False}, True)


def test_the_garbage_collector_is_put_back_after_a_failure() -> None:
    clock = HandClock()
    with pytest.raises(ZeroDivisionError):
        measure(clock.entry(case=lambda time: 1 / 0), clock, SETTINGS)
    assert gc.isenabled()


def test_outliers_are_counted_and_kept() -> None:
    clock = HandClock()
    late = lambda time: 50.0 if clock.chunks.count("case") == 15 else 3.0  # noqa: E731
    result = measure(clock.entry(case=late), clock, replace(SETTINGS, least_blocks=12, most_blocks=12))
    assert result.outliers == {"case": 1, "native": 0, "copy": 0}
    assert [block for block in result.samples["case"] if 50.0 in block]
    assert result.ratios["native"].value == 3.0


def test_a_ratio_that_jumps_is_a_warning() -> None:
    clock = HandClock()
    jump = lambda time: 3.0 if len(clock.chunks) < 60 else 4.0  # noqa: E731
    result = measure(clock.entry(case=jump), clock, replace(SETTINGS, least_blocks=20, most_blocks=20))
    assert (
        "the ratio to 'native' changed by +33% from the first to the second half: clock, heat or load"
        in result.warnings
    )
