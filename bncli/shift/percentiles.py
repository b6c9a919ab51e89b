"""Percentiles of activations and how far they drift: the only definition that the paper's figure 1 gives.

Shapes: N examples, C channels; a sample is (*lanes, N, C).
"""

from torch import Tensor

from bncli.shift.samples import quantiles, ratio, same_shape

SHARES = (0.15, 0.50, 0.85)  # of the paper's figure 1 b, c


def percentiles(x: Tensor) -> Tensor:
    """The 15th, 50th and 85th percentile of each channel: (*lanes, 3, C), in units of the activation."""
    return quantiles(x, SHARES)


def percentile_drift(before: Tensor, after: Tensor) -> Tensor:
    """How far the three percentiles moved, on average, in units of the activation: (*lanes, C), >= 0.

    Args:
        before: (*lanes, N, C).
        after: the same examples later in training.
    """
    same_shape(before, after)
    return (percentiles(after) - percentiles(before)).abs().mean(-2)


def relative_percentile_drift(before: Tensor, after: Tensor) -> Tensor:
    """The same in widths of the band between the 15th and the 85th percentile before: (*lanes, C), >= 0.

    Infinite where a channel was constant over the band and moved.
    """
    same_shape(before, after)
    old = percentiles(before)
    drift = (percentiles(after) - old).abs().mean(-2)
    return ratio(drift, old[..., 2, :] - old[..., 0, :])
