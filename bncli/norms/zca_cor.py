"""Whitening by the symmetric root of the correlation, which keeps the channels' scales out of the rotation."""

from torch import Tensor, nn

from bncli.kernels import Impl
from bncli.norms.groups import LastRoot, add_state, describe, whiten
from bncli.norms.roots import inverse_root


class ZCACor(nn.Module):
    """ZCA-cor whitening (Kessy, Lewin & Strimmer 2018, arXiv:1512.00809).

    y = weight P^-1/2 V^-1/2 (x - mean) + bias with S = V^1/2 P V^1/2, V the diagonal of S and P its correlation: batch
    normalisation first, then the symmetric root of what correlation is left. Of all whitenings its outputs correlate
    most with their channels, whatever these are measured in: scaling a channel by a positive number leaves y as it was
    (but for eps). The paper has no eps; here S is the covariance plus eps I, as in every whitening. All else as in
    `ZCA`.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W). Cost: an eigendecomposition of each group.

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
        eps: float = 1e-3,
        momentum: float = 0.1,
        affine: bool = True,
        group_size: int = 16,
        impl: Impl = "auto",
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.affine, self.group_size, self.impl = affine, group_size, impl
        self.evaluation = LastRoot()
        add_state(self, channels, affine, group_size, filler=1)

    def forward(self, x: Tensor) -> Tensor:
        """Whiten, and in training update the running statistics in place."""
        return whiten(self, x, correlation_root)

    def extra_repr(self) -> str:
        """Its options."""
        return describe(self)


def correlation_root(S: Tensor) -> Tensor:
    """W = P^-1/2 V^-1/2 of S = V^1/2 P V^1/2, V = diag S: (..., d, d) to the same, W^T W = S^-1."""
    scale = S.diagonal(dim1=-2, dim2=-1).rsqrt().unsqueeze(-2)  # (..., 1, d)
    P = S * scale * scale.mT
    return inverse_root(P) * scale
