"""The machine: clock, heat, load and steal time, bandwidth and products that it can do, and what to change.

Of other processes nothing is read but how busy they are and the program's name. What a system does not tell is None.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bncli.timing.build import DTYPES
from bncli.timing.clock import Clock, choose_clock
from bncli.timing.results import Condition, Rates
from bncli.timing.workloads import read_last_level_cache

_WATCHED_SECONDS = 0.5
_BUSY = 0.05  # of a core: a process that takes less is left out
# Above these it is worth a sentence: cores, share of the time, share of the clock.
_TAKEN, _STEAL, _CLOCK = 0.2, 0.01, 0.1


@dataclass(frozen=True)
class SystemMetrics:
    """ProcessReadings at one moment, taken between measurements."""

    ticks: tuple[int, ...] | None  # of all processors: user, nice, system, idle, iowait, irq, softirq, steal, ...
    throttled: int | None  # how often heat has slowed a core down since the machine was started
    hertz: float | None  # clock of the processor's fastest core; of a GPU's multiprocessors where those are timed


def read_metrics(
    device: str, proc: Path = Path("/proc"), system: Path = Path("/sys/devices/system/cpu")
) -> SystemMetrics:
    """Read what can be read now; takes a millisecond."""
    ticks = tuple(_read_all_ticks(proc)) if (proc / "stat").is_file() else None
    heat = _read_numbers(system.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    hertz = read_gpu_clock() if device == "cuda" else read_processor_clock(proc, system)
    return SystemMetrics(ticks, int(sum(heat)) if heat else None, hertz)


def describe_changes(readings: Sequence[SystemMetrics], what: str = "processor") -> Iterator[str]:
    """Warnings about what was measured between these readings, in words."""
    ticks = [each.ticks for each in readings if each.ticks is not None]
    if len(ticks) > 1:
        steal_time = _compute_steal([b - a for a, b in zip(ticks[0], ticks[-1], strict=True)])
        if steal_time is not None and steal_time > _STEAL:
            yield f"the host gave {steal_time:.0%} of this machine's time to others meanwhile"
    heat = [each.throttled for each in readings if each.throttled is not None]
    if heat and heat[-1] > heat[0]:
        yield f"heat slowed the processor {heat[-1] - heat[0]:,} times meanwhile: let it cool, or cap its clock"
    clocks = [each.hertz for each in readings if each.hertz]
    if clocks and max(clocks) - min(clocks) > _CLOCK * statistics.median(clocks):
        low, high = (hertz / 1e9 for hertz in (min(clocks), max(clocks)))
        yield f"the {what}'s clock moved between {low:.2f} and {high:.2f} GHz meanwhile: governor, heat or load"


def describe_disturbances(
    cores: int, busy: Mapping[str, float] | None, load: float | None, steal_time: float | None, governor: str | None
) -> Iterator[str]:
    """What of a machine's state disturbs a measurement, and what to do about it, the gravest first.

    Args:
        cores: that this process may use.
        busy: cores that each other program takes.
        load: processes that want to run.
        steal_time: share of time that the host gives to others.
        governor: of the processor's clock.
    """
    taken = sum(busy.values()) if busy else 0.0
    if busy and taken > _TAKEN:
        names = ", ".join(f"{name} {share:.1f}" for name, share in sorted(busy.items(), key=lambda x: -x[1]))
        yield f"other programs take {taken:.1f} of {cores} cores ({names}): end them, or measure later"
    elif busy is None and load is not None and load > cores / 2:
        yield f"the load is {load:.1f} on {cores} cores: end other programs, or measure later"
    if steal_time is not None and steal_time > _STEAL:
        yield f"the host gives {steal_time:.0%} of this machine's time to others: measure on one of your own"
    if governor not in (None, "performance"):
        yield (
            f"the governor is {governor!r}, which moves the clock with the load: "
            "sudo cpupower frequency-set -g performance"
        )


def read_processor_clock(proc: Path = Path("/proc"), system: Path = Path("/sys/devices/system/cpu")) -> float | None:
    """Hertz of the fastest core, which is one at work; None where the system does not tell."""
    kilohertz = _read_numbers(system.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    if kilohertz:
        return 1e3 * max(kilohertz)
    info = proc / "cpuinfo"
    lines = info.read_text().splitlines() if info.is_file() else []
    megahertz = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return 1e6 * max(megahertz) if megahertz else None


def read_gpu_clock() -> float | None:
    """Hertz of the multiprocessors of the current GPU; None without nvidia-ml-py, which torch asks, or its consent."""
    try:
        return 1e6 * torch.cuda.clock_rate()
    except Exception:  # NVML's errors are of no common kind, and of a clock that is not told there is nothing to say
        return None


def read_governor(system: Path = Path("/sys/devices/system/cpu")) -> str | None:
    """The clock's governor, several joined; None where the system does not tell."""
    found = {_read(path).strip() for path in system.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(found - {""})) or None


