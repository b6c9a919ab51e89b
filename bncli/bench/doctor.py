"""Is this machine fit to measure on? What is known of its state, and what to change, in words.

Of other processes nothing is read but how busy they are and the program's name. What a system does not tell is None.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from bncli.bench.machine import clock_for, noise_floor, rates, timer_resolution
from bncli.bench.rows import Condition

_WATCHED_SECONDS = 0.5
_BUSY = 0.05  # of a core: a process that takes less is left out
# Above these a doubt is worth a sentence.
_LOUD, _STOLEN, _COARSE_SECONDS, _TAKEN = 0.03, 0.01, 1e-6, 0.2


def examine(cores: int) -> Condition:
    """Look and measure; takes a few seconds."""
    threads = torch.get_num_threads()
    busy, stolen = watch()
    found = tuple(rates(count, ["f32"], "cpu") for count in sorted({1, cores}))
    torch.set_num_threads(1)
    noise = noise_floor(clock_for("cpu", 1))
    torch.set_num_threads(threads)
    return Condition(cores, threads, governor(), load(), busy, stolen, timer_resolution(), noise, found)


def advice(condition: Condition) -> Iterator[str]:
    """What to change before measuring, the most important first; nothing if all is well."""
    taken = sum(condition.busy.values()) if condition.busy else 0.0
    if condition.busy and taken > _TAKEN:
        names = ", ".join(f"{name} {cores:.1f}" for name, cores in sorted(condition.busy.items(), key=lambda x: -x[1]))
        yield f"other programs take {taken:.1f} of {condition.cores} cores ({names}): end them, or measure later"
    elif condition.busy is None and condition.load is not None and condition.load > condition.cores / 2:
        yield f"the load is {condition.load:.1f} on {condition.cores} cores: end other programs, or measure later"
    if condition.stolen is not None and condition.stolen > _STOLEN:
        yield f"the host gives {condition.stolen:.0%} of this machine's time to others: measure on one of your own"
    if condition.governor not in (None, "performance"):
        yield (
            f"the governor is {condition.governor!r}, which moves the clock with the load: "
            "sudo cpupower frequency-set -g performance"
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


def governor(system: Path = Path("/sys/devices/system/cpu")) -> str | None:
    """The clock's governor, several joined; None where the system does not tell."""
    found = {path.read_text().strip() for path in system.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(found)) or None


def load() -> float | None:
    """The load average of the last minute; None on Windows."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def watch(
    system: Path = Path("/proc"), seconds: float = _WATCHED_SECONDS, sleep: Callable[[float], None] = time.sleep
) -> tuple[dict[str, float] | None, float | None]:
    """How many cores other programs take, and the share of time stolen by the host; None where there is no /proc."""
    if not (system / "stat").is_file():
        return None, None
    before, whole_before = _ticks(system), _all_ticks(system)
    sleep(seconds)
    after, whole = _ticks(system), [b - a for a, b in zip(whole_before, _all_ticks(system), strict=True)]
    elapsed = sum(whole[:8]) / _processors(system) if sum(whole[:8]) else 1  # ticks that passed on each processor
    busy: dict[str, float] = {}
    for process, (name, ticks) in after.items():
        share = (ticks - before.get(process, (name, ticks))[1]) / elapsed
        if share > _BUSY and process != str(os.getpid()):
            busy[name] = busy.get(name, 0.0) + share
    return busy, whole[7] / max(sum(whole[:8]), 1) if len(whole) > 7 else None


def _ticks(system: Path) -> dict[str, tuple[str, int]]:
    """Processes by number: the program's name, and the ticks of processor time it has had."""
    found = {}
    for path in system.glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text().rpartition(")")
        except OSError:  # it has ended meanwhile
            continue
        fields = rest.split()
        found[path.parent.name] = head.partition("(")[2], int(fields[11]) + int(fields[12])
    return found


def _all_ticks(system: Path) -> list[int]:
    """The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, ..., over all processors."""
    return [int(ticks) for ticks in (system / "stat").read_text().splitlines()[0].split()[1:]]


def _processors(system: Path) -> int:
    lines = (system / "stat").read_text().splitlines()
    return sum(line.startswith("cpu") for line in lines) - 1
