"""Norms that decorrelate the channels of a group as well as scale them: y = W (x - mean), W^T W = S^-1.

S is the covariance of a group's channels plus eps I. The norms differ in W (`bncli.norms.roots`); groups, covariances
and running statistics are the functions of `bncli.norms.groups`.
"""

from functools import partial
from typing import Literal

from torch import Tensor
from torch.types import Device

from bncli.errors import ConfigError
from bncli.kernels import Impl, triton_launch
from bncli.norms.channels import DType, RunningNorm, describe, reset_affine
from bncli.norms.groups import reset_covariance, set_up, whiten
from bncli.norms.roots import (
    INVERSE_CHOLESKY,
    INVERSE_ROOT,
    MAX_STEPS,
    frobenius_newton_schulz,
    inverse_cholesky,
    inverse_root,
    nears_root,
    newton_schulz,
    newton_schulz_form,
    uncoupled_newton_schulz,
)

Form = Literal["coupled", "paper"]


class ZCA(RunningNorm):
    """Decorrelated Batch Normalization (Huang et al. 2018, arXiv:1804.08450).

    y = weight S^-1/2 (x - mean) + bias with the symmetric root, of all whitenings the one that changes x least.
    In evaluation S is the running covariance plus eps I: unlike the running average of S^-1/2, which published code
    keeps, it hardly over-scales (16 channels, batches of 32: by 2 % and not 34 %).

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
        set_up(self, channels, eps, momentum, affine, group_size, impl, device, dtype, filler=1)

    reset_running_stats = reset_covariance
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Whiten, and in training update the running statistics in place."""
        return whiten(self, x, inverse_root, INVERSE_ROOT, exact=True)


class Cholesky(RunningNorm):
    """Whitening by the inverse Cholesky factor (Siarohin et al. 2019, arXiv:1806.00420).

    y = weight L^-1 (x - mean) + bias with S = L L^T: channel i keeps what the channels before it in the group do not
    predict, so the order of the channels matters. All else as in `ZCA`; the paper's coloring matrix is a diagonal here.
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
        set_up(self, channels, eps, momentum, affine, group_size, impl, device, dtype, filler=1)

    reset_running_stats = reset_covariance
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Whiten, and in training update the running statistics in place."""
        return whiten(self, x, inverse_cholesky, INVERSE_CHOLESKY, exact=True)


class IterNorm(RunningNorm):
    """Iterative Normalization (Huang et al. 2019, arXiv:1904.03441).

    y = weight W_T (x - mean) + bias with W_T after `T` Newton-Schulz steps towards S^-1/2. With the paper's T = 5 it
    whitens the large eigenvalues and shrinks the small ones: partial whitening, the output's covariance is not I.
    The iteration is by default the coupled one, which gives the paper's W_T and stays stable for a large T;
    `form="paper"` is the recursion as published, for T up to 7. The running average is of the covariance, not of W_T.
    All else as in `ZCA`. Cost: 3 T products of d x d matrices, 12 T with the gradient.

    Raises:
        ConfigError: for `form="paper"` and T above 7.
        ValueError: in training, with a single value for each channel.
    """

    impl: Impl

    def __init__(
        self,
        channels: int,
        *,
        T: int = 5,
        form: Form = "coupled",
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        group_size: int = 64,
        impl: Impl = "auto",
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        if form == "paper" and T > MAX_STEPS:
            raise ConfigError(
                f"norm 'iternorm': form 'paper' takes T <= {MAX_STEPS}, got {T}: its rounding errors grow (in float32, "
                "for a condition number of 1e4, to a residual of 41 at T=9 and 5e20 at T=12); form 'coupled' has the "
                "same iterates and is stable"
            )
        self.T, self.form = T, form
        set_up(self, channels, eps, momentum, affine, group_size, impl, device, dtype, filler=0)  # not in the trace

    reset_running_stats = reset_covariance
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Whiten, and in training update the running statistics in place."""
        coupled = partial(newton_schulz, T=self.T, impl=self.impl)
        if self.form == "coupled":
            closed = newton_schulz_form(self.T)
            if self.training and self.impl == "fast" and triton_launch.why_not(x) is None:
                from bncli.kernels import triton_whitening  # which registers its operations

                closed = triton_whitening.newton_schulz_form(self.T, closed)
            return whiten(self, x, coupled, closed, exact=nears_root(self.T))
        return whiten(self, x, partial(uncoupled_newton_schulz, T=self.T), exact=False)


class ZCACor(RunningNorm):
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
        set_up(self, channels, eps, momentum, affine, group_size, impl, device, dtype, filler=1)

    reset_running_stats = reset_covariance
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Whiten, and in training update the running statistics in place."""
        return whiten(self, x, correlation_root, exact=True)


class Deconv(RunningNorm):
    """Network Deconvolution, the form over channels (Ye et al. 2020, arXiv:1905.11926).

    y = W_T (x - mean) with W_T after `T` coupled Newton-Schulz steps from I towards S^-1/2, S = cov + eps I scaled by
    its Frobenius norm: closer to the root after as many steps than `IterNorm`, whose trace is larger. Meant to stand
    *before* a linear or convolutional layer, into whose weights W_T may be folded, and hence without affine parameters.

    The paper's layers for kernels larger than 1 whiten the patches that a kernel sees, pixels and channels together;
    this whitens the channels of a pixel, which for a linear layer and a 1 x 1 kernel is the same. Where a layer has
    more than `group_size` channels, the published code whitens interleaved channels by one matrix for all groups,
    copies the first batch into its buffers, averages W_T, and in its last version forgets the mean in S; here each
    group of consecutive channels has its own centred covariance, averaged, as in all our whitenings.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    impl: Impl

    def __init__(
        self,
        channels: int,
        *,
        T: int = 5,
        eps: float = 1e-2,
        momentum: float = 0.1,
        affine: bool = False,
        group_size: int = 64,
        impl: Impl = "auto",
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.T = T
        set_up(self, channels, eps, momentum, affine, group_size, impl, device, dtype, filler=0)  # not in the norm

    reset_running_stats = reset_covariance
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Whiten, and in training update the running statistics in place."""
        root = partial(frobenius_newton_schulz, T=self.T, impl=self.impl)
        return whiten(self, x, root, newton_schulz_form(self.T, "frobenius"), exact=nears_root(self.T))


def correlation_root(S: Tensor) -> Tensor:
    """W = P^-1/2 V^-1/2 of S = V^1/2 P V^1/2, V = diag S: (..., d, d) to the same, W^T W = S^-1."""
    scale = S.diagonal(dim1=-2, dim2=-1).rsqrt().unsqueeze(-2)  # (..., 1, d)
    P = S * scale * scale.mT
    return inverse_root(P) * scale