def read_load() -> float | None:
    """The load average of the last minute; None on Windows."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def watch(
    system: Path = Path("/proc"), seconds: float = _WATCHED_SECONDS, sleep: Callable[[float], None] = time.sleep
) -> tuple[dict[str, float] | None, float | None]:
    """How many cores other programs take, and the share that the host gave to others; None where there is no /proc."""
    if not (system / "stat").is_file():
        return None, None
    before, whole_before = _read_ticks(system), _read_all_ticks(system)
    sleep(seconds)
    after, whole = _read_ticks(system), [b - a for a, b in zip(whole_before, _read_all_ticks(system), strict=True)]
    elapsed = sum(whole[:8]) / _count_processors(system) if sum(whole[:8]) else 1  # ticks that passed on each processor
    busy: dict[str, float] = {}
    for process, (name, ticks) in after.items():
        share = (ticks - before.get(process, (name, ticks))[1]) / elapsed
        if share > _BUSY and process != str(os.getpid()):
            busy[name] = busy.get(name, 0.0) + share
    return busy, _compute_steal(whole)


def _read(path: Path) -> str:
    """A small file's text; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _read_numbers(paths: Iterable[Path]) -> list[float]:
    return [float(text) for path in paths if (text := _read(path).strip()).isdecimal()]


def _compute_steal(ticks: Sequence[int]) -> float | None:
    return ticks[7] / max(sum(ticks[:8]), 1) if len(ticks) > 7 else None


def _read_ticks(system: Path) -> dict[str, tuple[str, int]]:
    """Processes by number: the program's name, and the ticks of processor time it has had."""
    found = {}
    for path in system.glob("[0-9]*/stat"):
        head, _, rest = _read(path).rpartition(")")
        fields = rest.split()
        if not fields:  # it has ended meanwhile
            continue
        found[path.parent.name] = head.partition("(")[2], int(fields[11]) + int(fields[12])
    return found


def _read_all_ticks(system: Path) -> list[int]:
    """The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, ..., over all processors."""
    return [int(ticks) for ticks in (system / "stat").read_text().splitlines()[0].split()[1:]]


def _count_processors(system: Path) -> int:
    lines = (system / "stat").read_text().splitlines()
    return sum(line.startswith("cpu") for line in lines) - 1


_REPEATS, _LEAST_REPEATS, _ENOUGH_SECONDS = 9, 3, 0.5
_LARGEST_BYTE = 2**29  # of a copy's source and target together
# of a matrix product, large enough for full speed: 20 ms of one core, 22 ms of an H100 in float32 and 2 ms in bfloat16
_SIZE = {"cpu": 1024, "cuda": 8192}


