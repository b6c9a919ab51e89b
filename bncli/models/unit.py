"""A layer with its norm and its activation, a norm as a model sees it, and how weights are drawn."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from bncli.errors import ConfigError


@dataclass(frozen=True)
class Normaliser:
    """What a model is given to normalise with; one of the two functions, or none."""

    of_channels: Callable[[int], nn.Module] | None = None  # a module for that many channels
    of_layer: Callable[[nn.Module], nn.Module] | None = None  # the layer, its weights normalised in place
    absorbs_bias: bool = False  # it cancels a bias before it
    name: str = "none"  # in the catalogue, for whole networks, whose norms are replaced
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, normalised: int | nn.Module) -> nn.Module:
        """For a network of a plug-in: the norm of so many channels, or a layer with its norm, whatever that acts on.

        Raises:
            ConfigError: for channels, where the norm acts on the weights of layers.
        """
        if isinstance(normalised, nn.Module):
            layer = weights_normalised(self, normalised)
            channels = getattr(normalised, "out_features", getattr(normalised, "out_channels", None))
            if self.of_channels is None:
                return layer
            if not isinstance(channels, int):
                raise ConfigError(f"norm(layer): expected a linear layer or a convolution, got {type(layer).__name__}")
            return nn.Sequential(layer, self.of_channels(channels))
        if self.of_layer is not None:
            raise ConfigError(
                "this norm acts on the weights of layers, and the model gives it channels; let it say norm(layer)"
            )
        return nn.Identity() if self.of_channels is None else self.of_channels(normalised)


def normalised(norm: Normaliser, layer: nn.Module, channels: int) -> tuple[nn.Module, ...]:
    """The modules that stand for `layer`, then norm; the first is `layer`."""
    return (weights_normalised(norm, layer), *activations_normalised(norm, channels))


def weights_normalised(norm: Normaliser, layer: nn.Module) -> nn.Module:
    """`layer`, its weights normalised if that is what the norm does."""
    return layer if norm.of_layer is None else norm.of_layer(layer)


def activations_normalised(norm: Normaliser, channels: int) -> tuple[nn.Module, ...]:
    """The norm of what several layers give together; nothing if the norm acts on no activations."""
    return () if norm.of_channels is None else (norm.of_channels(channels),)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}


@dataclass(frozen=True)
class Unit:
    """How a network's layers are followed: by which norm and activation, and which of the two comes first."""

    norm: Normaliser
    activation: str
    placement: str = "pre"  # the norm before the activation ("pre"), or after it ("post")
    bias: str = "auto"  # or "always"

    @property
    def keeps_bias(self) -> bool:
        """Whether layers have a bias: with "auto" not where the norm right behind would cancel it."""
        return self.bias == "always" or self.placement == "post" or not self.norm.absorbs_bias

    def linear(self, features: int, channels: int) -> nn.Sequential:
        """A fully connected layer, norm, activation; the layer is module 0."""
        layer = weights_normalised(self.norm, nn.Linear(features, channels, bias=self.keeps_bias))
        return nn.Sequential(layer, *self.after(channels))

    def conv(self, inputs: int, channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
        """A convolution that keeps the size, or divides it by the stride; norm, activation. It is module 0."""
        layer = convolution(self.norm, inputs, channels, kernel, stride, bias=self.keeps_bias)
        return nn.Sequential(layer, *self.after(channels))

    def after(self, channels: int) -> tuple[nn.Module, ...]:
        """Norm and activation, in their order."""
        norm, activation = activations_normalised(self.norm, channels), (ACTIVATIONS[self.activation](),)
        return (*norm, *activation) if self.placement == "pre" else (*activation, *norm)


def convolution(norm: Normaliser, inputs: int, channels: int, kernel: int, stride: int, *, bias: bool) -> nn.Module:
    """A convolution with odd kernel, padded by zeros; its weights normalised if that is what the norm does."""
    return weights_normalised(norm, nn.Conv2d(inputs, channels, kernel, stride, kernel // 2, bias=bias))


def named(**modules: tuple[nn.Module, ...]) -> nn.Sequential:
    """A chain whose parts keep their names where another is missing: draws go by name."""
    return nn.Sequential(OrderedDict((name, found[0]) for name, found in modules.items() if found))


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator of its own for each seed and purpose, so that one draw never shifts another."""
    return torch.Generator().manual_seed(seed_for(seed, purpose))


def seed_for(seed: int, purpose: str) -> int:
    """A seed of its own for each seed and purpose, for what draws from torch's global generators."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Seed torch's generator for what draws a network's weights, and put it back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "init"))
        yield


@torch.no_grad()
def initialise(model: nn.Module, init: Any, seed: int) -> None:
    """Draw every linear or convolutional weight from (seed, the module's name); set their biases to 0.

    A parametrized layer, whose weight is computed, is assigned the same draw: what it makes of it is its own affair.

    Args:
        model: drawn in place.
        init: "he" (normal, std sqrt(2 / fan in)), "glorot" (uniform), {"normal": std}, or a function that draws the
            whole model by torch's global generator, which is seeded for it and put back.
        seed: of the run.
    """
    if callable(init):
        with drawn_from(seed):
            init(model)
        return
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            continue
        computed = is_parametrized(module, "weight")
        weight = torch.empty_like(module.weight) if computed else module.weight
        _draw(weight, init, generator(seed, f"init/{name}"))
        if computed:
            module.weight = weight
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _draw(weight: Tensor, init: Any, draw: torch.Generator) -> None:
    if init == "he":
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=draw)
    elif init == "glorot":
        nn.init.xavier_uniform_(weight, generator=draw)
    else:
        nn.init.normal_(weight, std=init["normal"], generator=draw)
