"""Distances between the distributions of each channel before and after.

Shapes: N examples, C channels; a sample is (*lanes, N, C). Standard deviations are biased (1/N).
"""

import torch
from torch import Tensor

from bncli.shift.samples import moments, ordered, quantiles, ratio, same_shape, wide


def location_drift(before: Tensor, after: Tensor) -> Tensor:
    """|m' - m| / s: how many of its standard deviations before a channel's mean moved: (*lanes, C), >= 0."""
    same_shape(before, after)
    (m1, s1), (m2, _) = moments(before), moments(after)
    return ratio((m2 - m1).abs(), s1)


def scale_drift(before: Tensor, after: Tensor) -> Tensor:
    """|log(s' / s)|: by what factor a channel widened or narrowed, 0.69 for 2 and for 1/2: (*lanes, C), >= 0.

    Infinite where a channel became constant, or had been.
    """
    same_shape(before, after)
    s1, s2 = moments(before)[1], moments(after)[1]
    return torch.where(s1 == s2, 0, (s2 / s1).log().abs())


def w1(before: Tensor, after: Tensor) -> Tensor:
    """1-Wasserstein distance of the two samples of each channel, in units of the activation: (*lanes, C), >= 0.

    The mean distance between values of the same rank, which is the area between the distribution functions.
    """
    same_shape(before, after)
    return (ordered(after) - ordered(before)).abs().mean(-1)


def relative_w1(before: Tensor, after: Tensor) -> Tensor:
    """The same in standard deviations before: (*lanes, C), >= 0."""
    return ratio(w1(before, after), moments(before)[1])


def gaussian_w2(before: Tensor, after: Tensor) -> Tensor:
    """2-Wasserstein distance of Gaussians fitted to each channel, in units of the activation: (*lanes, C), >= 0.

    W2^2 = (m - m')^2 + (s - s')^2 for means m and standard deviations s (Dowson & Landau 1982). Blind to everything
    beyond two moments.
    """
    same_shape(before, after)
    (m1, s1), (m2, s2) = moments(before), moments(after)
    return torch.hypot(m2 - m1, s2 - s1)


def symmetric_kl(before: Tensor, after: Tensor) -> Tensor:
    """Jeffreys' divergence KL(P|Q) + KL(Q|P) of Gaussians fitted to each channel, in nats: (*lanes, C), >= 0.

    ((s/s' - s'/s)^2 + (m - m')^2 (1/s^2 + 1/s'^2)) / 2. It stays as it is where both samples are mapped by the same
    scale and shift; infinite where one of them is constant and the other is not the same.
    """
    same_shape(before, after)
    return _jeffreys(*moments(before), *moments(after))


def standardised_symmetric_kl(before: Tensor, after: Tensor) -> Tensor:
    """The same after each sample was standardised by mean and deviation of its whole layer: (*lanes, C), >= 0.

    What is left is how channels changed beside each other; a shift or a scale that the whole layer shares is gone.
    (One standardisation for both samples would change nothing, one for each channel and sample leave nothing.)
    """
    same_shape(before, after)
    return _jeffreys(*_within_layer(before), *_within_layer(after))


def ks(before: Tensor, after: Tensor) -> Tensor:
    """Kolmogorov and Smirnov's largest gap between the two distribution functions: (*lanes, C), 0 to 1."""
    same_shape(before, after)
    old, new = ordered(before), ordered(after)
    places = torch.cat([old, new], -1)
    below = [torch.searchsorted(values, places, right=True) for values in (old, new)]
    return (below[1] - below[0]).abs().amax(-1).to(old.dtype) / old.shape[-1]


def _jeffreys(m1: Tensor, s1: Tensor, m2: Tensor, s2: Tensor) -> Tensor:
    wider = (s1 - s2) * (s1 + s2)  # s/s' - s'/s, times s s'
    widening = ratio(wider.abs(), s1 * s2).square()
    moved = (m2 - m1).abs()
    return (widening + ratio(moved, s1).square() + ratio(moved, s2).square()) / 2


def _within_layer(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel's moments in units of the whole layer's: its mean less the layer's, and its deviation."""
    mean, deviation = moments(x)
    layer = wide(x).flatten(-2).unsqueeze(-1)  # (*lanes, N C, 1)
    centre, spread = moments(layer)
    return ratio(mean - centre, spread), ratio(deviation, spread)


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


def activation_rms(x: Tensor) -> Tensor:
    """Root mean square of a sample (*lanes, N, C) over examples and channels, in its units: (*lanes,), in float64.

    Means are left in: of values with mean m and standard deviation s it is sqrt(m^2 + s^2).
    """
    return x.double().square().mean((-2, -1)).sqrt()
