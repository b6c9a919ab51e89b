"""Which kernels run while a case and its rivals are called, by torch's profiler; in a process that times nothing."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bncli.timing.clock import Arguments, Call
from bncli.timing.inspection import silence_profiler
from bncli.timing.results import KernelShare
from bncli.timing.workloads import Entry, TimerSettings, make_timers

_CALLS = 5  # with the median of them: one that is held up by another program has other shares


def profile_entry(
    entry: Entry, device: str, settings: TimerSettings, chance: random.Random
) -> dict[str, tuple[KernelShare, ...]]:
    """What runs in a call of each workload, on arguments that rotate as they do where it is timed.

    CUDA graphs are not replayed: the kernels are those that a graph would hold.
    """
    clock, found = _ProfilerClock(device), {}
    for name, timer in make_timers(entry, clock, settings, chance).items():
        for timer.calls in (1, _CALLS):  # the first warms up what is called, and the profiler
            timer.time_chunk(0)
        found[name] = share_out(clock.durations, _CALLS)
    return found


def share_out(durations: Iterable[tuple[str, float]], calls: int) -> tuple[KernelShare, ...]:
    """Names with their durations in turn, one an occurrence, as counts in one of `calls` and shares, the largest first.

    Of a name that occurs equally often in each call, the median call counts. Nothing is said of what took no time.
    """
    by_name = defaultdict[str, list[float]](list)
    for name, duration in durations:
        by_name[name].append(duration)
    typical = {name: _choose_call(of, calls) for name, of in by_name.items()}
    whole = sum(typical.values())
    shares = [KernelShare(name, len(by_name[name]) / calls, of / whole) for name, of in typical.items() if of > 0]
    return tuple(sorted(shares, key=lambda each: -each.share))


def _choose_call(durations: Sequence[float], calls: int) -> float:
    each, rest = divmod(len(durations), calls)
    if rest:
        return sum(durations) / calls
    return median(sum(durations[call * each : (call + 1) * each]) for call in range(calls))


def list_durations(events: Iterable[Any], device: str) -> list[tuple[str, float]]:
    """Of a profiler's events the GPU's kernels and copies, or a processor's operators without those that they call."""
    if device == "cpu":
        return [(event.name, event.self_cpu_time_total) for event in events if event.device_type.name == "CPU"]
    return [
        (event.name, event.time_range.elapsed_us())
        for event in events
        if event.device_type.name == "CUDA" and not event.is_user_annotation  # which span kernels
    ]


class _ProfilerClock:
    """In the place of a Clock: keeps what ran in the last chunk, and tells no time."""

    def __init__(self, device: str) -> None:
        self.durations: list[tuple[str, float]] = []
        self._device = device

    def now(self) -> float:
        """See Clock."""
        return perf_counter()

    def time_chunk(self, call: Call, sets: Sequence[Arguments]) -> float:
        """See Clock; the time is with the profiler's."""
        on_gpu, begin = self._device == "cuda", perf_counter()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with silence_profiler(), profile(activities=activities) as profiler:
            for arguments in sets:
                call(*arguments)
            if on_gpu:
                torch.cuda.synchronize()
        self.durations = list_durations(profiler.events() or (), self._device)
        return perf_counter() - begin
