"""The zoo of normalisers: one row each, one file a family, every one an ordinary `nn.Module`.

The contract that every row keeps:

- `target(channels, **options)` is a module; every option of the row is a keyword of it with the same default.
- `forward` takes (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W) and returns the same shape.
- Running statistics are buffers named `running_*`, updated in place in training as
  `(1 - momentum) * old + momentum * new`; a module that has them has the attribute `momentum`.
- It runs under `torch.func.vmap`: no `.item()`, no `if` on a tensor's value, no `lerp_`; or its row says `lanes=False`.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from bncli.catalogue import Catalogue, Count, Fraction, Option, Positive, Row

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class NormRow(Row):
    """A norm's row: what a study must know of it without importing torch."""

    family: str = ""
    citation: str = ""
    absorbs_bias: bool = False  # it subtracts each channel's mean over examples, so a bias before it does nothing
    batch_statistics: bool = False  # training needs at least two values for each channel
    whitens: bool = False  # and more values than channels in a group, to have a full-rank covariance
    lanes: bool = True  # runs under torch.func.vmap
    cost: float = 1.0  # of a training step of the quickstart network, relative to `none`


def _eps(default: float) -> Option:
    return Option(Positive, default, "added to the variance (or to the covariance's diagonal)")


MOMENTUM = Option(Fraction, 0.1, "weight of the new value in the running statistics")
AFFINE = Option(bool, True, "learn a scale and a shift per channel")


def _group_size(default: int) -> Option:
    return Option(Count, default, "channels that are whitened together; the last group may be smaller")


NORMS: Catalogue[NormRow] = Catalogue("norm", {
    "none": NormRow(
        "bncli.norms.batch:NoNorm", "no normalisation", family="none",
    ),
    "batch": NormRow(
        "bncli.norms.batch:Batch", "each channel to mean 0, variance 1 over the batch",
        {"eps": _eps(1e-5), "momentum": MOMENTUM, "affine": AFFINE},
        family="batch", citation="Ioffe & Szegedy 2015, arXiv:1502.03167",
        absorbs_bias=True, batch_statistics=True, cost=1.5,
    ),
    "detached": NormRow(
        "bncli.norms.detached:Detached", "normalisation whose statistics the gradient does not see",
        {
            "by": Option(Literal["centring", "scaling", "whitening"], "scaling", "what is done with the statistics"),
            "differentiate": Option(bool, False, "let the gradient see the statistics after all: the control"),
            "eps": _eps(1e-5), "momentum": MOMENTUM,
        },
        family="batch", citation="Ioffe & Szegedy 2015, section 2",
        batch_statistics=True, cost=1.4,
    ),
    "zca": NormRow(
        "bncli.norms.whitening:ZCA", "decorrelated batch normalisation: whitening by the symmetric root",
        {"eps": _eps(1e-3), "momentum": MOMENTUM, "affine": AFFINE, "group_size": _group_size(16)},
        family="whitening", citation="Huang et al. 2018, arXiv:1804.08450",
        absorbs_bias=True, batch_statistics=True, cost=3.5, whitens=True,
    ),
    "cholesky": NormRow(
        "bncli.norms.whitening:Cholesky", "whitening by the inverse of the covariance's Cholesky factor",
        {"eps": _eps(1e-3), "momentum": MOMENTUM, "affine": AFFINE, "group_size": _group_size(16)},
        family="whitening", citation="Siarohin et al. 2019, arXiv:1806.00420",
        absorbs_bias=True, batch_statistics=True, cost=3.0, whitens=True,
    ),
    "iternorm": NormRow(
        "bncli.norms.whitening:IterNorm", "partial whitening by T Newton-Schulz steps",
        {
            "T": Option(Count, 5, "Newton-Schulz iterations"),
            "eps": _eps(1e-5), "momentum": MOMENTUM, "affine": AFFINE, "group_size": _group_size(64),
        },
        family="whitening", citation="Huang et al. 2019, arXiv:1904.03441",
        absorbs_bias=True, batch_statistics=True, cost=5.0, whitens=True,
    ),
})  # fmt: skip


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
