"""Noisy Batch Normalization: covariate shift put back in on purpose, after the norm."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.types import Device

from bncli.kernels import broadcast
from bncli.norms.channels import (
    DType,
    add_affine,
    add_running,
    bessel,
    count_values,
    describe,
    reset_affine,
    reset_running,
    widen,
)


class NoisyBatchNorm(nn.Module):
    """Batch Normalization with non-stationary noise after it (Santurkar et al. 2018, arXiv:1805.11604, section 2.2).

    y = s a + m, where a is the output of `BatchNorm`, weight and bias included. In a training step each channel j draws

        mu_j ~ U(-n_mu, n_mu)     sigma_j ~ U(1, n_sigma)

    and each value i of it draws m_ij ~ U(mu_j - r_mu, mu_j + r_mu) and s_ij ~ N(sigma_j, standard deviation r_sigma).
    Evaluation adds no noise. With `draws="layer"` all channels of a layer share mu and sigma. The source leaves open
    whether mu and sigma are drawn per channel or per layer, and whether r_sigma is a standard deviation or a variance.

    The noise comes from torch's global generator of the input's device: seed it for reproducible noise. Under vmap it
    needs `randomness="different"`, and lanes then draw other noise than runs alone.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        *,
        n_mu: float = 0.5,
        n_sigma: float = 1.25,
        r_mu: float = 0.1,
        r_sigma: float = 0.1,
        draws: Literal["channel", "layer"] = "channel",
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.n_mu, self.n_sigma, self.r_mu, self.r_sigma, self.draws = n_mu, n_sigma, r_mu, r_sigma, draws
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training add noise and update the running statistics in place."""
        m = count_values(x, self.channels)
        if self.training:
            bessel(m)  # refuses a single value
            self.num_batches_tracked.add_(1)
        a = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return self._noisy(a) if self.training else a

    def _noisy(self, a: Tensor) -> Tensor:
        wide = widen(a)
        units = wide.new_empty(self.channels if self.draws == "channel" else 1)
        mu = self.n_mu * _symmetric(units)
        sigma = 1 + (self.n_sigma - 1) * torch.rand_like(units)
        scale = broadcast(sigma, a) + self.r_sigma * torch.randn_like(wide)
        shift = broadcast(mu, a) + self.r_mu * _symmetric(wide)
        return torch.addcmul(shift, scale, wide).to(a.dtype)


def _symmetric(like: Tensor) -> Tensor:
    """Of the shape of `like`, uniform in [-1, 1]."""
    return 2 * torch.rand_like(like) - 1
