"""The zoo of normalisers: one row each, one file a family, every one an ordinary `nn.Module`.

The contract that every row keeps:

- Every option of the row is a keyword of its target with the same default. What comes before, the row's `side` says:
  `target(channels, **options)` is a module of activations; `target(layer, **options)` of side "weight" and
  `target(model, **options)` of side "network" change in place what they are given, and return it.

And of those that act on activations:

- `forward` takes (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W) and returns the same shape.
- Running statistics are buffers named `running_*`, updated in place in training as
  `(1 - momentum) * old + momentum * new`; a module that updates them has the attribute `momentum`, unless it moves
  them example by example.
- It runs under `torch.func.vmap`: no `.item()`, no `if` on a tensor's value, no `lerp_`; or its row says `lanes=False`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bncli.catalogue import Catalogue
from bncli.errors import ConfigError
from bncli.norms.rows import NormRow
from bncli.norms.rows.batch import BATCH
from bncli.norms.rows.others import ACTIVATION, WEIGHT
from bncli.norms.rows.sample import SAMPLE
from bncli.norms.rows.whitening import WHITENING

if TYPE_CHECKING:
    from torch import nn

ROWS = {**BATCH, **SAMPLE, **ACTIVATION, **WEIGHT, **WHITENING}
NORMS: Catalogue[NormRow] = Catalogue("norm", ROWS)


def norm(name: str, channels: int, **options: Any) -> "nn.Module":
    """Build the norm called `name` for `channels` channels.

    Raises:
        ConfigError: for an unknown name or option, a value out of range, or a norm that acts on no activations.
    """
    checked = NORMS.options(name, options)
    if NORMS[name].side != "activation":
        acts_on = {"weight": "a layer's weights", "network": "a residual network"}[NORMS[name].side]
        given = {"weight": "layer", "network": "model"}[NORMS[name].side]
        raise ConfigError(
            f"norm {name!r} acts on {acts_on}, not on {channels} channels; use bncli.norms.normalise({given}, {name!r})"
        )
    module: nn.Module = NORMS.load(name)(channels, **checked)
    return module


def normalise(layer: "nn.Module", name: str, **options: Any) -> "nn.Module":
    """The layer with the norm called `name`: `nn.Sequential(layer, norm)`, or the layer itself, changed in place.

    Args:
        layer: linear or a convolution; for "fixup" and "skipinit" a residual network (bncli/norms/residual.py).
        name: of a norm.
        options: of that norm.

    Raises:
        ConfigError: for an unknown name or option, a value out of range, or a layer that the norm cannot act on.
    """
    checked = NORMS.options(name, options)
    if NORMS[name].side != "activation":
        changed: nn.Module = NORMS.load(name)(layer, **checked)
        return changed
    channels = getattr(layer, "out_features", getattr(layer, "out_channels", None))
    if not isinstance(channels, int):
        raise ConfigError(f"norm {name!r}: expected a linear or convolution layer, got {type(layer).__name__}")
    chained: nn.Module = import_module("torch.nn").Sequential(layer, NORMS.load(name)(channels, **checked))
    return chained


def __getattr__(attribute: str) -> Any:
    """`from bncli.norms import ZCA`, importing torch only now."""
    for row in NORMS.own.values():
        module, _, found = row.target.partition(":")
        if found == attribute:
            return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'bncli.norms' has no attribute {attribute!r}")
