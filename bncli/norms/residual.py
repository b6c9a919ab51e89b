"""Training deep residual networks without a norm: Fixup and SkipInit, the fair baselines.

Each takes a whole network, drawn by He's rule, and changes it in place. The network names its parts: `branches`, a
list of `nn.Sequential`, each added to its shortcut; `head`, an `nn.Sequential` between the last sum and the readout;
`readout`, the last layer; and `joints`, if it has some: a list of `nn.Sequential` before each block, shortcut included.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bncli.errors import ConfigError


class Multiplier(nn.Module):
    """y = multiplier x, one learned number for all channels. Any shape."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start
        self.multiplier = nn.Parameter(torch.tensor(start))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return self.multiplier * x

    def extra_repr(self) -> str:
        """Where it starts."""
        return f"{self.start}"


class ScalarBias(nn.Module):
    """y = x + bias, one learned number for all channels, 0 at the start. Any shape."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return x + self.bias


def skipinit(model: nn.Module) -> nn.Module:
    """SkipInit (De & Smith 2020, arXiv:2002.10444) of a residual network, in place.

    Each branch ends in a learned multiplier that starts at 0, so that at the start every block is its shortcut, and of
    a branch's parameters only the multiplier has a gradient.

    Raises:
        ConfigError: for a network without residual branches.
    """
    for branch in _branches("skipinit", model):
        branch.add_module("multiplier", Multiplier(0.0).to(_layers(branch)[-1].weight))
    return model


@torch.no_grad()
def fixup(model: nn.Module) -> nn.Module:
    """Fixup (Zhang, Dauphin & Ma 2019, arXiv:1901.09321, section 3) of a residual network, in place.

    With L branches of m layers: a branch's last layer and the readout start at 0, and its other layers' weights
    are multiplied by L^(-1 / (2m - 2)); each branch ends in a learned multiplier that starts at 1; a learned scalar
    bias that starts at 0 stands before each layer and activation of the branches, the joints and the head and
    before the readout, instead of the branches' biases per channel.

    Raises:
        ConfigError: for a network without residual branches.
    """
    branches = _branches("fixup", model)
    for branch in branches:
        *inner, last = _layers(branch)
        for layer in inner:
            layer.weight.mul_(len(branches) ** (-1 / (2 * len(inner))))
        nn.init.zeros_(last.weight)
        for layer in (*inner, last):
            layer.register_parameter("bias", None)
        _put_biases(branch, last.weight)
        branch.add_module("multiplier", Multiplier(1.0).to(last.weight))
    head, readout, joints = _head(model)
    for chain in (*joints, head):
        _put_biases(chain, readout.weight)
    head.add_module("last_bias", ScalarBias().to(readout.weight))
    for parameter in readout.parameters():
        nn.init.zeros_(parameter)
    return model


def _branches(name: str, model: Any) -> list[nn.Sequential]:
    missing = [part for part in ("branches", "head", "readout") if not hasattr(model, part)]
    if missing:
        raise ConfigError(
            f"norm {name!r}: expected a residual network with branches, head and readout; {type(model).__name__} has no"
            f" {' and no '.join(missing)}"
        )
    for branch in model.branches:
        if not _layers(branch):
            raise ConfigError(f"norm {name!r}: expected a linear or convolution layer in each branch, got {branch}")
    return list(model.branches)


def _head(model: Any) -> tuple[nn.Sequential, nn.Linear, list[nn.Sequential]]:
    return model.head, model.readout, list(model.joints) if hasattr(model, "joints") else []


def _layers(branch: nn.Sequential) -> list[Any]:
    return [layer for layer in branch.modules() if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)]


def _put_biases(chain: nn.Sequential, like: Tensor) -> None:
    """Put a scalar bias before each module, which keeps its name."""
    modules = list(chain.named_children())
    for name, _ in modules:
        delattr(chain, name)
    for name, module in modules:
        chain.add_module(f"{name}_bias", ScalarBias().to(like))
        chain.add_module(name, module)
