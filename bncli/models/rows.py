"""What a study must know of a model before it is built."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

from bncli.catalogue import Row
from bncli.models.sizes import Layer, Options, Shape


def _no_layers(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    return []


def guess_layers(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    """What a network is taken for of which nothing is known: three layers, enough to guess what a step costs."""
    guessed = (Layer(prod(shape), 100), Layer(100, 100), Layer(100, outputs))
    return [replace(layer, normalised=False) for layer in guessed]  # no check is made of channels that are a guess


def widths(options: Options, shape: Shape, layers: list[Layer]) -> str:
    """A network in words by the width of each layer: 784-100-10."""
    return "-".join(str(width) for width in (prod(shape), *(layer.channels for layer in layers)))


@dataclass(frozen=True)
class ModelRow(Row):
    """A model's row."""

    sizes: Callable[[Options, Shape, int], list[Layer]] = _no_layers
    """Every layer, from options, an example's shape and the number of outputs."""

    text: Callable[[Options, Shape, list[Layer]], str] = widths  # the study's one-line description of the layers
    misfit: Callable[[Options, Shape], str] = lambda options, shape: ""  # why it cannot take such examples
    locations: bool = False  # it takes (channels, height, width), and its norms see (N, C, ...) and not (N, C)
    positions: bool = False  # it takes tokens too, and its norms see (N, positions, C)
    layers: bool = True  # it has layers with weights before its norms
    residual: bool = False  # it has residual branches
    cost: float = 1.0  # of its arithmetic, relative to the products of its layers
    whole: bool = False  # it comes with norms of its own, which are replaced; bncli/models/foreign.py

    def normalised(self, options: Options, shape: Shape, outputs: int) -> list[Layer]:
        """The layers that a norm of activations follows."""
        return [layer for layer in self.sizes(options, shape, outputs) if layer.normalised]
