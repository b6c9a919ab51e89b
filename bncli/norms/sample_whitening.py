"""Norms that whiten each example by itself: nothing to remember, and evaluation is training.

Shapes: N examples, C channels, G groups, d channels in a group, m values of a channel or of a group in one example.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.types import Device

from bncli.errors import ConfigError
from bncli.kernels import suspend_autocast
from bncli.kernels.whitening import Root
from bncli.norms.channels import DType, add_affine, apply_affine, check_channels, describe, reset_affine, widen
from bncli.norms.groups import (
    build_identity,
    covariance,
    lay_out_like,
    root_dtype,
    widen_for_root,
)
from bncli.norms.roots import inverse_root, nears_root, newton_schulz

RootMethod = Literal["iterative", "zca"]


class GroupWhitening(nn.Module):
    """Group Whitening (Huang et al. 2021, arXiv:2009.13333).

    Each example's channels, in their order, are cut into `groups` of C / G; y = weight W (x - mean) + bias, where mean
    and covariance are those of the G groups over the C / G channels and all locations of the one example, and W is the
    G x G whitening of it: the groups are made uncorrelated, not the channels. Training and evaluation are the same.

    `by="iterative"` is the paper's choice, `T` Newton-Schulz steps, partial as in `IterNorm`; "zca" is the exact root.
    One group is layer normalisation. The paper has 64 groups for networks of 256 channels and more; the default here is
    4, which divides most widths and leaves a narrow layer's covariance enough values: without locations its rank is at
    most C / G - 1.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ConfigError: if `groups` does not divide `channels`.
        ValueError: for a single value in each group.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        channels: int,
        *,
        groups: int = 4,
        by: RootMethod = "iterative",
        T: int = 5,
        eps: float = 1e-5,
        affine: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        if channels % groups:
            raise ConfigError(f"norm 'group-whitening': groups={groups} does not divide {channels} channels")
        self.channels, self.groups, self.by, self.T, self.eps, self.affine = channels, groups, by, T, eps, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Whiten each example."""
        with suspend_autocast(x):
            m = math.prod(check_channels(x, self.channels).shape[1:]) // self.groups
            if m < 2:
                raise ValueError(f"expected more than 1 value per group of an example, got {m}")
            exact = self.by == "zca" or nears_root(self.T)
            values = widen_for_root(x, m, self.groups) if exact else widen(x)
            dtype = root_dtype(x) if exact else values.dtype
            values = values.reshape(x.shape[0], self.groups, m)
            centred = values - values.mean(-1, keepdim=True)
            S = covariance(centred, dtype) + self.eps * torch.eye(self.groups, dtype=dtype, device=x.device)
            W = choose_root(self.by, self.T)(S).to(values.dtype)
            y = apply_affine(torch.bmm(W, centred).view(x.shape), self.weight, self.bias)
            return lay_out_like(y.to(x.dtype), x)


class InstanceWhitening(nn.Module):
    """Instance Whitening (Li et al. 2017, arXiv:1705.08086; as a layer: Pan et al. 2019, arXiv:1904.09739).

    y = weight W (x - mean) + bias, where mean and covariance of the channels of a group are taken over the locations of
    one example, and W is `T` Newton-Schulz steps towards S^-1/2 (`by="iterative"`, partial as in `IterNorm`) or
    S^-1/2 itself ("zca"). Training and evaluation are the same. With groups of one channel it is instance
    normalisation. An example of m locations has a covariance of rank m - 1 at most: choose groups smaller than that.

    Shapes: (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: for a single location.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        channels: int,
        *,
        by: RootMethod = "iterative",
        T: int = 5,
        eps: float = 1e-5,
        affine: bool = True,
        group_size: int = 16,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.by, self.T, self.eps = channels, by, T, eps
        self.affine, self.group_size = affine, group_size
        add_affine(self, channels, affine, device=device, dtype=dtype)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Whiten each example."""
        with suspend_autocast(x):
            exact, d = self.by == "zca" or nears_root(self.T), min(self.group_size, self.channels)
            values = widen_for_root(x, math.prod(x.shape[2:]), d) if exact else widen(x)
            dtype = root_dtype(x) if exact else values.dtype
            values = split_examples(values, self.channels, d)  # (N, G, d, m)
            centred = values - values.mean(-1, keepdim=True)
            cov = covariance(centred, dtype)
            S = cov + self.eps * build_identity(cov, self.channels, float(self.by == "zca"))
            W = choose_root(self.by, self.T)(S).to(values.dtype)
            y = apply_affine(join_examples(W @ centred, x.shape), self.weight, self.bias)
            return lay_out_like(y.to(x.dtype), x)


def split_examples(x: Tensor, channels: int, d: int) -> Tensor:
    """(N, C, ...) to (N, G, d, m) over locations, zeros for channels that are wanting, in float32 or better.

    Raises:
        ValueError: for a single location.
    """
    m = math.prod(check_channels(x, channels).shape[2:])
    if x.ndim < 3 or m < 2:
        raise ValueError(f"expected more than 1 location per channel, got input of shape {tuple(x.shape)}")
    values = widen(x).flatten(2)
    if channels % d:
        values = F.pad(values, (0, 0, 0, d - channels % d))
    return values.reshape(x.shape[0], -(-channels // d), d, m)


def join_examples(values: Tensor, shape: torch.Size) -> Tensor:
    """(N, G, d, m) back to (N, C, ...), the inverse of `split_examples`."""
    return values.flatten(1, 2)[:, : shape[1]].reshape(shape)


def choose_root(by: RootMethod, T: int) -> Root:
    """The whitening of a covariance that `by` names."""
    roots: dict[str, Callable[[Tensor], Tensor]] = {"iterative": partial(newton_schulz, T=T), "zca": inverse_root}
    return roots[by]
