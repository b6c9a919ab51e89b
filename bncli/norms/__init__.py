"""The zoo of normalisers: one row each, one file a family, every one an ordinary `nn.Module`.

The contract that every row keeps:

- `target(channels, **options)` is a module; every option of the row is a keyword of it with the same default.
- `forward` takes (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W) and returns the same shape.
- Running statistics are buffers named `running_*`, updated in place in training as
  `(1 - momentum) * old + momentum * new`; a module that updates them has the attribute `momentum`, unless it moves
  them example by example.
- It runs under `torch.func.vmap`: no `.item()`, no `if` on a tensor's value, no `lerp_`; or its row says `lanes=False`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bncli.catalogue import Catalogue
from bncli.norms.row import NormRow
from bncli.norms.rows.activation import ACTIVATION
from bncli.norms.rows.batch import BATCH
from bncli.norms.rows.sample import SAMPLE
from bncli.norms.rows.whitening import WHITENING

if TYPE_CHECKING:
    from torch import nn

NORMS: Catalogue[NormRow] = Catalogue("norm", {**BATCH, **SAMPLE, **ACTIVATION, **WHITENING})


def norm(name: str, channels: int, **options: Any) -> "nn.Module":
    """Build the norm called `name` for `channels` channels.

    Raises:
        ConfigError: for an unknown name or option, or a value out of range.
    """
    checked = NORMS.options(name, options)
    module: nn.Module = NORMS.load(name)(channels, **checked)
    return module


def __getattr__(attribute: str) -> Any:
    """`from bncli.norms import ZCA`, importing torch only now."""
    for row in NORMS.values():
        module, _, found = row.target.partition(":")
        if found == attribute:
            return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'bncli.norms' has no attribute {attribute!r}")
