"""Network deconvolution: whitening of the channels that the next layer reads."""

from functools import partial

import torch
from torch import Tensor, nn

from bncli.kernels import Impl
from bncli.kernels.newton_schulz import trace
from bncli.norms.groups import LastRoot, add_state, describe, whiten


class Deconv(nn.Module):
    """Network Deconvolution, the form over channels (Ye et al. 2020, arXiv:1905.11926).

    y = W_T (x - mean) with W_T after `T` coupled Newton-Schulz steps from I towards S^-1/2, S = cov + eps I scaled by
    its Frobenius norm: closer to the root after as many steps than `IterNorm`, whose trace is larger. Meant to stand
    *before* a linear or convolutional layer, into whose weights W_T may be folded, and hence without affine parameters.

    The paper's layers for kernels larger than 1 whiten the patches that a kernel sees, pixels and channels together;
    this whitens the channels of a pixel, which for a linear layer and a 1 x 1 kernel is the same. Where a layer has
    more than `group_size` channels, the published code whitens interleaved channels by one matrix for all groups,
    copies the first batch into its buffers, averages W_T, and in its last version forgets the mean in S; here each
    group of consecutive channels has its own centred covariance, averaged, as in all our whitenings.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_cov: Tensor
    num_batches_tracked: Tensor
    identity: Tensor

    def __init__(
        self,
        channels: int,
        *,
        T: int = 5,
        eps: float = 1e-2,
        momentum: float = 0.1,
        affine: bool = False,
        group_size: int = 64,
        impl: Impl = "auto",
    ) -> None:
        super().__init__()
        self.T = T
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.affine, self.group_size, self.impl = affine, group_size, impl
        self.evaluation = LastRoot()
        add_state(self, channels, affine, group_size, filler=0)  # fillers must not count in the norm

    def forward(self, x: Tensor) -> Tensor:
        """Whiten, and in training update the running statistics in place."""
        return whiten(self, x, partial(frobenius_newton_schulz, T=self.T))

    def extra_repr(self) -> str:
        """Its options."""
        return f"{describe(self)}, T={self.T}"


def frobenius_newton_schulz(S: Tensor, T: int) -> Tensor:
    """W_T of the coupled iteration of `bncli.norms.roots.newton_schulz` with n the Frobenius norm of S, not its trace.

    (..., d, d) to the same. Differentiated step by step, so that it keeps 3 T matrices for the gradient.
    """
    size = trace(S)  # taken out, so that no square overflows
    n = size * (S / size).square().sum((-2, -1), keepdim=True).sqrt()
    eye = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    Y, Z = S / n, eye.expand_as(S)
    for step in range(T):
        H = 1.5 * eye - 0.5 * (Z @ Y)
        Z = H @ Z
        if step < T - 1:
            Y = Y @ H
    return Z * n.rsqrt()