def measure_rates(threads: int, dtypes: Sequence[str], device: str) -> Rates:
    """Measure the ceilings for so many threads; takes half a second. This process's threads are then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        clock = choose_clock(device, threads)
        products = {dtype: measure_products(dtype, device, clock) for dtype in dtypes}
        return Rates(threads, measure_bandwidth(device, clock), products)
    finally:
        torch.set_num_threads(before)


def read_cache_size(device: str) -> int:
    """The size of the last cache before the memory: the processor's, or the GPU's L2."""
    if device == "cuda":
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)
    return read_last_level_cache()


def measure_bandwidth(device: str, clock: Clock) -> float:
    """Bytes a second that a plain copy reads and writes, out of the last-level cache.

    A GPU's takes a copy of ten times its cache to forget it.
    """
    size = (_LARGEST_BYTE if device == "cuda" else min(2 * read_cache_size(device), _LARGEST_BYTE)) // 2
    source, target = (torch.ones(size // 4, device=device) for _ in range(2))
    return 2 * source.nbytes / _time_call(lambda: target.copy_(source), clock)


def measure_products(dtype: str, device: str, clock: Clock) -> float:
    """Floating-point operations a second of a product of two square matrices."""
    size = _SIZE[device]
    a, b = (torch.randn(size, size, device=device).to(DTYPES[dtype]) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * size**3 / _time_call(lambda: torch.mm(a, b, out=out), clock)


def measure_noise(clock: Clock, repeats: int = 200) -> float:
    """How much the same work varies from one time to the next: half the range of the middle half, as a fraction.

    The work is a copy of 4 MB, a millisecond or less, as the cases of a benchmark are.
    """
    source, target = torch.ones(2**20), torch.ones(2**20)
    times = [clock.time_chunk(lambda: target.copy_(source), [()]) for _ in range(repeats)]
    low, middle, high = statistics.quantiles(times, n=4)
    return (high - low) / 2 / middle


def measure_timer() -> float:
    """Seconds between two readings of the clock that differ, at best."""
    found = []
    for _ in range(1000):
        first = second = time.perf_counter()
        while second == first:
            second = time.perf_counter()
        found.append(second - first)
    return min(found)


def _time_call(call: Callable[[], object], clock: Clock) -> float:
    """Of nine calls, or of as many as half a second allows, three at least."""
    call()
    times: list[float] = []
    end = clock.now() + _ENOUGH_SECONDS
    while len(times) < _REPEATS and (len(times) < _LEAST_REPEATS or clock.now() < end):
        times.append(clock.time_chunk(call, [()]))
    return statistics.median(times)


_LOUD, _COARSE_SECONDS = 0.03, 1e-6  # above these it is worth a sentence


def examine(cores: int) -> Condition:
    """Look and measure; takes a few seconds."""
    threads = torch.get_num_threads()
    busy, steal_time = watch()
    found = tuple(measure_rates(count, ["f32"], "cpu") for count in sorted({1, cores}))
    torch.set_num_threads(1)
    noise = measure_noise(choose_clock("cpu", 1))
    torch.set_num_threads(threads)
    return Condition(cores, threads, read_governor(), read_load(), busy, steal_time, measure_timer(), noise, found)


def advise(condition: Condition) -> Iterator[str]:
    """What to change before measuring, the most important first; nothing if all is well."""
    yield from describe_disturbances(
        condition.cores, condition.busy, condition.load, condition.steal_time, condition.governor
    )
    if condition.threads > condition.cores:
        yield f"torch would use {condition.threads} threads on {condition.cores} cores: set OMP_NUM_THREADS to that"
    if condition.cores == 1:
        yield "with one core whatever else runs is in the times: use two or more"
    if condition.timer_seconds > _COARSE_SECONDS:
        yield f"the clock moves in steps of {condition.timer_seconds * 1e6:.1f} us: prefer cases that take milliseconds"
    if condition.noise > _LOUD:
        yield (
            f"the same work varies by {condition.noise:.1%}: give bncli bench a larger --budget, and believe "
            "intervals, not values"
        )
