"""Which layer of a diverged run stopped being finite first."""

import torch
from torch import Tensor

from bncli.engine.layers import Layer, outputs_of
from bncli.engine.network import Network


def first_overflows(network: Network, x: Tensor, *, clipped: bool = False) -> list[str]:
    """For each lane, the layer that makes a batch's loss infinite or NaN; "" where every layer is finite.

    A parameter that is not finite was made so by the step before: the gradient runs from the output to the input, so
    the last such layer overflowed first. Where all parameters are finite, an output is not: the first such layer.

    Args:
        network: with the weights that the step is taken from.
        x: (*lanes, N, features), the batch of the step.
        clipped: whether gradients are clipped by their common norm, which spreads one NaN over all of them: then
            nothing is said where parameters are not finite.
    """
    layers = network.layers(x[0] if network.lanes else x)
    names = {module for layer in layers for module in _modules(layer)}
    outputs = network.watch(x, lambda model: outputs_of(model, names), shared=False)
    count = len(x) if network.lanes else 1
    blamed = [""] * count
    for layer in reversed(layers):  # so that the first in order has the last word
        for lane in _not_finite([outputs[module] for module in _modules(layer)], count):
            blamed[lane] = layer.name
    for layer in layers:  # and here the last
        for lane in _not_finite([network.parameters[name] for name in layer.parameters], count):
            blamed[lane] = "" if clipped else layer.name
    return blamed


def _modules(layer: Layer) -> list[str]:
    return [name for name in (layer.name, layer.norm, layer.activation) if name]


def _not_finite(tensors: list[Tensor], lanes: int) -> set[int]:
    """The lanes in which some tensor (*lanes, ...) has a value that is not finite."""
    bad = [(~torch.isfinite(tensor.detach())).reshape(lanes, -1).any(-1) for tensor in tensors]
    return {lane for each in bad for lane in each.nonzero().flatten().tolist()}
