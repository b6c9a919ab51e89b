"""Who is timed when, when it is enough, and what the samples warn of.

A block of a case C, native N and copy K is C N K K N C, or the same from another order drawn at random: what drifts
linearly within a block cancels in every ratio, and what comes in time with the blocks, such as the work of another
process on this core, meets each of them as often.
"""

import gc
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from bncli.timing.clock import Clock
from bncli.timing.results import CaseResult, Stopped
from bncli.timing.stats import Blocks, count_outliers, estimate_median, estimate_ratio, measure_width, pair_ratios
from bncli.timing.workloads import Entry, Timer, TimerSettings, make_timers

_DRIFT = 0.05  # between the medians of the first and the second half
_OUTLIERS = 0.1  # of all chunks


def find_warnings(samples: Mapping[str, Blocks]) -> tuple[str, ...]:
    """What the samples themselves warn of: clocks and ratios that drift, many outliers."""
    found = []
    for name, blocks in samples.items():
        found += _find_drift(f"the time of {name!r}", [statistics.fmean(block) for block in blocks])
        if name != "case":
            found += _find_drift(f"the ratio to {name!r}", pair_ratios(samples["case"], blocks))
        chunks = [s for block in blocks for s in block]
        if (count := count_outliers(chunks)) > _OUTLIERS * len(chunks):
            found.append(
                f"{count} of {len(chunks)} chunks of {name!r} are outliers: other processes disturb this machine"
            )
    return tuple(found)


def _find_drift(what: str, values: Sequence[float]) -> list[str]:
    half = len(values) // 2
    if half < 4:
        return []
    before, after = statistics.median(values[:half]), statistics.median(values[-half:])
    spread = statistics.median(abs(v - statistics.median(values)) for v in values)
    change = after / before - 1
    if abs(change) <= _DRIFT or abs(after - before) <= 2 * spread:
        return []
    return [f"{what} changed by {change:+.0%} from the first to the second half: clock, heat or load"]


def measure(entry: Entry, clock: Clock, settings: TimerSettings, seed: int = 0) -> CaseResult:
    """Time a case beside its rivals in this process; `seed` draws the arguments' padding and the blocks' order."""
    chance = random.Random(seed)
    return interleave(entry.name, make_timers(entry, clock, settings, chance), clock, settings, chance)


def interleave(
    name: str, timers: Mapping[str, Timer], clock: Clock, settings: TimerSettings, chance: random.Random
) -> CaseResult:
    """Time the candidate ("case", first) and its rivals in blocks; the garbage collector rests meanwhile.

    Stops when the interval of its ratio to the first rival is narrow enough, asked at 8, 12, 18, ... blocks
    only, so that looking often does not make it look narrow by chance; or when seconds or blocks have run out.
    """
    with pause_garbage_collection():
        _warm_up(timers, clock, settings)
        samples, stopped = _time_blocks(timers, clock, settings, chance)
    return _summarise(name, timers, samples, stopped, warm=settings.warm)


def _warm_up(timers: Mapping[str, Timer], clock: Clock, settings: TimerSettings) -> None:
    """Run each of them untimed, then choose its calls in a chunk."""
    end = clock.now() + settings.warmup
    while clock.now() < end:
        for timer in timers.values():
            timer.time_chunk(0)
    for timer in timers.values():
        timer.size(settings.chunk)


def _time_blocks(
    timers: Mapping[str, Timer], clock: Clock, settings: TimerSettings, chance: random.Random
) -> tuple[dict[str, list[tuple[float, float]]], Stopped]:
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in timers}
    names, end, check = list(timers), clock.now() + settings.seconds, settings.least_blocks
    for block in range(settings.most_blocks):
        order = chance.sample(names, len(names))
        rise = {name: timers[name].time_chunk(block) for name in order}
        fall = {name: timers[name].time_chunk(block) for name in reversed(order)}
        for name in names:
            samples[name].append((rise[name], fall[name]))
        if block + 1 >= check:
            if measure_width(estimate_ratio(samples["case"], samples[names[1]])) <= settings.half_width:
                return samples, "narrow"
            check = check * 3 // 2
        if block + 1 >= settings.least_blocks and clock.now() >= end:
            return samples, "time"
    return samples, "blocks"


def _summarise(
    name: str, timers: Mapping[str, Timer], samples: Mapping[str, Blocks], stopped: Stopped, *, warm: bool
) -> CaseResult:
    """Medians, ratios, outliers and warnings beside the raw samples."""
    blocks = {c: tuple(taken) for c, taken in samples.items()}
    cold = all(timer.cold for timer in timers.values())
    cached = () if warm or cold else ("not cold: all argument sets together fit the last-level cache; see --warm",)
    return CaseResult(
        name=name,
        samples=blocks,
        calls={c: timer.calls for c, timer in timers.items()},
        seconds={c: estimate_median([statistics.fmean(block) for block in taken]) for c, taken in blocks.items()},
        ratios={c: estimate_ratio(blocks["case"], taken) for c, taken in blocks.items() if c != "case"},
        outliers={c: count_outliers([s for block in taken for s in block]) for c, taken in blocks.items()},
        stopped=stopped,
        argument_copies={c: timer.argument_copies for c, timer in timers.items()},
        cold=cold,
        warnings=(*cached, *find_warnings(blocks)),
    )


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Collect garbage once, then not until the end."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
