"""Newton-Schulz steps towards an inverse square root, with a backward pass of as few products as the forward one.

Both versions take symmetric positive definite S (..., d, d), d x d matrices independent of each other, and divide it by
its size n, the trace or the Frobenius norm, so that the steps converge.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import suspend_autocast

Size = Literal["trace", "frobenius"]


def plain(S: Tensor, T: int, size: Size = "trace") -> Tensor:
    """The reference: W_T = Z_T / sqrt(n) of the coupled iteration, n the size of S, differentiated by autograd.

    Y_0 = S / n, Z_0 = I: H_k = (3 I - Z_k Y_k) / 2, Y_k+1 = Y_k H_k, Z_k+1 = H_k Z_k.
    """
    n = measure(S, size)
    Y = (S / n).reshape(-1, *S.shape[-2:])
    eye = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    Z = H = 1.5 * eye - 0.5 * Y
    for _ in range(T - 1):
        Y = Y @ H
        H = 1.5 * eye - 0.5 * Z @ Y
        Z = H @ Z
    return Z.view(S.shape) * n.rsqrt()


def fast(S: Tensor, T: int, size: Size = "trace") -> Tensor:
    """The same numbers: as Y_k = Z_k^-1 (3 I - 2 H_k), the steps need H alone: H_k+1 = 3/2 I + H_k^2 (H_k - 3/2 I).

    This is a polynomial of one matrix, whose derivative is 0 at its limit I, so rounding does not grow in it. The
    gradient takes 6 products a step and no other pass. May be differentiated any number of times and batched by vmap.
    Compilers and `torch.export`, which see through it and know no writing into place, get the reference.
    """
    if torch.compiler.is_compiling():
        return plain(S, T, size)
    W: Tensor = _NewtonSchulz.apply(S, T, size)[0]
    return W


def forward(S: Tensor, T: int, size: Size = "trace") -> tuple[Tensor, Tensor]:
    """W and the iterates (..., 3, T, d, d) that `gradient` takes, outside of autograd."""
    n = measure(S, size)
    eye = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device) * 1.5
    first = (S / n).reshape(-1, *S.shape[-2:]).mul_(-0.5)
    kept = first.new_empty(3, T, *first.shape)  # B_k = H_k - 3/2 I, H_k, Z_k = H_k-1 ... H_0 (Z_0 unused: S has it)
    Bs, Hs, Zs = kept
    Bs[0] = first
    Z = torch.add(first, eye, out=Hs[0])
    for k in range(1, T):
        torch.bmm(torch.bmm(Hs[k - 1], Hs[k - 1]), Bs[k - 1], out=Bs[k])
        torch.add(Bs[k], eye, out=Hs[k])
        Zs[k] = Z
        Z = torch.bmm(Hs[k], Z)
    Zs[0] = 0
    return Z.view(S.shape) * n.rsqrt(), kept.movedim(2, 0).view(*S.shape[:-2], 3, T, *S.shape[-2:])


def gradient(gW: Tensor, S: Tensor, W: Tensor, kept: Tensor, size: Size = "trace") -> Tensor:
    """GS = R / n - (<gW, W> / 2 + <R, Y_0>) / n dn/dS for R the gradient of Y_0 = S / n (W = Z / sqrt n)."""
    n = measure(S, size)
    G = ((gW + gW.mT) * (0.5 * n.rsqrt())).reshape(-1, *S.shape[-2:])
    R = _reverse(kept.reshape(-1, *kept.shape[-4:]), G, kept.shape[-3]).view(S.shape) / n
    return _with_size(R, gW, S, W, n, size)


class _NewtonSchulz(Function):
    """S to W and its iterates, 3 T matrices of d x d: little beside the activations, dear to repeat."""

    @staticmethod
    def forward(S: Tensor, T: int, size: Size) -> tuple[Tensor, Tensor]:
        return forward(S, T, size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, Size], output: tuple[Tensor, Tensor]) -> None:
        S, ctx.T, ctx.size = inputs
        W, kept = output
        ctx.mark_non_differentiable(kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(S, W, kept)

    @staticmethod
    def backward(ctx: Any, gW: Tensor | None, *_: None) -> tuple[Tensor | None, None, None]:
        if gW is None:
            return None, None, None
        S, W, kept = ctx.saved_tensors
        with suspend_autocast(gW):
            if torch.is_grad_enabled():  # to be differentiated again: the iterates then depend on S
                return _tangent_gradient(S, W, gW, ctx.T, ctx.size), None, None
            return gradient(gW, S, W, kept, ctx.size), None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None, None], S: Tensor, T: int, size: Size
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        return _NewtonSchulz.apply(S.movedim(in_dims[0], 0), T, size), (0, 0)


def _reverse(kept: Tensor, G: Tensor, T: int) -> Tensor:
    """The gradient of Y_0 from G, that of Z_T: (B, 3, T, d, d) and (B, d, d) to (B, d, d).

    All sums are within products: at these sizes a pass over a matrix costs as much as a product.
    """
    gH: Tensor | None = None  # of H_k by way of H_k+1
    for k in range(T - 1, 0, -1):
        B, H, Z = kept[:, 0, k - 1], kept[:, 1, k - 1], kept[:, 2, k]
        gH = torch.bmm(G, Z) if gH is None else torch.baddbmm(gH, G, Z)  # Z_k+1 = H_k Z_k
        G = torch.bmm(kept[:, 1, k], G)
        M = torch.bmm(gH, H)  # H_k = 3/2 I + H H B: g H B + H (g H + B g)
        gH = torch.baddbmm(torch.bmm(M, B), H, torch.baddbmm(M, B, gH))
    return (G if gH is None else G + gH) * -0.5


def _tangent_gradient(S: Tensor, W: Tensor, gW: Tensor, T: int, size: Size = "trace") -> Tensor:
    """The gradient by operations that can be differentiated again.

    The derivative of Z_T, a polynomial of symmetric S, is self-adjoint: its tangent at sym(gW) is the gradient.
    """
    n = measure(S, size)
    flat = (-1, *S.shape[-2:])
    R = _tangent((S / n).reshape(flat), (gW + gW.mT).reshape(flat), T).view(S.shape) * (0.5 * n**-1.5)
    return _with_size(R, gW, S, W, n, size)


def _with_size(R: Tensor, gW: Tensor, S: Tensor, W: Tensor, n: Tensor, size: Size) -> Tensor:
    """The gradient of S from R, that by way of Y_0 with n as a constant: n depends on S too."""
    gn = torch.addcmul(R * S, gW, W, value=0.5).sum((-2, -1), keepdim=True) / n
    return R - gn * (torch.eye(S.shape[-1], dtype=S.dtype, device=S.device) if size == "trace" else S / n)


def _tangent(Y: Tensor, dY: Tensor, T: int) -> Tensor:
    """dZ_T for the tangent dY of Y_0: the product rule on each line of the coupled iteration. Both (B, d, d)."""
    eye = torch.eye(Y.shape[-1], dtype=Y.dtype, device=Y.device)
    Z = H = torch.sub(1.5 * eye, Y, alpha=0.5)
    dZ = dH = -0.5 * dY
    for _ in range(T - 1):
        dY = torch.baddbmm(torch.bmm(dY, H), Y, dH)
        Y = torch.bmm(Y, H)
        dH = torch.baddbmm(torch.bmm(dZ, Y), Z, dY, beta=-0.5, alpha=-0.5)
        H = torch.baddbmm(eye, Z, Y, beta=1.5, alpha=-0.5)
        dZ = torch.baddbmm(torch.bmm(dH, Z), H, dZ)
        Z = torch.bmm(H, Z)
    return dZ


def measure(S: Tensor, size: Size) -> Tensor:
    """The trace or the Frobenius norm of (..., d, d): (..., 1, 1)."""
    n = S.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return n if size == "trace" else n * (S / n).square().sum((-2, -1), keepdim=True).sqrt()  # no square overflows
