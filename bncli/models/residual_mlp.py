"""A fully connected residual network: the smallest that shows what a norm, Fixup or SkipInit does for depth."""

from typing import Any

from torch import Tensor, nn

from bncli.models.unit import ACTIVATIONS, Normaliser, activations_normalised, named, normalised, weights_normalised


class ResidualMLP(nn.Module):
    """u = W x + b; then u <- u + branch(u) for each block; then g(norm(u)) and a linear readout.

    A branch is norm, g, linear, norm, g, linear: full pre-activation (He et al. 2016, arXiv:1603.05027), so that the
    shortcuts carry u untouched from the first layer to the head. With `bias="auto"` biases before the readout are left
    out where the norm subtracts each channel's mean over the batch: all that reads u does.

    Args:
        features: numbers in one example.
        outputs: classes, or numbers predicted.
        norm: normalises activations wherever one is named above, or the weights of every layer but the readout.
    """

    def __init__(
        self, features: int, outputs: int, norm: Normaliser, *,
        width: int, blocks: int, activation: str, init: Any, bias: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.init = init
        keep_bias = bias == "always" or not norm.absorbs_bias
        self.first = weights_normalised(norm, nn.Linear(features, width, bias=keep_bias))
        self.branches = nn.ModuleList(_branch(width, norm, activation, keep_bias) for _ in range(blocks))
        self.head = named(norm=activations_normalised(norm, width), activation=(ACTIVATIONS[activation](),))
        self.readout = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        u = self.first(x)
        for branch in self.branches:
            u = u + branch(u)
        logits: Tensor = self.readout(self.head(u))
        return logits


def _branch(width: int, norm: Normaliser, activation: str, keep_bias: bool) -> nn.Sequential:
    inner, *norm2 = normalised(norm, nn.Linear(width, width, bias=keep_bias), width)
    return named(
        norm1=activations_normalised(norm, width),
        activation1=(ACTIVATIONS[activation](),),
        linear1=(inner,),
        norm2=tuple(norm2),
        activation2=(ACTIVATIONS[activation](),),
        linear2=(weights_normalised(norm, nn.Linear(width, width, bias=keep_bias)),),
    )
