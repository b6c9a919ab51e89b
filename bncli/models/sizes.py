"""What a model's layers are, in numbers, before it is built: for checks, cost estimates and one-line descriptions.

Each function here takes a model's options, the shape of one example and the number of outputs, and lists the layers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

Options = Mapping[str, Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer: (N, inputs, ...) -> (N, channels, locations)."""

    inputs: int  # channels of the input; 0 if it has no weights
    channels: int
    area: int = 1  # of the kernel
    locations: int = 1
    normalised: bool = True  # a norm of activations follows it

    @property
    def multiply_adds(self) -> int:
        """Multiplications (with as many additions) for one example."""
        return self.inputs * self.channels * self.area * self.locations


def shift(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    """A bias and a norm."""
    return [Layer(0, prod(shape))]


def mlp(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    """Hidden layers and readout."""
    return _chain((prod(shape), *options["hidden"]), outputs)


def deep_mlp(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    """Hidden layers of one width, and readout."""
    return _chain((prod(shape), *[options["width"]] * options["depth"]), outputs)


def residual_mlp(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    """The first layer, two of each block, and readout."""
    return _chain((prod(shape), *[options["width"]] * (2 * options["blocks"] + 1)), outputs)


def deep_linear(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    """All alike: the last is normalised as well."""
    widths = (prod(shape), *[options["width"]] * (options["depth"] - 1), outputs)
    return [Layer(before, after) for before, after in pairwise(widths)]


def convnet(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    """Convolutions of each stage, and readout."""
    found, before, size = [], shape[0], shape[1:]
    for channels in options["channels"]:
        for _ in range(options["convolutions"]):
            found.append(Layer(before, channels, 9, prod(size)))
            before = channels
        size = tuple(length // 2 for length in size)
    left = prod(size) if options["head"] == "flatten" else 1
    return [*found, Layer(before * left, outputs, normalised=False)]


def resnet(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    """First convolution, two of each block and the projections on shortcuts, and readout."""
    size = shape[1:]
    found = [Layer(shape[0], options["channels"][0], 9, prod(size))]
    for inputs, channels, stride in blocks_of(options["depth"], options["channels"]):
        size = _shrunk(size, stride)
        found += [Layer(inputs, channels, 9, prod(size)), Layer(channels, channels, 9, prod(size))]
        if options["shortcut"] == "projection" and (stride > 1 or inputs != channels):
            found.append(Layer(inputs, channels, 1, prod(size)))
    return [*found, Layer(options["channels"][-1], outputs, normalised=False)]


def blocks_of(depth: int, channels: Sequence[int]) -> list[tuple[int, int, int]]:
    """(inputs, channels, stride) of every block of a residual network: (depth - 2) / 6 in each stage."""
    found, before = [], channels[0]
    for stage, width in enumerate(channels):
        for i in range((depth - 2) // 6):
            found.append((before, width, 2 if stage and not i else 1))
            before = width
    return found


@dataclass(frozen=True)
class InceptionBlock:
    """Channels of one Inception module's branches; 0 where a branch or a projection is missing."""

    one: int  # 1x1
    three: tuple[int, int]  # 1x1, then 3x3
    double: tuple[int, int]  # 1x1, then 3x3 twice
    pool: int  # 1x1 behind average pooling; 0: max pooling alone
    stride: int = 1

    def divided(self, divisor: int) -> "InceptionBlock":
        """The same module with `divisor` times fewer channels."""
        three, double = ((first // divisor, last // divisor) for first, last in (self.three, self.double))
        return InceptionBlock(self.one // divisor, three, double, self.pool // divisor, self.stride)

    def channels(self, inputs: int) -> int:
        """Channels of all branches together."""
        return self.one + self.three[1] + self.double[1] + (self.pool or inputs)


INCEPTION_STEM = 192  # channels that the paper's module 3a sees
INCEPTION = (  # 3a, 3b, 3c, 4a of Ioffe & Szegedy 2015, appendix
    InceptionBlock(64, (64, 64), (64, 96), 32),
    InceptionBlock(64, (64, 96), (64, 96), 64),
    InceptionBlock(0, (128, 160), (64, 96), 0, stride=2),
    InceptionBlock(224, (64, 96), (96, 128), 128),
)


def inception(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    """The stem, the modules' convolutions, and readout."""
    size, width = shape[1:], INCEPTION_STEM // options["divisor"]
    found = [Layer(shape[0], width, 9, prod(size))]
    for whole in INCEPTION:
        block = whole.divided(options["divisor"])
        found += _inception_block(block, width, prod(size), prod(_shrunk(size, block.stride)))
        size, width = _shrunk(size, block.stride), block.channels(width)
    return [*found, Layer(width, outputs, normalised=False)]


def transformer(options: Options, shape: Shape, outputs: int) -> list[Layer]:
    """Embedding, four layers and the norms of each block, last norm, readout; attention's own products are left out."""
    width, hidden, tokens = options["width"], options["factor"] * options["width"], len(shape) == 2
    positions = shape[0] if tokens else prod(shape[1:]) // options["patch"] ** 2
    inputs, area, looked_up = (shape[1], 1, 0) if tokens else (shape[0], options["patch"] ** 2, positions)

    def linear(before: int, after: int) -> Layer:
        return Layer(before, after, 1, positions, normalised=False)

    apart = options["statistics"] == "position"
    norm, placement = Layer(0, width, 1, 1 if apart else positions), options["placement"]
    norms = [norm] * {"pre": 2, "post": 2, "sandwich": 4, "none": 0}[placement]
    gated = 2 if options["activation"] == "swiglu" else 1
    block = [linear(width, 3 * width), linear(width, width), linear(width, hidden * gated), linear(hidden, width)]
    ends = placement in ("pre", "sandwich") if options["final_norm"] == "auto" else options["final_norm"]
    return [
        Layer(inputs, width, area, looked_up, normalised=False),  # tokens are looked up: nothing is multiplied
        *(block + norms) * options["depth"],
        *[norm] * bool(ends),
        Layer(width, outputs, 1, positions if tokens else 1, normalised=False),
    ]


def _inception_block(block: InceptionBlock, inputs: int, before: int, after: int) -> Iterable[Layer]:
    if block.one:
        yield Layer(inputs, block.one, 1, before)
    yield from (Layer(inputs, block.three[0], 1, before), Layer(*block.three, 9, after))
    yield from (Layer(inputs, block.double[0], 1, before), Layer(*block.double, 9, before))
    yield Layer(block.double[1], block.double[1], 9, after)
    if block.pool:
        yield Layer(inputs, block.pool, 1, before)


def _chain(widths: Sequence[int], outputs: int) -> list[Layer]:
    return [*(Layer(a, b) for a, b in pairwise(widths)), Layer(widths[-1], outputs, normalised=False)]


def _shrunk(size: Shape, stride: int) -> Shape:
    return tuple(-(-length // stride) for length in size)
