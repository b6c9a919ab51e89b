"""Statistics that a norm uses, against those that it should: running ones, those of another batch, those of its mode.

Shapes: B batches, N examples, C channels.
"""

import math

import torch
from torch import Tensor

from bncli.errors import ConfigError, unknown
from bncli.shift.samples import centred, ratio, same_shape, wide


def mean_estimation_shift(running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """||running mean - mean||_2 over the channels, in units of the activation: (*lanes,), >= 0.

    Args:
        running_mean: (*lanes, C), what the norm uses in evaluation.
        running_var: (*lanes, C).
        mean: (*lanes, C), of the population under the very same weights.
        var: (*lanes, C).
    """
    return (wide(running_mean) - wide(mean)).square().sum(-1).sqrt()


def var_estimation_shift(running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """||running variance - variance||_2 over the channels, in squared units of the activation: (*lanes,), >= 0."""
    return (wide(running_var) - wide(var)).square().sum(-1).sqrt()


def relative_estimation_shift(running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Root mean square over channels of the W2 between running and population Gaussian, in the latter's deviations.

    sqrt(mean(((m' - m)^2 + (s' - s)^2) / s^2)): (*lanes,), >= 0, comparable between layers and between norms.
    """
    deviation = wide(var).sqrt()
    apart = torch.hypot(wide(running_mean) - wide(mean), wide(running_var).sqrt() - deviation)
    return ratio(apart, deviation).square().mean(-1).sqrt()


def normalisation_disturbance(outputs: Tensor) -> Tensor:
    """How far an example's output strays with the rest of its batch: (*lanes,), >= 0.

    Mean over examples and batches of ||G(x; X_b) - mean_b G(x; X_b)||_2 / sqrt(C), times sqrt(B / (B - 1)) because the
    mean is taken over the same B batches (without it, few batches would look calm).

    Args:
        outputs: (*lanes, B, N, C), of the same N examples normalised in the company of B batches.
    """
    batches, channels = outputs.shape[-3], outputs.shape[-1]
    strayed = centred(outputs.flatten(-2).contiguous())[0].unflatten(-1, outputs.shape[-2:])
    distances = strayed.square().sum(-1).sqrt()
    disturbance: Tensor = distances.mean((-2, -1)) * (batches / (batches - 1) / channels) ** 0.5
    return disturbance


def mode_gap(training: Tensor, evaluation: Tensor) -> Tensor:
    """||T - E||_F / ||T - mean T||_F: how far outputs in evaluation lie from those in training: (*lanes,), >= 0.

    1 means: as far as the outputs lie from each other.

    Args:
        training: (*lanes, N, C), the norm's (or the network's) outputs of a batch, with the batch's own statistics.
        evaluation: those of the same examples, with running statistics.
    """
    same_shape(training, evaluation)
    apart = (wide(training) - wide(evaluation)).square().sum((-2, -1)).sqrt()
    return ratio(apart, centred(training)[0].square().sum((-2, -1)).sqrt())


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
