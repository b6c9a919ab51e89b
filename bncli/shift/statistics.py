"""Statistics that a norm uses, against those that it should: running ones, those of another batch, those of its mode.

Shapes: B batches, N examples, C channels.
"""

import torch
from torch import Tensor

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
