"""Newton-Schulz steps of all groups in one launch each way (Triton): a matrix is one program and stays on chip.

Tested by the interpreter and compiled for sm_90; not yet run or timed on a GPU, so nothing chooses it by itself.
`forward` and `gradient` have the arguments and numbers of those in `newton_schulz`, for float32 matrices of at most
64 x 64; `fast` is its `fast`. Imported only where Triton is there.

S (..., d, d): d x d matrices independent of each other.
"""

import math

import torch
import triton
import triton.language as tl
from torch.autograd import Function

from bncli.kernels import newton_schulz

LARGEST = 64  # of d: three matrices of a step fit into a program's registers and shared memory


@triton.jit
def _tile(pointer, rows, columns, d):
    """(D, D) from a row-major (d, d), 0 outside."""
    inside = (rows < d)[:, None] & (columns < d)[None, :]
    return tl.load(pointer + rows[:, None] * d + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _put(pointer, matrix, rows, d):
    """(D, D) to a row-major (d, d)."""
    inside = (rows < d)[:, None] & (rows < d)[None, :]
    tl.store(pointer + rows[:, None] * d + rows[None, :], matrix, mask=inside)


@triton.jit
def _total(matrix):
    """The sum of (D, D)."""
    return tl.sum(tl.sum(matrix, 1), 0)


@triton.jit
def forward_steps(S_all, W_all, kept_all, T, d, D: tl.constexpr, PRECISION: tl.constexpr):
    """`newton_schulz.forward`: B_0 = -S / (2 n), B_k = H_k-1^2 B_k-1, H_k = 3/2 I + B_k, W = H_T-1 ... H_0 / sqrt n."""
    matrix = tl.program_id(0).to(tl.int64)
    size = d * d
    kept = kept_all + matrix * 3 * T * size
    rows = tl.arange(0, D)
    diagonal = (rows[:, None] == rows[None, :]) & (rows < d)[:, None]
    eye = tl.where(diagonal, 1.5, 0.0)
    S = _tile(S_all + matrix * size, rows, rows, d)
    n = _total(tl.where(diagonal, S, 0.0))
    B = S * (-0.5 / n)
    H = B + eye
    Z = H
    _put(kept, B, rows, d)
    _put(kept + T * size, H, rows, d)
    _put(kept + 2 * T * size, tl.zeros((D, D), tl.float32), rows, d)
    for k in range(1, T):
        B = tl.dot(tl.dot(H, H, input_precision=PRECISION), B, input_precision=PRECISION)
        H = B + eye
        _put(kept + k * size, B, rows, d)
        _put(kept + (T + k) * size, H, rows, d)
        _put(kept + (2 * T + k) * size, Z, rows, d)
        Z = tl.dot(H, Z, input_precision=PRECISION)
    _put(W_all + matrix * size, Z * tl.rsqrt(n), rows, d)


@triton.jit
def backward_steps(gW_all, S_all, W_all, kept_all, gS_all, T, d, D: tl.constexpr, PRECISION: tl.constexpr):
    """`newton_schulz.gradient`, six products a step."""
    matrix = tl.program_id(0).to(tl.int64)
    size = d * d
    kept = kept_all + matrix * 3 * T * size
    rows = tl.arange(0, D)
    diagonal = (rows[:, None] == rows[None, :]) & (rows < d)[:, None]
    S = _tile(S_all + matrix * size, rows, rows, d)
    gW = _tile(gW_all + matrix * size, rows, rows, d)
    n = _total(tl.where(diagonal, S, 0.0))
    G = (gW + tl.trans(gW)) * (0.5 * tl.rsqrt(n))
    gH = tl.zeros((D, D), tl.float32)
    for back in range(1, T):
        k = T - back
        gH += tl.dot(G, _tile(kept + (2 * T + k) * size, rows, rows, d), input_precision=PRECISION)
        G = tl.dot(_tile(kept + (T + k) * size, rows, rows, d), G, input_precision=PRECISION)
        B = _tile(kept + (k - 1) * size, rows, rows, d)
        H = _tile(kept + (T + k - 1) * size, rows, rows, d)
        M = tl.dot(gH, H, input_precision=PRECISION)
        inner = M + tl.dot(B, gH, input_precision=PRECISION)
        gH = tl.dot(M, B, input_precision=PRECISION) + tl.dot(H, inner, input_precision=PRECISION)
    R = (G + gH) * (-0.5 / n)
    W = _tile(W_all + matrix * size, rows, rows, d)
    gn = _total(R * S + 0.5 * gW * W) / n
    _put(gS_all + matrix * size, R - tl.where(diagonal, gn, 0.0), rows, d)


def is_possible(S: torch.Tensor) -> bool:
    """Whether these matrices have a kernel."""
    return S.dtype == torch.float32 and S.shape[-1] <= LARGEST and S.numel() > 0


@torch.library.custom_op("bncli::triton_newton_schulz", mutates_args=())
def forward(S: torch.Tensor, T: int) -> tuple[torch.Tensor, torch.Tensor]:
    """W and the iterates (..., 3, T, d, d) that `gradient` takes."""
    S = S.contiguous()
    d = S.shape[-1]
    W, kept = torch.empty_like(S), S.new_empty(*S.shape[:-2], 3, T, d, d)
    forward_steps[(math.prod(S.shape[:-2]),)](S, W, kept, T, d, **_how(d))
    return W, kept


@forward.register_fake
def _(S: torch.Tensor, T: int) -> tuple[torch.Tensor, torch.Tensor]:
    W = S.new_empty(S.shape)
    return W, S.new_empty(*S.shape[:-2], 3, T, *S.shape[-2:])


@torch.library.custom_op("bncli::triton_newton_schulz_gradient", mutates_args=())
def gradient(gW: torch.Tensor, S: torch.Tensor, W: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """The gradient of S from that of W."""
    gW, S, W, kept = (t.contiguous() for t in (gW, S, W, kept))
    d, gS = S.shape[-1], torch.empty_like(S)
    backward_steps[(math.prod(S.shape[:-2]),)](gW, S, W, kept, gS, kept.shape[-3], d, **_how(d))
    return gS


@gradient.register_fake
def _(gW: torch.Tensor, S: torch.Tensor, W: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    return S.new_empty(S.shape)


def fast(S: torch.Tensor, T: int) -> torch.Tensor:
    """`newton_schulz.fast`, differentiable any number of times (from the second on by torch's operations)."""
    return _Root.apply(S, T)[0]


class _Root(Function):
    """S to W and its iterates."""

    @staticmethod
    def forward(S, T):
        return torch.ops.bncli.triton_newton_schulz(S, T)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        S, ctx.T = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(S, *output)

    @staticmethod
    def backward(ctx, gW, _):
        if gW is None:
            return None, None
        S, W, kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: the iterates then depend on S
            return newton_schulz._tangent_gradient(S, W, gW, ctx.T), None
        return torch.ops.bncli.triton_newton_schulz_gradient(gW, S, W, kept), None

    @staticmethod
    def vmap(info, in_dims, S, T):
        return _Root.apply(S.movedim(in_dims[0], 0), T), (0, 0)


def _how(d: int) -> dict[str, object]:
    """A dot takes sides of at least 16; products in float32 proper, as an iteration towards a root squares its errors.

    Warps as few as keep a program's matrices in registers, by the compiler's report for sm_90 (at 64 some spill).
    """
    D = max(16, 1 << (d - 1).bit_length())
    return {"D": D, "PRECISION": "ieee", "num_warps": 2 if D == 16 else 8, "num_stages": 1}
