"""Shift of gradients: what the step of the preceding layers does to the gradient of a layer.

Santurkar et al. 2018 (arXiv:1805.11604), definition 2.1. Shapes: P parameters of a layer; gradients are (*lanes, P).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bncli.shift.samples import ratio, same_shape, wide

Parameters = Mapping[str, Tensor]  # (*lanes, ...) by name
Loss = Callable[[Parameters], Tensor]  # to (*lanes,)


@dataclass(frozen=True)
class LayerGradients:
    """One layer's gradient before, and where the layers before it have moved: each (*lanes, P)."""

    layer: str
    gradient: Tensor
    moved: Tensor


def gradient_shift(
    loss: Loss, before: Parameters, after: Parameters, layers: Mapping[str, Sequence[str]]
) -> Iterator[LayerGradients]:
    """G and G' of each layer: its gradient with all parameters `before`, and with the preceding layers `after`.

    One backward pass for all G, and one pass for each layer but the first, whose G' is its G.

    Args:
        loss: of parameters, (*lanes,), each lane's own; on one and the same batch, in training mode. It must leave
            running statistics and generators as it found them (for a network of bncli: `Network.pure` with cloned
            buffers); what it changes is the caller's to put back.
        before: parameters (*lanes, ...) before the step; it may hold more than `layers` names, which then stay.
        after: the same after the step.
        layers: the names of each layer's parameters, from the first layer to the last; those of a norm belong to the
            layer that it follows.

    Raises:
        ValueError: for a name that is no parameter, or in two layers.
    """
    _checked(layers, before, after)
    every = [name for names in layers.values() for name in names]
    losses, first = gradients(loss, before, every)
    lanes = losses.ndim
    for i, (layer, names) in enumerate(layers.items()):
        G = flat([first[name] for name in names], lanes)
        if i == 0:
            yield LayerGradients(layer, G, G)
            continue
        preceding = [name for names in list(layers.values())[:i] for name in names]
        _, there = gradients(loss, {**before, **{name: after[name] for name in preceding}}, names)
        yield LayerGradients(layer, G, flat([there[name] for name in names], lanes))


def gradients(loss: Loss, parameters: Parameters, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss (*lanes,), and its gradients by the parameters called so: zeros where it does not depend on one."""
    leaves = {name: parameters[name].detach().requires_grad_() for name in names}
    held = {name: value.detach() for name, value in parameters.items() if name not in leaves}
    with torch.enable_grad():
        losses = loss({**held, **leaves})
        if not losses.requires_grad:
            return losses, {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        found = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    return losses.detach(), dict(zip(names, found, strict=True))


def flat(tensors: Sequence[Tensor], lanes: int) -> Tensor:
    """One vector for each lane: (*lanes, P)."""
    return torch.cat([tensor.flatten(lanes) if tensor.ndim > lanes else tensor.unsqueeze(-1) for tensor in tensors], -1)


def shift_norm(gradient: Tensor, moved: Tensor) -> Tensor:
    """||G - G'||_2, in units of the gradient: (*lanes,), >= 0. Not comparable between networks of other scale."""
    same_shape(gradient, moved)
    return length(wide(gradient) - wide(moved))


def relative_shift(gradient: Tensor, moved: Tensor) -> Tensor:
    """||G - G'||_2 / ||G||_2: (*lanes,), >= 0."""
    return ratio(shift_norm(gradient, moved), length(gradient))


def cosine(gradient: Tensor, moved: Tensor) -> Tensor:
    """Cosine of the angle between G and G': (*lanes,), -1 to 1; exactly 1 where they are equal.

    As 1 - |u - u'|^2 / 2 of the directions u, which keeps small angles. Of two gradients of zero it is 1, of one 0.
    """
    same_shape(gradient, moved)
    a, b = length(gradient), length(moved)
    apart = ratio(wide(gradient), a.unsqueeze(-1)) - ratio(wide(moved), b.unsqueeze(-1))
    found = (1 - apart.square().sum(-1) / 2).clamp(min=-1)
    return torch.where((a == 0) == (b == 0), found, 0)


def length(vector: Tensor) -> Tensor:
    """Euclidean, of the last axis."""
    norm: Tensor = torch.linalg.vector_norm(wide(vector), dim=-1)
    return norm


def l2_norm(vector: Tensor) -> Tensor:
    """Euclidean length of a weight or a gradient (*lanes, P), in its units: (*lanes,), >= 0, in float64.

    Of a deep network's gradients the squares may be too large for float32, or too small.
    """
    return length(vector.double())


def _checked(layers: Mapping[str, Sequence[str]], before: Parameters, after: Parameters) -> None:
    owner: dict[str, str] = {}
    for layer, names in layers.items():
        for name in names:
            if name not in before or name not in after:
                raise ValueError(f"layer {layer!r}: expected names of parameters, got {name!r}")
            if name in owner:
                raise ValueError(f"parameter {name!r}: expected in one layer, got in {owner[name]!r} and {layer!r}")
            owner[name] = layer


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
