"""Inverse square roots W of covariances S, W^T W = S^-1, with gradients that hold for equal eigenvalues too.

All take symmetric positive definite S of shape (..., d, d), d x d matrices independent of each other, and give W of the
same shape; S is taken to be symmetric, and so is its gradient. A matrix with a non-finite entry gives a non-finite
W (nan, from the decompositions) and leaves the others alone; nothing raises, on any device. All may be differentiated
any number of times, and batched by `torch.func.vmap`.

The decompositions hold to .1 %, in float32 to some 10 %, up to a condition number of `LARGEST_CONDITION`, and warn
beyond it.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import Impl, is_traced, is_wrapped, may_look
from bncli.kernels import newton_schulz as kernel
from bncli.kernels.whitening_rows import ClosedForm

MAX_STEPS = 7  # a float32 residual, condition number 1e4: 0.59 at T=7, 2 or 41 at T=9 (by matrix), 5e20 at T=12
LARGEST_CONDITION = {torch.float64: 1e12, torch.float32: 1e6}  # by the type of S


def inverse_root(S: Tensor) -> Tensor:
    """Symmetric W = U diag(l)^-1/2 U^T of S = U diag(l) U^T (ZCA).

    Eigenvalues below the resolution of the largest, which only rounding makes, are raised to it.
    """
    W: Tensor = _InverseRoot.apply(S)[0]
    return W


def inverse_cholesky(S: Tensor) -> Tensor:
    """Lower triangular W = L^-1 of S = L L^T; nan where S is not positive definite.

    Where only rounding makes it so, the factor is that of S with its diagonal raised by its own resolution.
    """
    W: Tensor = _InverseCholesky.apply(S)
    return W


def newton_schulz(S: Tensor, T: int, impl: Impl = "auto") -> Tensor:
    """W_T, `T` Newton-Schulz steps from I towards S^-1/2: short of it for the small eigenvalues.

    With n = tr S, Y_0 = S / n and Z_0 = I: H_k = (3 I - Z_k Y_k) / 2, Y_k+1 = Y_k H_k, Z_k+1 = H_k Z_k, and
    W_T = Z_T / sqrt(n). The same polynomial of S as the IterNorm paper's P_k+1 = (3 P_k - P_k^3 S/n) / 2, without the
    growth of rounding errors that this has beyond T = 7 or so (Higham, Functions of Matrices, section 6.3).

    The gradient is that of the T steps, not of their limit. `impl` "plain" takes the steps as written, by autograd.
    """
    return kernel.plain(S, T) if impl == "plain" else kernel.fast(S, T)


def nears_root(T: int) -> bool:
    """Whether so many Newton-Schulz steps see small eigenvalues, so that S must be as exact as for the root itself."""
    return T > MAX_STEPS


class _InverseRoot(Function):
    """S to W, and V = U diag(s) and s = l^-1/2 that the gradient needs, U the eigenvectors."""

    @staticmethod
    def forward(S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _root_and_basis(S)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        W, V, s = output
        ctx.mark_non_differentiable(V, s)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(W, V, s)

    @staticmethod
    def backward(ctx: Any, gW: Tensor | None, *_: None) -> Tensor | None:
        return None if gW is None else _RootGradient.apply(gW, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], S: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], int]:
        return _InverseRoot.apply(S.movedim(in_dims[0], 0)), 0


class _RootGradient(Function):
    """The gradient of S from that of W = S^-1/2 = U diag(s) U^T.

    gS = -W^2 X W^2 / 2 with W X + X W = gW + gW^T, which follows from d(W^2) = -W^2 dS W^2. In the basis of U this
    multiplies sym(gW) by -si^2 sj^2 / (si + sj), the Daleckii-Krein form without 1 / (li - lj), and so it is computed:
    products of W^2 with X would cancel where S is ill-conditioned. V = U diag(s) and s go along as constants, so that
    only gW and W are differentiated.
    """

    @staticmethod
    def forward(gW: Tensor, W: Tensor, V: Tensor, s: Tensor) -> Tensor:
        return _symmetric_gradient(gW, W, V, s)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, H: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """The map from gW is its own adjoint; that from W is differentiated as written, P = W^2."""
        gW, W, V, s = ctx.saved_tensors
        H = (H + H.mT) / 2
        X, P = _Sylvester.apply(W, gW + gW.mT, V, s), W @ W
        Y = _Sylvester.apply(W, P @ H @ P, V, s) * -0.5
        gP = H @ P @ X
        gP = (gP + gP.mT) * -0.5
        return _RootGradient.apply(H, W, V, s), gP @ W + W @ gP - X @ Y - Y @ X, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Tensor, int]:
        return _RootGradient.apply(*map(_lanes_first, tensors, in_dims)), 0


class _Sylvester(Function):
    """X with W X + X W = B, for symmetric W = U diag(s) U^T and V = U diag(s)."""

    @staticmethod
    def forward(W: Tensor, B: Tensor, V: Tensor, s: Tensor) -> Tensor:
        return _sylvester(B, V / s.unsqueeze(-2), s)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        W, _, V, s = inputs
        ctx.save_for_backward(W, V, s, output)

    @staticmethod
    def backward(ctx: Any, gX: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """gB solves the same equation for gX, and gW = -(gB X^T + X^T gB)."""
        W, V, s, X = ctx.saved_tensors
        gB = _Sylvester.apply(W, gX, V, s)
        return -(gB @ X.mT + X.mT @ gB), gB, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Tensor, int]:
        return _Sylvester.apply(*map(_lanes_first, tensors, in_dims)), 0


class _InverseCholesky(Function):
    @staticmethod
    def forward(S: Tensor) -> Tensor:
        return _triangular_root(S)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gW: Tensor) -> Tensor:
        return _triangular_gradient(gW, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], S: Tensor) -> tuple[Tensor, int]:
        return _InverseCholesky.apply(S.movedim(in_dims[0], 0)), 0


def _factor(S: Tensor) -> tuple[Tensor, Tensor | None]:
    """L of S = L L^T, if need be at a second attempt with a diagonal raised by its resolution, and where both failed.

    Raised each entry by its own: what succeeds then does not depend on the channels' scales (Higham, Accuracy and
    Stability, section 10.1). Where looking costs nothing, the second attempt is made only if the first has failed.
    """
    L, failed = torch.linalg.cholesky_ex(S)
    if S.device.type == "cpu" and may_look(S) and not failed.any():
        return L, None
    resolution = 2 * S.shape[-1] * torch.finfo(S.dtype).eps
    raised, still = torch.linalg.cholesky_ex(S + S.diagonal(dim1=-2, dim2=-1).mul(resolution).diag_embed())
    return torch.where((failed == 0)[..., None, None], L, raised), failed.minimum(still)


def _root_and_basis(S: Tensor, warns: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """W = V U^T, V = U diag(s) and s = l^-1/2."""
    spoilt = None
    if not _are_finite(S):
        spoilt = _spoilt(S)
        S = torch.where(spoilt == 0, S, torch.eye(S.shape[-1], dtype=S.dtype, device=S.device))
    values, U = torch.linalg.eigh(S)
    if warns:
        warn_of_condition(S, values[..., :1], values[..., -1:])
    s = torch.maximum(values, values[..., -1:] * torch.finfo(S.dtype).eps).rsqrt_()
    s = s if spoilt is None else s + spoilt.squeeze(-1)
    V = U * s.unsqueeze(-2)
    return _product(V, U.mT), V, s


def _are_finite(S: Tensor) -> bool:
    """Whether all of S is known to be finite, where that is known for nothing."""
    return S.device.type == "cpu" and may_look(S) and math.isfinite(S.sum())


def warn_of_condition(S: Tensor, least: Tensor, most: Tensor) -> None:
    """Warn if a ratio of `most` to `least` is beyond what decompositions hold for, where one may look at values.

    `least` and `most` are (..., d) or (..., 1). A matrix whose last channel is alone is passed over: it is most likely
    filled up (`bncli.norms.groups`), and what fills it up says nothing. On a GPU call it only behind what has waited
    for values in any case, as the decomposition into eigenvectors has. The text is the same each time, so that Python
    shows it once.
    """
    largest = LARGEST_CONDITION[least.dtype]
    if not may_look(S) or S.device.type == "meta":
        return
    if least.numel() == 0 or float(most.max()) <= float(least.min()) * largest:  # of all together: cheaper to see
        return
    if bool(((least * largest < most) & (S[..., -1, :-1] != 0).any(-1, keepdim=True)).any()):
        text = (
            f"whitening: the covariance of some group of channels has a condition number above {largest:.0e} (its "
            "largest eigenvalue over its smallest), beyond which the directions of least variance do not come out with "
            "variance 1; raise eps, or bring the channels to like scales first, as zca-cor does"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def _symmetric_gradient(gW: Tensor, W: Tensor, V: Tensor, s: Tensor) -> Tensor:
    """gS, as `_RootGradient` derives it, in the basis of U alone: V on both sides has two of the four factors s."""
    inner = _product(_product(V.mT, gW + gW.mT), V) / ((s.unsqueeze(-1) + s.unsqueeze(-2)) * -2)
    return _product(_product(V, inner), V.mT)


def _sylvester(B: Tensor, U: Tensor, s: Tensor) -> Tensor:
    rotated = (U.mT @ B @ U) / (s.unsqueeze(-1) + s.unsqueeze(-2))
    X: Tensor = U @ rotated @ U.mT
    return X


def _triangular_root(S: Tensor, warns: bool = True) -> Tensor:
    L, failed = _factor(S)
    if S.device.type == "cpu" and warns:  # elsewhere nothing has waited for values
        # of the correlation: how much of each variance the channels before it leave
        warn_of_condition(S, L.diagonal(dim1=-2, dim2=-1).square(), S.diagonal(dim1=-2, dim2=-1))
    eye = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    W: Tensor = torch.linalg.solve_triangular(L, eye, upper=False)
    if failed is None and _are_finite(S):
        return W
    spoilt = _spoilt(S)
    return W + (spoilt if failed is None else spoilt.masked_fill((failed != 0)[..., None, None], torch.nan))


def _triangular_gradient(gW: Tensor, W: Tensor) -> Tensor:
    """gS = -W^T (M + M^T - diag M) W / 2 for M the lower triangle of gW W^T; it needs W alone."""
    half = torch.full(W.shape[-2:], -0.25, dtype=W.dtype, device=W.device)
    M = _product(gW, W.mT) * (half.tril() + half.tril(-1))
    return _product(_product(W.mT, M + M.mT), W)


def _closed(name: str, of: Callable[[Tensor, bool], tuple[Tensor, ...]], gradient: Callable[..., Tensor]) -> ClosedForm:
    """A closed form, in a traced step one operation, so that it may look at values there too; without warning."""

    def of_traced(S: Tensor) -> list[Tensor]:
        return list(of(S, False))

    def either(S: Tensor) -> tuple[Tensor, ...]:
        if S.device.type != "cpu" or not is_traced() or is_wrapped(S):
            return of(S, True)
        if not hasattr(torch.ops.bncli, name):
            _OPERATIONS.define(f"{name}(Tensor S) -> Tensor[]")
            _OPERATIONS.impl(name, of_traced, "CPU")
        return tuple(getattr(torch.ops.bncli, name).default(S))

    return ClosedForm(either, gradient)


_OPERATIONS = torch.library.Library("bncli", "FRAGMENT")
INVERSE_ROOT = _closed("inverse_root", _root_and_basis, _symmetric_gradient)
INVERSE_CHOLESKY = _closed("inverse_cholesky", lambda S, warns: (_triangular_root(S, warns),), _triangular_gradient)


def newton_schulz_form(T: int, size: kernel.Size = "trace") -> ClosedForm:
    """`newton_schulz`, or `frobenius_newton_schulz`, with its gradient."""

    def of(S: Tensor) -> "tuple[Tensor, ...]":  # in quotes for the compiler of torch 2.6
        W, r, Hs, Zs = kernel.iterate(S, T, size)
        return W, S, r, *Hs, *Zs[:-1]

    return ClosedForm(of, lambda gW, W, S, r, *kept: kernel.reverse(gW, S, W, r, kept[:T], kept[T:], size))


def _spoilt(S: Tensor) -> Tensor:
    """(..., 1, 1): 0 for a matrix of finite entries, nan for another."""
    return S.sum((-2, -1), keepdim=True) * 0


def _product(A: Tensor, B: Tensor) -> Tensor:
    """A @ B, of batches (B, d, d) without what matmul does to find out that they are."""
    return torch.bmm(A, B) if A.ndim == B.ndim == 3 else A @ B


def _lanes_first(tensor: Tensor, lanes: int | None) -> Tensor:
    """One without lanes broadcasts against the leading dimension of the others as it is."""
    return tensor if lanes is None else tensor.movedim(lanes, 0)


def uncoupled_newton_schulz(S: Tensor, T: int) -> Tensor:
    """W_T of P_0 = I, P_k+1 = (3 P_k - P_k^3 S / n) / 2, W_T = P_T / sqrt(n), with n = tr S: (..., d, d) to the same.

    In exact arithmetic the W_T of `bncli.norms.roots.newton_schulz`; here a rounding error that does not commute with S
    grows with each step (Higham, Functions of Matrices, section 6.3).
    """
    n = S.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    scaled = S / n
    P = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device).expand_as(S)
    for _ in range(T):
        P = 1.5 * P - 0.5 * (P @ P @ P) @ scaled
    return P * n.rsqrt()


def frobenius_newton_schulz(S: Tensor, T: int, impl: Impl = "auto") -> Tensor:
    """W_T of the coupled iteration of `newton_schulz` with n the Frobenius norm of S, not its trace."""
    return kernel.plain(S, T, "frobenius") if impl == "plain" else kernel.fast(S, T, "frobenius")
