"""Whitening by a learned mixture of a batch's statistics with those of each example."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.types import Device

from bncli.kernels import suspend_autocast
from bncli.norms.channels import DType, RunningNorm, apply_affine, bessel, describe, reset_affine, widen
from bncli.norms.groups import (
    add_covariance,
    build_identity,
    covariance,
    lay_out_like,
    reset_covariance,
    root_dtype,
    split_groups,
    track,
)
from bncli.norms.roots import nears_root, newton_schulz
from bncli.norms.sample_whitening import join_examples, split_examples

Components = Literal["bw-iw", "bw-iw-ln", "bw-iw-bn-in-ln"]


class SwitchableWhitening(RunningNorm):
    """Switchable Whitening (Pan et al. 2019, arXiv:1904.09739).

    y = weight W_T (x - mean) + bias with mean = sum_k p_k mean_k, S = sum_k q_k S_k + eps I and W_T after `T` coupled
    Newton-Schulz steps towards S^-1/2; p = softmax(mean_weight) and q = softmax(cov_weight) are learned (`tie`: q = p).
    S and W_T are one example's own. The components k that `of` names:

    - bw: mean and covariance over the examples and locations of the batch; in evaluation the running ones
    - iw: over the locations of one example
    - bn, in: the same means, of the same covariances only the diagonals
    - ln: one mean and one unbiased variance for all channels and locations of an example

    Differs from the published code in the running covariance, which is unbiased and starts at I and not at 0, and in
    "bw-iw-bn-in-ln", where that gives bn and in the weights of bw and iw. Channels need not fill the last group.

    Shapes: (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: for a single location.
    """

    weight: Tensor | None
    bias: Tensor | None
    mean_weight: Tensor
    cov_weight: Tensor | None
    running_mean: Tensor
    running_cov: Tensor
    num_batches_tracked: Tensor
    filler: float

    def __init__(
        self,
        channels: int,
        *,
        of: Components = "bw-iw",
        tie: bool = False,
        T: int = 5,
        eps: float = 1e-5,
        momentum: float = 0.01,
        affine: bool = True,
        group_size: int = 16,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.of, self.tie, self.T = of, tie, T
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.affine, self.group_size = affine, group_size
        components = of.count("-") + 1
        self.mean_weight = nn.Parameter(torch.empty(components, device=device, dtype=dtype))
        cov_weight = None if tie else nn.Parameter(torch.empty(components, device=device, dtype=dtype))
        self.register_parameter("cov_weight", cov_weight)
        add_covariance(self, channels, affine, group_size, device, dtype, filler=0)  # which must not count in the trace
        self.reset_parameters()

    reset_running_stats = reset_covariance
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Whiten, and in training update the running statistics in place."""
        with suspend_autocast(x):
            values = split_examples(x, self.channels, self.running_cov.shape[-1])
            means, covs = self._components(values)
            p = widen(self.mean_weight).softmax(0)
            q = p if self.cov_weight is None else widen(self.cov_weight).softmax(0)
            S = _mixed(covs, q).to(values.dtype)
            centred = values - _mixed(means, p).to(values.dtype)
            W = newton_schulz(S.to(root_dtype(x)) if nears_root(self.T) else S, self.T).to(values.dtype)
            y = join_examples(W @ centred, x.shape)
            return lay_out_like(apply_affine(y, self.weight, self.bias).to(x.dtype), x)

    def _components(self, values: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Of (N, G, d, m): means (N, G, d, 1) and covariances with eps (N, G, d, d), in the order of `of`."""
        mean_iw = values.mean(-1, keepdim=True)
        identity = build_identity(self.running_cov, self.channels, self.filler, values.dtype)
        iw = covariance(values - mean_iw, values.dtype) + self.eps * identity
        mean_bw, bw = self._of_batch(mean_iw, iw, values.shape[3], identity)
        means, covs = [mean_bw.expand_as(mean_iw), mean_iw], [bw.expand_as(iw), iw]
        if "bn" in self.of:
            means += means
            covs += [torch.diag_embed(cov.diagonal(dim1=-2, dim2=-1)) for cov in covs]
        if "ln" in self.of:
            mean_ln, ln = _of_layer(values.flatten(1, 2)[:, : self.channels], identity, self.eps)
            means.append(mean_ln.expand_as(mean_iw))
            covs.append(ln)
        return means, covs

    def _of_batch(self, mean_iw: Tensor, iw: Tensor, m: int, identity: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (G, d, 1) and covariance (G, d, d): that within the examples and that of their means together."""
        if not self.training:
            mean = split_groups(self.running_mean.unsqueeze(0), self.channels, iw.shape[-1])
            return mean, self.running_cov.to(iw.dtype) + self.eps * identity
        examples = iw.shape[0]  # not len(), which is of one batch where a program is made for any
        bessel(examples * m)  # refuses a single value
        mean = mean_iw.mean(0)
        between = (mean_iw - mean).squeeze(-1).movedim(0, -1)  # (G, d, N)
        S = torch.baddbmm(iw.mean(0), between, between.mT, alpha=1 / examples)
        track(self, mean.detach(), S.detach() - self.eps * identity, examples * m)
        return mean, S


def _of_layer(values: Tensor, identity: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean (N, 1, 1, 1) and (var + eps) identity (N, G, d, d) of all of an example (N, C, m)."""
    var, mean = torch.var_mean(values, (1, 2), correction=1)
    return mean[:, None, None, None], (var + eps)[:, None, None, None] * identity


def _mixed(components: list[Tensor], weights: Tensor) -> Tensor:
    return torch.einsum("k,k...->...", weights, torch.stack([each.to(weights.dtype) for each in components]))
