"""Whitening along the principal axes: the negative control among the norms that decorrelate."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.types import Device

from bncli.kernels import Impl
from bncli.norms.channels import DType, RunningNorm, check_floating, describe, reset_affine, widen
from bncli.norms.groups import reset_covariance, set_up, whiten
from bncli.norms.roots import warn_of_condition


class PCA(RunningNorm):
    """Whitening by principal components (Huang et al. 2018, arXiv:1804.08450, section 3, which warns of it).

    y = weight L^-1/2 U^T (x - mean) + bias with S = U L U^T: output i of a group is no longer channel i but the
    component of the i-th largest variance, its sign such that the entry of U with the largest magnitude is positive.
    Which axis is which, and how it points, changes from batch to batch ("stochastic axis swapping"), all the more the
    closer the eigenvalues are: what follows must learn from axes that do not stay. All else as in `ZCA`.

    Its gradient exists only where the eigenvalues of S are distinct; see `principal_axes`.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W). Cost: an eigendecomposition of each group.

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-3,
        momentum: float = 0.1,
        affine: bool = True,
        group_size: int = 16,
        impl: Impl = "auto",
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        set_up(self, channels, eps, momentum, affine, group_size, impl, device, dtype, filler=0.5)  # below eps: last

    reset_running_stats = reset_covariance
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Whiten, and in training update the running statistics in place."""
        root = partial(principal_axes, resolution=torch.finfo(widen(check_floating(x)).dtype).eps)
        return whiten(self, x, root, exact=True)


def principal_axes(S: Tensor, resolution: float = 0.0) -> Tensor:
    """W = diag(l)^-1/2 U^T of symmetric positive definite S = U diag(l) U^T: (..., d, d) to the same.

    Rows stand in the order of descending eigenvalues l; the largest entry of each in magnitude is positive.
    Eigenvalues below the resolution of the largest are raised to it. A matrix with a non-finite entry gives nan and
    leaves the others alone.

    The gradient is exact where the eigenvalues are distinct. Eigenvectors of equal eigenvalues are not differentiable:
    there the terms of 1 / (li - lj) are left out, which keeps the gradient finite and makes it arbitrary. It may be
    differentiated again, under the same condition.

    Args:
        resolution: of the values that S is the covariance of, if it is coarser than that of S: eigenvalues as close as
            these may make them, 8 resolution sqrt(l_max l) apart, count as equal.
    """
    W: Tensor = _PrincipalAxes.apply(S, resolution)
    return W


class _PrincipalAxes(Function):
    @staticmethod
    def forward(S: Tensor, resolution: float) -> Tensor:
        spoilt = (S * 0).sum((-2, -1), keepdim=True)  # nan for a matrix that eigh would stumble over
        eye = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
        values, U = torch.linalg.eigh(torch.where(spoilt == 0, S, eye))
        warn_of_condition(S, values[..., :1], values[..., -1:])
        floor = values[..., -1:] * torch.finfo(S.dtype).eps
        rows = U.mT.flip(-2) * torch.maximum(values, floor).flip(-1).rsqrt().unsqueeze(-1)
        largest = rows.gather(-1, rows.abs().argmax(-1, keepdim=True))
        W: Tensor = rows * largest.sign() + spoilt
        return W

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.resolution = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gW: Tensor) -> tuple[Tensor, None]:
        """gS = U sym(N) U^T, with A = gW U and s = l^-1/2.

        From dU = U (F o U^T dS U), F_ij = 1 / (lj - li): N_ji = s_i A_ij / (li - lj), and N_ii = -s_i^3 A_ii / 2.
        U and s are read off W, of which s are the rows' lengths, so that the gradient can be differentiated again.
        """
        (W,) = ctx.saved_tensors
        s = W.square().sum(-1, keepdim=True).sqrt()  # (..., d, 1)
        V = W / s  # U^T
        values = s**-2
        A = gW @ V.mT
        gaps = values - values.mT
        largest = values.amax(-2, keepdim=True)
        noise = torch.maximum(largest * torch.finfo(W.dtype).eps, (largest * values).sqrt() * ctx.resolution)
        resolved = gaps.abs() > torch.maximum(noise, noise.mT) * 8
        inverse = resolved / torch.where(resolved, gaps, 1.0)
        turned = s * A * inverse
        N = turned + turned.mT - torch.diag_embed((s.squeeze(-1) ** 3) * A.diagonal(dim1=-2, dim2=-1))
        return V.mT @ N @ V * 0.5, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], S: Tensor, resolution: float) -> tuple[Tensor, int]:
        return _PrincipalAxes.apply(S.movedim(in_dims[0], 0), resolution), 0
