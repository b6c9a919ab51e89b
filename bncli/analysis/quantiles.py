"""Quantiles of the t- and the beta distribution, of one at a time: importing scipy takes longer than a whole table."""

import math
from functools import cache

_TINY = 1e-300
_ENOUGH = 1e-15  # relative change below which a series or a root has converged


def t_quantile(freedom: float, p: float) -> float:
    """The number below which Student's t has probability p, .5 <= p < 1."""
    above = 2 * (1 - p)
    if above <= 0.5:
        x = beta_quantile(freedom / 2, 0.5, above)
        return math.sqrt(freedom * (1 - x) / x)
    y = beta_quantile(0.5, freedom / 2, 1 - above)
    return math.sqrt(freedom * y / (1 - y))


@cache
def beta_quantile(a: float, b: float, p: float) -> float:
    """The number below which a beta variable has probability p, 0 <= p <= 1: Newton's steps within a bracket."""
    low, high, x = 0.0, 1.0, a / (a + b)
    scale = -log_beta(a, b)
    for _ in range(200):
        below = _beta_share(a, b, x, scale)
        low, high = (x, high) if below < p else (low, x)
        density = math.exp(scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x))
        new = x - (below - p) / density if density > _TINY else math.inf
        new = new if low < new < high else (low + high) / 2
        if abs(new - x) <= _ENOUGH * x or not low < new < high:
            return new
        x = new
    return x


def log_beta(a: float, b: float) -> float:
    """The logarithm of the beta function."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _beta_share(a: float, b: float, x: float, scale: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22) and Lentz's method."""
    if x > (a + 1) / (a + b + 2):  # where it converges fast
        return 1 - _beta_share(b, a, 1 - x, scale)
    c, d = 1.0, 1 / _apart(1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, 10_000):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / _apart(1 + factor * d), _apart(1 + factor / c)
            found *= c * d
        if abs(c * d - 1) <= _ENOUGH:
            break
    return found * math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a


def _apart(number: float) -> float:
    """A number that may be divided by."""
    return number if abs(number) > _TINY else _TINY
