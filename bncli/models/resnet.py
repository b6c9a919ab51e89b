"""The residual network for small images of He et al. 2016, of depth 6n + 2."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from bncli.models.sizes import blocks_of
from bncli.models.unit import ACTIVATIONS, Normaliser, Unit, activations_normalised, convolution, named


class ResNet(nn.Module):
    """A 3x3 convolution, norm, g; 3n blocks u <- g(shortcut(u) + branch(u)); mean over locations; linear readout.

    He et al. 2016 (arXiv:1512.03385, section 4.2). A branch is 3x3 convolution, norm, g, 3x3 convolution, norm. The
    n blocks of a stage have the same channels; the first block of the second and third stage halves the size, its
    shortcut takes every second pixel and adds channels of zeros (`shortcut="pad"`, the paper's option A), or is a 1x1
    convolution and a norm ("projection", option B); all other shortcuts are the identity. `placement="post"` puts g
    before the norm of the first convolution, of the network and of each branch; the norm at a branch's end, which no
    activation follows before the sum, stays. With `bias="auto"` biases are left out where a norm would cancel them.

    Args:
        shape: of one example, (channels, height, width).
        outputs: classes, or numbers predicted.
        norm: normalises each convolution.
    """

    def __init__(
        self, shape: tuple[int, int, int], outputs: int, norm: Normaliser, *,
        depth: int, channels: Sequence[int], shortcut: str, activation: str, init: Any, bias: str, placement: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.init, self.shape = init, shape
        unit = Unit(norm, activation, placement, bias)
        blocks = blocks_of(depth, channels)
        self.first = convolution(norm, shape[0], channels[0], 3, 1, bias=unit.keeps_bias)
        # what stands before each block: norm and activation of the first convolution, then the activation of each sum
        self.joints = nn.ModuleList([nn.Sequential(*unit.after(channels[0]))])
        self.joints.extend(_activation(activation) for _ in blocks[1:])
        self.branches = nn.ModuleList(_branch(unit, *block) for block in blocks)
        self.shortcuts = nn.ModuleList(_shortcut(unit, shortcut, *block) for block in blocks)
        self.head = _activation(activation)
        self.readout = nn.Linear(channels[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        u = self.first(x.unflatten(-1, self.shape))
        for joint, branch, shortcut in zip(self.joints, self.branches, self.shortcuts, strict=True):
            u = joint(u)
            u = shortcut(u) + branch(u)
        logits: Tensor = self.readout(self.head(u).mean((-2, -1)))
        return logits


class Padding(nn.Module):
    """Every `stride`-th pixel of each channel, then channels of zeros. (N, C, H, W) -> (N, `channels`, ...)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels, H / stride, W / stride), sizes rounded up."""
        kept = x[..., :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, 0, self.channels - x.shape[-3]))

    def extra_repr(self) -> str:
        """The options."""
        return f"channels={self.channels}, stride={self.stride}"


def _branch(unit: Unit, inputs: int, channels: int, stride: int) -> nn.Sequential:
    norm, end = unit.norm, replace(unit, placement="pre")  # no activation between the last norm and its convolution
    norm1, activation = activations_normalised(norm, channels), (ACTIVATIONS[unit.activation](),)
    pre = unit.placement == "pre"
    return named(
        conv1=(convolution(norm, inputs, channels, 3, stride, bias=unit.keeps_bias),),
        **({"norm1": norm1, "activation1": activation} if pre else {"activation1": activation, "norm1": norm1}),
        conv2=(convolution(norm, channels, channels, 3, 1, bias=end.keeps_bias),),
        norm2=activations_normalised(norm, channels),
    )


def _shortcut(unit: Unit, kind: str, inputs: int, channels: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == channels:
        return nn.Identity()
    if kind == "pad":
        return Padding(channels, stride)
    end = replace(unit, placement="pre")
    return named(
        conv=(convolution(unit.norm, inputs, channels, 1, stride, bias=end.keeps_bias),),
        norm=activations_normalised(unit.norm, channels),
    )


def _activation(name: str) -> nn.Sequential:
    return named(activation=(ACTIVATIONS[name](),))
