"""What sampling noise alone makes of a metric: two samples of one and the same checkpoint.

A metric of a pair is taken on the same examples before and after, and of an unchanged network it is exactly 0. What it
speaks of are distributions, though, each known by N examples; a change that is smaller than what two other samples of
N examples of the *same* network show says nothing about them. That yardstick is on the safe side: noise that both
samples of a pair share has cancelled in the pair and not in the yardstick.

The two samples are drawn with replacement from the one at hand, N from N. Each strays from it as far as it strays
from the population, so they are apart as two fresh samples of N would be, and nothing is left to be corrected; two
disjoint halves would be apart by a factor of about sqrt(2) more (2 for divergences, which go with the square). Of the
change of a metric that stands at the end of its range (the correlation of units that have none) the band is too wide.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NullBand:
    """What a metric is where nothing has changed but the sample: mean and upper edge, each of the metric's shape."""

    mean: Tensor
    upper: Tensor


def null_band(
    metric: Callable[[Tensor, Tensor], Tensor],
    sample: Tensor,
    *,
    seed: int,
    draws: int = 39,
    level: float = 0.95,
    block: int = 1,
) -> NullBand:
    """The null band of a metric of a pair, from one sample (*lanes, N, C).

    Noise of single units is not noise of their median, nor of a mean over pairs of checkpoints: let `metric` return
    what is reported (`lambda a, b: w1(a, b).median(-1).values`). Of a metric of one sample take its change,
    `lambda a, b: (f(a) - f(b)).abs()`.

    Args:
        metric: of two samples (*lanes, N, C); in every lane the same examples are drawn.
        sample: (*lanes, N, C).
        seed: of the draws; torch's global generators are left alone.
        draws: how many pairs of samples.
        level: which share of draws lies below the upper edge.
        block: how many rows following each other belong to one example (its locations), and are drawn together.

    Raises:
        ValueError: for fewer draws than a quantile at this level needs, or a block that does not divide N.
    """
    rows = sample.shape[-2]
    if rows % block:
        raise ValueError(f"expected a block that divides the sample's {rows} rows, got {block}")
    within = torch.arange(block)

    def measure(first: Tensor, second: Tensor) -> Tensor:
        a, b = ((block * i[:, None] + within).flatten().to(sample.device) for i in (first, second))
        return metric(sample.index_select(-2, a), sample.index_select(-2, b))

    return noise_of(measure, rows // block, seed=seed, draws=draws, level=level)


def noise_of(
    measure: Callable[[Tensor, Tensor], Tensor], examples: int, *, seed: int, draws: int = 39, level: float = 0.95
) -> NullBand:
    """Mean and upper quantile of what `measure` gives for two samples, told to it as indices (N,) with repetitions.

    For what takes more than one tensor of examples: the gradients of two batches of one checkpoint, say.
    """
    rank = math.ceil(level * (draws + 1) - 1e-9)  # of so many draws and a further one, that many are below it
    if rank > draws:
        raise ValueError(f"expected at least {math.ceil(level / (1 - level) - 1e-9)} draws for {level:g}, got {draws}")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        first, second = torch.randint(examples, (2, examples), generator=generator)
        found.append(measure(first, second))
    values = torch.stack(found)
    return NullBand(values.mean(0), values.sort(0).values[rank - 1])
