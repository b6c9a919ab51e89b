"""A small network of 3x3 convolutions and max pooling, after VGG."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from bncli.models.normalised import Normaliser
from bncli.models.unit import Unit


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
