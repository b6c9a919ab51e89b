"""Whitening in training from planes as they lie: no centred and no transposed copy of the input.

Shapes: N examples, C channels, G groups, d channels in a group, L locations, m = N L; a plane is (d, L).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import is_ordinary, is_wrapped
from bncli.kernels.batch_norm import cancels

Root = Callable[[Tensor], Tensor]

# Planes shorter than this make products too thin to pay (measured: 49 locations win with groups of 16 and 64).
_LEAST_VALUES, _LEAST_LOCATIONS = 2**16, 32
# Stricter than for variances: small eigenvalues see what is lost in the largest.
_LARGEST_RATIO = 4.0


def is_faster(x: Tensor, d: int) -> bool:
    """Many values and locations, of what `fast` can do."""
    return is_possible(x, d) and x.numel() >= _LEAST_VALUES and x[0, 0].numel() >= _LEAST_LOCATIONS


def is_possible(x: Tensor, d: int) -> bool:
    """Contiguous float32 or float64 with locations, in groups that fill their channels, outside of transforms."""
    return (
        is_ordinary(x)
        and not is_wrapped(x)
        and x.ndim > 2
        and x.dtype in (torch.float32, torch.float64)
        and x.shape[1] % d == 0
        and x.numel() > 0
        and x.is_contiguous()
    )


def plain(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, identity: Tensor, eps: float, root: Root
) -> tuple[Tensor, Tensor, Tensor]:
    """The reference: y = weight W (x - mean) + bias, mean (C,) and S = cov + eps I (G, d, d), by plain operations."""
    G, d = identity.shape[:2]
    values = x.transpose(0, 1).reshape(G, d, -1)
    mean = values.mean(-1, keepdim=True)
    centred = values - mean
    S = centred @ centred.mT / values.shape[-1] + eps * identity.to(x.dtype)
    whitened = (root(S) @ centred).view(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)
    each = (-1, *[1] * (x.ndim - 2))
    y = whitened if weight is None or bias is None else whitened * weight.view(each) + bias.view(each)
    return y, mean.flatten(), S


def fast(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, identity: Tensor, eps: float, root: Root
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, as y = A x + (bias - A mean) with A = weight W, in five products of planes with the gradient.

    The covariance is E[x x^T] - mean mean^T; where this would cancel, the input is shifted first. May be
    differentiated any number of times; has no forward-mode derivative and looks at values, so not under vmap.
    """
    G, d = identity.shape[:2]
    planes = x.view(x.shape[0], G, d, -1)
    mean, cov = _Covariance.apply(planes)
    shift = None
    if bool(cancels(mean, cov.diagonal(dim1=-2, dim2=-1), _LARGEST_RATIO).any()):
        shift = mean.detach()
        planes = planes - shift.unsqueeze(-1)
        mean, cov = _Covariance.apply(planes)
    S = cov + eps * identity.to(x.dtype)
    A = root(S)
    if weight is not None:
        A = A * weight.view(G, d, 1).to(x.dtype)
    offset = -(A @ mean.unsqueeze(-1))
    if bias is not None:
        offset = offset + bias.view(G, d, 1).to(x.dtype)
    y = _Affine.apply(planes, A, offset).view(x.shape)
    return y, (mean if shift is None else mean + shift).flatten(), S


class _Covariance(Function):
    """Planes (N, G, d, L) to the mean (G, d) and the biased covariance (G, d, d) of each group."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor) -> tuple[Tensor, Tensor]:
        N, G, d, L = planes.shape
        mean = planes.view(N * G * d, L).mean(1).view(N, G, d).mean(0)
        flat = planes.view(N * G, d, L)
        squares = torch.bmm(flat, flat.mT).view(N, G, d, d).sum(0)
        cov = torch.baddbmm(squares, mean.unsqueeze(-1), mean.unsqueeze(-2), beta=1 / (N * L), alpha=-1)
        ctx.save_for_backward(planes, mean)
        return mean, cov

    @staticmethod
    def backward(ctx: Any, g_mean: Tensor, g_cov: Tensor) -> Tensor:
        """K (x - mean) + g_mean / m with K = (g_cov + g_cov^T) / m."""
        planes, mean = ctx.saved_tensors
        m = planes.shape[0] * planes.shape[-1]
        K = (g_cov + g_cov.mT) / m
        constant = g_mean.unsqueeze(-1) / m - K @ mean.unsqueeze(-1)
        return torch.matmul(K, planes).add_(constant)


class _Affine(Function):
    """Y = A planes + offset for planes (N, G, d, L), A (G, d, d) and offset (G, d, 1)."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor, A: Tensor, offset: Tensor) -> Tensor:
        ctx.save_for_backward(planes, A)
        y: Tensor = torch.matmul(A, planes).add_(offset)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        planes, A = ctx.saved_tensors
        N, G, d, L = planes.shape
        g = g.contiguous()
        g_planes = torch.matmul(A.mT, g) if ctx.needs_input_grad[0] else None
        g_A = torch.bmm(g.view(N * G, d, L), planes.reshape(N * G, d, L).mT).view(N, G, d, d).sum(0)
        return g_planes, g_A, g.view(N * G * d, L).sum(1).view(N, G, d, 1).sum(0)
