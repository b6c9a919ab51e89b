"""Noisy Batch Normalization: covariate shift put back in on purpose, after the norm."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn, ones, zeros

from bncli.norms.channels import add_averages, add_parameters, along, values_per_channel
from bncli.norms.groups import bessel, single_or_better


class NoisyBatch(nn.Module):
    """Batch Normalization with non-stationary noise after it (Santurkar et al. 2018, arXiv:1805.11604, section 2.2).

    y = s a + m, where a is the output of `Batch`, weight and bias included. In every training step each channel j draws

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
    ) -> None:
        super().__init__()
        self.n_mu, self.n_sigma, self.r_mu, self.r_sigma, self.draws = n_mu, n_sigma, r_mu, r_sigma, draws
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_parameters(self, channels, affine)
        add_averages(self, {"running_mean": zeros(channels), "running_var": ones(channels)})

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training add noise and update the running statistics in place."""
        m = values_per_channel(x, self.channels)
        if self.training:
            bessel(m)  # refuses a single value
            self.num_batches_tracked.add_(1)
        a = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return self._noisy(a) if self.training else a

    def _noisy(self, a: Tensor) -> Tensor:
        wide = single_or_better(a)
        units = wide.new_empty(self.channels if self.draws == "channel" else 1)
        mu = self.n_mu * _symmetric(units)
        sigma = 1 + (self.n_sigma - 1) * torch.rand_like(units)
        scale = along(sigma, a) + self.r_sigma * torch.randn_like(wide)
        shift = along(mu, a) + self.r_mu * _symmetric(wide)
        return torch.addcmul(shift, scale, wide).to(a.dtype)

    def extra_repr(self) -> str:
        """Its options."""
        return (
            f"{self.channels}, n_mu={self.n_mu}, n_sigma={self.n_sigma}, r_mu={self.r_mu}, r_sigma={self.r_sigma}, "
            f"draws={self.draws}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
        )


def _symmetric(like: Tensor) -> Tensor:
    """Of the shape of `like`, uniform in [-1, 1]."""
    return 2 * torch.rand_like(like) - 1
