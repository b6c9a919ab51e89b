"""Newton-Schulz as the IterNorm paper writes it: one sequence of matrices, right for few steps only."""

import torch
from torch import Tensor

MAX_STEPS = 7  # a float32 residual, condition number 1e4: 0.59 at T=7, 2 or 41 at T=9 (by matrix), 5e20 at T=12


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
