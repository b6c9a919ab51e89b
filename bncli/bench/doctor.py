"""Is this machine fit to measure on? What is known of its state, and what to change, in words."""

from collections.abc import Iterator

import torch

from bncli.bench.clock import clock_for
from bncli.bench.machine import noise_floor, rates, timer_resolution
from bncli.bench.rows import Condition
from bncli.bench.vitals import disturbances, governor, load, watch

_LOUD, _COARSE_SECONDS = 0.03, 1e-6  # above these a doubt is worth a sentence


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
    yield from disturbances(condition.cores, condition.busy, condition.load, condition.stolen, condition.governor)
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
