"""A norm as a model sees it: behind a layer, in a layer's weights, or in neither."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Normaliser:
    """What a model is given to normalise with; one of the two functions, or none."""

    of_channels: Callable[[int], nn.Module] | None = None  # a module for that many channels
    of_layer: Callable[[nn.Module], nn.Module] | None = None  # the layer, its weights normalised in place
    absorbs_bias: bool = False  # it cancels a bias before it


def normalised(norm: Normaliser, layer: nn.Module, channels: int) -> tuple[nn.Module, ...]:
    """The modules that stand for `layer`, then norm; the first is `layer`."""
    return (weights_normalised(norm, layer), *activations_normalised(norm, channels))


def weights_normalised(norm: Normaliser, layer: nn.Module) -> nn.Module:
    """`layer`, its weights normalised if that is what the norm does."""
    return layer if norm.of_layer is None else norm.of_layer(layer)


def activations_normalised(norm: Normaliser, channels: int) -> tuple[nn.Module, ...]:
    """The norm of what several layers give together; nothing if the norm acts on no activations."""
    return () if norm.of_channels is None else (norm.of_channels(channels),)
