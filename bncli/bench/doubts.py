"""Doubts about a measurement, in words: what a reader should know before believing it."""

import statistics
from collections.abc import Mapping, Sequence

from bncli.bench.estimates import outliers, ratios

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
