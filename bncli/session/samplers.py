"""Where a search looks: points of its space, from its seed and a variant's trials alone, the same on every machine."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any

from bncli.config.search import Range, Search

TrialPoint = Mapping[str, Any]  # the searched keys with the values of one trial
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)


def draw_points(search: Search, many: int) -> list[TrialPoint]:
    """The first points of a Halton sequence, or of random draws where they are asked for, each once.

    Fewer than asked for where the space has no more.
    """
    draw = _draw_random if search.sampler == "random" else _draw_halton
    points: dict[str, TrialPoint] = {}
    for shares in islice(draw(len(search.over), search.sampler_seed), 100 * many):
        point = {key: _value_at(kind, share) for (key, kind), share in zip(search.over.items(), shares, strict=True)}
        points.setdefault(repr(point), point)
        if len(points) == many:
            break
    return [*points.values()]


def _value_at(kind: Range | Sequence[Any], share: float) -> Any:
    return kind.at(share) if isinstance(kind, Range) else kind[int(share * len(kind))]


def _draw_random(keys: int, seed: int) -> Iterator[list[float]]:
    generator = random.Random(seed)
    while True:
        yield [generator.random() for _ in range(keys)]


def _draw_halton(keys: int, seed: int) -> Iterator[list[float]]:
    """Halton's sequence (1960) with the digits of each place permuted at random (Owen 2017, arXiv:1706.02808).

    The permutations are made of `random()` alone, which Python promises not to change.
    """
    generator = random.Random(seed)
    orders = {
        base: [sorted(range(base), key=lambda _: generator.random()) for _ in range(math.ceil(32 / math.log2(base)))]
        for base in _PRIMES[:keys]
    }
    for index in count():
        yield [_invert(index, base, places) for base, places in orders.items()]


def _invert(index: int, base: int, places: Sequence[Sequence[int]]) -> float:
    """The index's digits, permuted, mirrored behind the point: from 0 to below 1."""
    share, weight = 0.0, 1.0
    for order in places:
        index, digit = divmod(index, base)
        weight /= base
        share += order[digit] * weight
    return min(share, 1 - 2**-53)
