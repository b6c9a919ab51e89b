"""How many inputs of an activation lie where it has next to no slope."""

import math

import torch
from torch import Tensor

from bncli.errors import ConfigError, unknown
from bncli.shift.samples import wide

FLAT = 0.1  # of the largest slope, whatever its sign
TANH_EDGE = math.atanh(math.sqrt(1 - FLAT))  # where 1 - tanh^2 has fallen to a tenth of 1
SIGMOID_EDGE = 2 * TANH_EDGE  # sigmoid(x) is (1 + tanh(x / 2)) / 2
GELU_STEEPEST = 0.5 * (1 + math.erf(1)) + math.exp(-1) / math.sqrt(math.pi)  # the slope at sqrt 2, its largest
SILU_STEEPEST = 1.0998393194985628  # the slope at 2.3993572805154, where x tanh(x / 2) = 2


def saturation(x: Tensor, *, activation: str = "sigmoid") -> Tensor:
    """Share of inputs x at which the slope |g'(x)| is less than a tenth of g's largest: (*lanes, C), 0 to 1.

    For the sigmoid that is |x| > 3.637, for tanh |x| > 1.818, for relu x <= 0 (a share of 1 is a dead unit).

    Args:
        x: (*lanes, N, C), what the activation is applied to.
        activation: its name; one of `FLAT_WHERE`.

    Raises:
        ConfigError: for an unknown activation.
    """
    if activation not in FLAT_WHERE:
        raise ConfigError(unknown("activation", activation, FLAT_WHERE))
    values = wide(x)
    flat: Tensor = FLAT_WHERE[activation](values)
    return flat.to(values.dtype).mean(-2)


def _gelu(x: Tensor) -> Tensor:
    slope = torch.special.ndtr(x) + x * torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    flat: Tensor = slope.abs() < FLAT * GELU_STEEPEST
    return flat


def _silu(x: Tensor) -> Tensor:
    gate = x.sigmoid()
    return (gate + x * gate * (-x).sigmoid()).abs() < FLAT * SILU_STEEPEST


FLAT_WHERE = {
    "sigmoid": lambda x: x.abs() > SIGMOID_EDGE,
    "tanh": lambda x: x.abs() > TANH_EDGE,
    "relu": lambda x: x <= 0,
    "gelu": _gelu,
    "silu": _silu,
    "identity": lambda x: torch.zeros_like(x, dtype=torch.bool),
}
