"""Newton-Schulz steps towards an inverse square root, with a backward pass of as few products as the forward one.

Both versions take symmetric positive definite S (..., d, d), d x d matrices independent of each other, and divide it by
its size n, the trace or the Frobenius norm, so that the steps converge.
"""

from collections.abc import Sequence
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
    gradient takes 4 products and 2 sums with a transpose a step. May be differentiated any number of times and batched
    by vmap. Compilers and `torch.export`, which see through it and know no writing into place, get the reference.
    """
    if torch.compiler.is_compiling():
        return plain(S, T, size)
    W: Tensor = _NewtonSchulz.apply(S, T, size)[0]
    return W


def forward(S: Tensor, T: int, size: Size = "trace") -> tuple[Tensor, Tensor]:
    """W and the iterates (..., 3, T, d, d) that `gradient` takes, outside of autograd."""
    W, _, Hs, Zs = iterate(S.reshape(-1, *S.shape[-2:]), T, size)
    eye = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device) * 1.5
    kept = [*(H - eye for H in Hs), *Hs, torch.zeros_like(Zs[0]), *Zs[:-1]]  # B_k = H_k - 3/2 I, H_k, Z_k (Z_0: unused)
    return W.view(S.shape), torch.stack(kept, 1).view(*S.shape[:-2], 3, T, *S.shape[-2:])


def gradient(gW: Tensor, S: Tensor, W: Tensor, kept: Tensor, size: Size = "trace") -> Tensor:
    """GS = R / n - (<gW, W> / 2 + <R, Y_0>) / n dn/dS for R the gradient of Y_0 = S / n (W = Z / sqrt n)."""
    _, Hs, Zs = kept.reshape(-1, *kept.shape[-4:]).unbind(1)
    g, flat, root = (each.reshape(-1, *S.shape[-2:]) for each in (gW, S, W))
    return reverse(g, flat, root, measure(flat, size).rsqrt(), Hs.unbind(1), Zs.unbind(1)[1:], size).view(S.shape)


def iterate(S: Tensor, T: int, size: Size = "trace") -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """W, n^-1/2 for the size n of S, H_0 to H_T-1, and Z_1 to Z_T, of which `reverse` takes all but the last.

    All (B, d, d), but the second, (B, 1, 1).
    """
    n = measure(S, size)
    r = n.rsqrt()
    eye = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device) * 1.5
    B = S / (n * -2)  # B_k = H_k - 3/2 I
    Hs = [B + eye]
    Zs = [Hs[0]]
    for _ in range(1, T):
        B = torch.bmm(torch.bmm(Hs[-1], Hs[-1]), B)
        Hs.append(B + eye)
        Zs.append(torch.bmm(Hs[-1], Zs[-1]))
    return Zs[-1] * r, r, Hs, Zs


def reverse(
    gW: Tensor, S: Tensor, W: Tensor, r: Tensor, Hs: Sequence[Tensor], Zs: Sequence[Tensor], size: Size = "trace"
) -> Tensor:
    """The gradient of S, symmetric, from what `iterate` gave.

    Z_k+1 = H_k Z_k has the gradients G Z_k of H_k and H_k G of Z_k. H' = 3/2 I + H^3 - 3/2 H^2 has for symmetric g the
    gradient K + K^T of H, with K = H (Y + Y^T / 2) - 3/2 Y and Y = H g: two products, and two sums with a transpose,
    which cost less than products do. Symmetric it may be made at each step, as S counts by its symmetric part alone.
    """
    G = gW * r  # of Z_k
    K = torch.baddbmm(G, G, Zs[-1], beta=0, alpha=0.5) if Zs else G * 0.5  # of H_k, its symmetric part
    for k in range(len(Hs) - 2, -1, -1):
        G = torch.bmm(Hs[k + 1], G)
        Y = torch.bmm(Hs[k], K + K.mT)
        K = Y.baddbmm_(Hs[k], torch.add(Y, Y.mT, alpha=0.5), beta=-1.5)
        K = K.baddbmm_(G, Zs[k - 1], alpha=0.5) if k else K.add_(G, alpha=0.5)
    return _with_size((K + K.mT) * (r * r * -0.5), gW, S, W, r * r, size)


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


def _tangent_gradient(S: Tensor, W: Tensor, gW: Tensor, T: int, size: Size = "trace") -> Tensor:
    """The gradient by operations that can be differentiated again.

    The derivative of Z_T, a polynomial of symmetric S, is self-adjoint: its tangent at sym(gW) is the gradient.
    """
    n = measure(S, size)
    flat = (-1, *S.shape[-2:])
    R = _tangent((S / n).reshape(flat), (gW + gW.mT).reshape(flat), T).view(S.shape) * (0.5 * n**-1.5)
    return _with_size(R, gW, S, W, 1 / n, size)


def _with_size(R: Tensor, gW: Tensor, S: Tensor, W: Tensor, over: Tensor, size: Size) -> Tensor:
    """The gradient of S from R, that by way of Y_0 with n = 1 / `over` as a constant: n depends on S too."""
    gn = torch.addcmul(R * S, gW, W, value=0.5).sum((-2, -1), keepdim=True) * over
    if size == "trace":
        return torch.addcmul(R, gn, torch.eye(S.shape[-1], dtype=S.dtype, device=S.device), value=-1)
    return torch.addcmul(R, gn * over, S, value=-1)


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
