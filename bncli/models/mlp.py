"""The fully connected network of Ioffe & Szegedy 2015, section 4.1, with any norm before or after its activations."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from bncli.models.unit import Normaliser, Unit


class MLP(nn.Module):
    """Hidden layers y = g(norm(W u + b)), or norm(g(W u + b)) with `placement="post"`; then a linear readout.

    With `bias="auto"` the bias is left out where the norm subtracts each channel's mean over the batch: it would be
    cancelled there (section 3.2), and only be counted and decayed in vain.

    Args:
        features: numbers in one example.
        outputs: classes, or numbers predicted.
        norm: normalises each hidden layer.
    """

    def __init__(
        self, features: int, outputs: int, norm: Normaliser, *,
        hidden: Sequence[int], activation: str, init: Any, bias: str, placement: str = "pre",
    ) -> None:  # fmt: skip
        super().__init__()
        self.init = init
        unit = Unit(norm, activation, placement, bias)
        layers, width = [], features
        for units in hidden:
            layers.append(unit.linear(width, units))
            width = units
        self.hidden = nn.Sequential(*layers)
        self.readout = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        logits: Tensor = self.readout(self.hidden(x))
        return logits


def deep_mlp(
    features: int, outputs: int, norm: Normaliser, *,
    depth: int, width: int, activation: str, init: Any, bias: str, placement: str,
) -> MLP:  # fmt: skip
    """`MLP` with `depth` hidden layers of `width` units: depth as one number, to be swept."""
    hidden = [width] * depth
    return MLP(features, outputs, norm, hidden=hidden, activation=activation, init=init, bias=bias, placement=placement)
