"""The loss and its gradient along the step: how far a gradient can be trusted.

Santurkar et al. 2018 (arXiv:1805.11604), section 3.1. Shapes: K step sizes; results of a walk are (*lanes, K).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bncli.shift.gradients import Loss, Parameters, flat, gradients, length
from bncli.shift.samples import ratio, wide


@dataclass(frozen=True)
class Walk:
    """What was met at each step size eta on the way from theta along minus the gradient g: each (*lanes, K)."""

    losses: Tensor  # L(theta - eta g)
    changes: Tensor  # ||grad L(theta) - grad L(theta - eta g)||_2
    lengths: Tensor  # ||eta g||_2


def walk(loss: Loss, parameters: Parameters, sizes: Sequence[Tensor]) -> Walk:
    """Walk from `parameters` along minus the gradient; one backward pass for each size, and one to begin with.

    Args:
        loss: of parameters, (*lanes,); on one and the same batch, in training mode. It must leave running statistics
            and generators as it found them; what it changes is the caller's to put back.
        parameters: (*lanes, ...) by name.
        sizes: K step sizes eta, each () or (*lanes,); the paper takes 1/2 to 4 times the learning rate for its VGG.
    """
    names = list(parameters)
    begin, start = gradients(loss, parameters, names)
    origin = flat(list(start.values()), begin.ndim)
    losses, changes, lengths = [], [], []
    for size in sizes:
        there = {name: parameters[name].detach() - _along(size, start[name]) * start[name] for name in names}
        met, found = gradients(loss, there, names)
        losses.append(met)
        changes.append(length(origin - flat(list(found.values()), met.ndim)))
        lengths.append(size * length(origin))
    return Walk(torch.stack(losses, -1), torch.stack(changes, -1), torch.stack(lengths, -1))


def loss_range(walk: Walk) -> Tensor:
    """The largest loss on the way less the smallest, in units of the loss: (*lanes,), >= 0."""
    return wide(walk.losses).amax(-1) - wide(walk.losses).amin(-1)


def gradient_predictiveness(walk: Walk) -> Tensor:
    """The largest change of the gradient on the way, in units of the gradient: (*lanes,), >= 0."""
    return wide(walk.changes).amax(-1)


def effective_smoothness(walk: Walk) -> Tensor:
    """The largest change of the gradient by the distance walked, max ||dg|| / ||eta g||: (*lanes,), >= 0.

    A lower bound of the gradient's Lipschitz constant along the step; the curvature, if the loss is quadratic.
    """
    return ratio(wide(walk.changes), wide(walk.lengths)).amax(-1)


def _along(size: Tensor, gradient: Tensor) -> Tensor:
    return size.view(*size.shape, *[1] * (gradient.ndim - size.ndim))
