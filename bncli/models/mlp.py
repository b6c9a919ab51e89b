"""The fully connected network of Ioffe & Szegedy 2015, section 4.1, with any norm before its activations."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from bncli.models.normalised import Normaliser, normalised

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}


class MLP(nn.Module):
    """Hidden layers y = g(norm(W u + b)), then a linear readout.

    With `bias="auto"` the bias is left out where the norm subtracts each channel's mean over the batch: it would be
    cancelled there (section 3.2), and only be counted and decayed in vain.

    Args:
        features: numbers in one example.
        outputs: classes, or numbers predicted.
        norm: normalises each hidden layer.
    """

    def __init__(
        self, features: int, outputs: int, norm: Normaliser, *,
        hidden: Sequence[int], activation: str, init: Any, bias: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.init = init
        keep_bias = bias == "always" or not norm.absorbs_bias
        layers, width = [], features
        for units in hidden:
            linear = nn.Linear(width, units, bias=keep_bias)
            layers.append(nn.Sequential(*normalised(norm, linear, units), ACTIVATIONS[activation]()))
            width = units
        self.hidden = nn.Sequential(*layers)
        self.readout = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        logits: Tensor = self.readout(self.hidden(x))
        return logits
