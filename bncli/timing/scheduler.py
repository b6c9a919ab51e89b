"""Who is timed when, when it is enough, and what the samples give reason to doubt.

A block of a case C, native N and copy K is C N K K N C, or the same from another order drawn at random: what drifts
linearly within a block cancels in every ratio, and what comes in time with the blocks, such as the turns of another
process on this core, meets each contender as often.
"""

import gc
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from bncli.timing.clock import Clock
from bncli.timing.results import CaseResult, Stopped
from bncli.timing.stats import median, outliers, ratio, ratios, relative_width
from bncli.timing.subjects import Effort, Entry, Timed, timed_here

_DRIFT = 0.05  # between the medians of the first and the second half
_OUTLIERS = 0.1  # of all chunks


def doubts(samples: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[str, ...]:
    """What the samples themselves give reason to doubt: clocks and ratios that drift, many outliers."""
    found = []
    for contender, blocks in samples.items():
        found += _drift(f"the time of {contender!r}", [statistics.fmean(block) for block in blocks])
        if contender != "case":
            found += _drift(f"the ratio to {contender!r}", ratios(samples["case"], blocks))
        chunks = [s for block in blocks for s in block]
        if (count := outliers(chunks)) > _OUTLIERS * len(chunks):
            found.append(
                f"{count} of {len(chunks)} chunks of {contender!r} are outliers: other processes disturb this machine"
            )
    return tuple(found)


def _drift(what: str, values: Sequence[float]) -> list[str]:
    half = len(values) // 2
    if half < 4:
        return []
    before, after = statistics.median(values[:half]), statistics.median(values[-half:])
    spread = statistics.median(abs(v - statistics.median(values)) for v in values)
    change = after / before - 1
    if abs(change) <= _DRIFT or abs(after - before) <= 2 * spread:
        return []
    return [f"{what} changed by {change:+.0%} from the first to the second half: clock, heat or load"]


Samples = dict[str, list[tuple[float, float]]]


def measure(entry: Entry, clock: Clock, effort: Effort, seed: int = 0) -> CaseResult:
    """Time a case beside its yardsticks in this process; `seed` draws the arguments' padding and the blocks' order."""
    chance = random.Random(seed)
    return take_turns(entry.name, timed_here(entry, clock, effort, chance), clock, effort, chance)


def take_turns(
    name: str, contenders: Mapping[str, Timed], clock: Clock, effort: Effort, chance: random.Random
) -> CaseResult:
    """Time contenders, "case" first, in blocks; the garbage collector rests meanwhile.

    Stops when the interval of the case's ratio to the second contender is narrow enough, asked at 8, 12, 18, ... blocks
    only, so that looking often does not make it look narrow by chance; or when seconds or blocks have run out.
    """
    with no_garbage_collection():
        _warm_up(contenders, clock, effort)
        samples, stopped = _blocks(contenders, clock, effort, chance)
    return _summarised(name, contenders, samples, stopped, warm=effort.warm)


def _warm_up(contenders: Mapping[str, Timed], clock: Clock, effort: Effort) -> None:
    """Run every contender untimed, then choose its calls in a chunk."""
    end = clock.now() + effort.warmup
    while clock.now() < end:
        for contender in contenders.values():
            contender.chunk(0)
    for contender in contenders.values():
        contender.size(effort.chunk)


def _blocks(
    contenders: Mapping[str, Timed], clock: Clock, effort: Effort, chance: random.Random
) -> tuple[Samples, Stopped]:
    samples: Samples = {name: [] for name in contenders}
    names, end, look = list(contenders), clock.now() + effort.seconds, effort.least_blocks
    for block in range(effort.most_blocks):
        order = chance.sample(names, len(names))
        rise = {name: contenders[name].chunk(block) for name in order}
        fall = {name: contenders[name].chunk(block) for name in reversed(order)}
        for name in names:
            samples[name].append((rise[name], fall[name]))
        if block + 1 >= look:
            if relative_width(ratio(samples["case"], samples[names[1]])) <= effort.half_width:
                return samples, "narrow"
            look = look * 3 // 2
        if block + 1 >= effort.least_blocks and clock.now() >= end:
            return samples, "time"
    return samples, "blocks"


def _summarised(
    name: str, contenders: Mapping[str, Timed], samples: Samples, stopped: Stopped, *, warm: bool
) -> CaseResult:
    """Medians, ratios, outliers and doubts beside the raw samples."""
    blocks = {c: tuple(taken) for c, taken in samples.items()}
    cold = all(contender.cold for contender in contenders.values())
    cached = () if warm or cold else ("not cold: all argument sets together fit the last-level cache; see --warm",)
    return CaseResult(
        name=name,
        samples=blocks,
        calls={c: contender.calls for c, contender in contenders.items()},
        seconds={c: median([statistics.fmean(block) for block in taken]) for c, taken in blocks.items()},
        ratios={c: ratio(blocks["case"], taken) for c, taken in blocks.items() if c != "case"},
        outliers={c: outliers([s for block in taken for s in block]) for c, taken in blocks.items()},
        stopped=stopped,
        clones={c: contender.clones for c, contender in contenders.items()},
        cold=cold,
        warnings=(*cached, *doubts(blocks)),
    )


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage once, then not until the end."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
