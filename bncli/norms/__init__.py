"""The zoo of normalisers: one row each, one file a family, every one an ordinary `nn.Module`.

The contract that every row keeps:

- Every option of the row is a keyword of its target with the same default. What comes before, the row's `side` says:
  `target(channels, **options)` is a module of activations; `target(layer, **options)` of side "weight" and
  `target(model, **options)` of side "network" change in place what they are given, and return it.

And of those that act on activations:

- `device` and `dtype` are keywords besides, as of torch's layers: parameters and buffers are created there. They are no
  options: no study names them. `reset_parameters()` puts all that is learned or tracked back to where it starts,
  `reset_running_stats()` what is tracked, where anything is; a module made on "meta" and moved by `to_empty` is as new
  after the former. A norm of a layer's weights or of a network creates what it adds where the layer's weights are.
- `forward` takes (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W) and returns the same shape.
- Running statistics are buffers named `running_*`, updated in place in training as
  `(1 - momentum) * old + momentum * new`, or to the mean over all batches where `momentum` is None; a module that
  updates them is a `RunningNorm`, unless it moves them example by example, and moves nothing in a forward pass that
  gradient checkpointing does again (`count_batch`).
- It runs under `torch.func.vmap`: no `.item()`, no `if` on a tensor's value, no `lerp_`; or its row says `lanes=False`.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import signature
from operator import index
from typing import TYPE_CHECKING, Any

from bncli.catalogue import Catalogue
from bncli.errors import ConfigError
from bncli.norms.rows import NormRow
from bncli.norms.rows.batch import BATCH
from bncli.norms.rows.others import ACTIVATION, SAMPLE, WEIGHT
from bncli.norms.rows.whitening import WHITENING

if TYPE_CHECKING:
    from torch import dtype as torch_dtype
    from torch import nn
    from torch.types import Device

ROWS = {**BATCH, **SAMPLE, **ACTIVATION, **WEIGHT, **WHITENING}
NORMS: Catalogue[NormRow] = Catalogue("norm", ROWS)


def norm(
    name: str,
    channels: "int | Sequence[int]",
    *,
    device: "Device" = None,
    dtype: "torch_dtype | None" = None,
    **options: Any,
) -> "nn.Module":
    """Build the norm called `name` for `channels` channels.

    Args:
        name: of a norm, as `bncli ls norms` lists them.
        channels: C, of inputs (N, C, ...); several sizes for `layer` and `rms` over the last axes.
        device: where its parameters and buffers are created; None for torch's default.
        dtype: of its parameters and running statistics; None for torch's default.
        options: of that norm.

    Raises:
        ConfigError: for an unknown name or option, a value out of range, or a norm that acts on no activations.
    """
    checked = NORMS.options(name, {key: _index(value) for key, value in options.items()})
    if NORMS[name].side != "activation":
        acts_on = {"weight": "a layer's weights", "network": "a residual network"}[NORMS[name].side]
        given = {"weight": "layer", "network": "model"}[NORMS[name].side]
        raise ConfigError(
            f"norm {name!r} acts on {acts_on}, not on {channels} channels; use bncli.norms.normalise({given}, {name!r})"
        )
    several = isinstance(channels, list | tuple) and "over" in NORMS[name].options
    sizes = tuple(_index(size) for size in channels) if several else (_index(channels),)  # type: ignore[union-attr]
    if not sizes or any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
        raise ConfigError(f"norm {name!r}: channels must be a whole number >= 1, got {channels!r}")
    return _build(NORMS.load(name), sizes if several else sizes[0], checked, device, dtype)


def _index(value: Any) -> Any:
    """An integer of any type, numpy's say, as Python's; anything else as it is."""
    if isinstance(value, bool | int | float | str) or not hasattr(value, "__index__"):
        return value
    try:
        return index(value)
    except TypeError:  # a tensor that is none
        return value


def normalise(layer: "nn.Module", name: str, **options: Any) -> "nn.Module":
    """The layer with the norm called `name`: `nn.Sequential(layer, norm)`, or the layer itself, changed in place.

    What the norm adds is created on the device of the layer's weights and in their type.

    Args:
        layer: linear or a convolution; for "fixup" and "skipinit" a residual network (bncli/norms/residual.py).
        name: of a norm.
        options: of that norm.

    Raises:
        ConfigError: for an unknown name or option, a value out of range, or a layer that the norm cannot act on.
    """
    checked = NORMS.options(name, {key: _index(value) for key, value in options.items()})
    if NORMS[name].side != "activation":
        changed: nn.Module = NORMS.load(name)(layer, **checked)
        return changed
    channels = getattr(layer, "out_features", getattr(layer, "out_channels", None))
    weight: Any = getattr(layer, "weight", None)
    if not isinstance(channels, int) or weight is None:
        raise ConfigError(f"norm {name!r}: expected a linear or convolution layer, got {type(layer).__name__}")
    dtype = weight.dtype if weight.is_floating_point() else None  # of a quantised layer: torch's default
    chained: nn.Module = import_module("torch.nn").Sequential(
        layer, _build(NORMS.load(name), channels, checked, weight.device, dtype)
    )
    return chained


def _build(
    target: Callable[..., "nn.Module"],
    channels: int | tuple[int, ...],
    options: Mapping[str, Any],
    device: "Device",
    dtype: "torch_dtype | None",
) -> "nn.Module":
    """The norm, created where it is to be; moved there if its target does not take these keywords."""
    if {"device", "dtype"} <= signature(target).parameters.keys():
        return target(channels, device=device, dtype=dtype, **options)
    return target(channels, **options).to(device=device, dtype=dtype)


def __getattr__(attribute: str) -> Any:
    """`from bncli.norms import ZCA`, importing torch only now."""
    for row in NORMS.own.values():
        module, _, found = row.target.partition(":")
        if found == attribute:
            return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'bncli.norms' has no attribute {attribute!r}")
