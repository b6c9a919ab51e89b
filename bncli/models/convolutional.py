"""Networks of convolutions without shortcuts: a small VGG, and four modules of Inception."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from bncli.models.sizes import INCEPTION, INCEPTION_STEM, InceptionBlock
from bncli.models.unit import Normaliser, Unit


class ConvNet(nn.Module):
    """Stages of 3x3 convolutions, each with norm and activation, and 2x2 max pooling; then a linear readout.

    After configuration A to E of Simonyan & Zisserman 2015 (arXiv:1409.1556), with one linear layer and not three, of
    the mean of each channel over locations (`head="average"`) or of all numbers of the last stage ("flatten").

    Args:
        shape: of one example, (channels, height, width).
        outputs: classes, or numbers predicted.
        norm: normalises each convolution.
    """

    def __init__(
        self, shape: tuple[int, int, int], outputs: int, norm: Normaliser, *,
        channels: Sequence[int], convolutions: int, head: str, activation: str, init: Any, bias: str, placement: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.init, self.shape, self._average = init, shape, head == "average"
        unit = Unit(norm, activation, placement, bias)
        self.stages = nn.Sequential(
            *(_stage(unit, inputs, width, convolutions) for inputs, width in pairwise((shape[0], *channels)))
        )
        left = 1 if self._average else (shape[1] >> len(channels)) * (shape[2] >> len(channels))
        self.readout = nn.Linear(channels[-1] * left, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        u = self.stages(x.unflatten(-1, self.shape))
        logits: Tensor = self.readout(u.mean((-2, -1)) if self._average else u.flatten(-3))
        return logits


def _stage(unit: Unit, inputs: int, channels: int, convolutions: int) -> nn.Sequential:
    widths = (inputs, *[channels] * convolutions)
    return nn.Sequential(*(unit.conv(before, after) for before, after in pairwise(widths)), nn.MaxPool2d(2))


class InceptionBN(nn.Module):
    """A 3x3 convolution, modules 3a, 3b, 3c and 4a, mean over locations, linear readout.

    The modules are those of Ioffe & Szegedy 2015 (arXiv:1502.03167, appendix), their channels divided by `divisor`.
    The paper's 3a sees 28 x 28 locations as well: one convolution stands for the 7x7 and the poolings that shrink
    ImageNet's images to that, and the network ends after 4a (14 x 14) instead of 5b. Norm and activation follow every
    convolution.

    Args:
        shape: of one example, (channels, height, width).
        outputs: classes, or numbers predicted.
        norm: normalises each convolution.
    """

    def __init__(
        self, shape: tuple[int, int, int], outputs: int, norm: Normaliser, *,
        divisor: int, activation: str, init: Any, bias: str, placement: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.init, self.shape = init, shape
        unit = Unit(norm, activation, placement, bias)
        width = INCEPTION_STEM // divisor
        self.stem = unit.conv(shape[0], width)
        modules = []
        for block in INCEPTION:
            scaled = block.divided(divisor)
            modules.append(Inception(unit, width, scaled))
            width = scaled.channels(width)
        self.blocks = nn.Sequential(*modules)
        self.readout = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        u = self.blocks(self.stem(x.unflatten(-1, self.shape)))
        logits: Tensor = self.readout(u.mean((-2, -1)))
        return logits


class Inception(nn.Module):
    """Branches side by side, joined along channels: 1x1; 1x1, 3x3; 1x1, 3x3, 3x3; 3x3 average pooling, 1x1.

    A module of stride 2 has no 1x1 branch, its last 3x3 convolutions take the stride, and its pooling is 3x3 max
    pooling without a convolution behind.
    """

    def __init__(self, unit: Unit, inputs: int, block: InceptionBlock) -> None:
        super().__init__()
        stride = block.stride
        branches: dict[str, Sequence[nn.Module]] = {
            "conv1x1": [unit.conv(inputs, block.one, 1)] if block.one else [],
            "conv3x3": [unit.conv(inputs, block.three[0], 1), unit.conv(*block.three, stride=stride)],
            "double3x3": [
                unit.conv(inputs, block.double[0], 1), unit.conv(*block.double),
                unit.conv(block.double[1], block.double[1], stride=stride),
            ],
            "pool": [nn.AvgPool2d(3, 1, 1), unit.conv(inputs, block.pool, 1)] if block.pool
            else [nn.MaxPool2d(3, stride, 1)],
        }  # fmt: skip
        self.branches = nn.ModuleDict({name: nn.Sequential(*chain) for name, chain in branches.items() if chain})

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels of all branches, H / stride, W / stride)."""
        return torch.cat([branch(x) for branch in self.branches.values()], -3)
