"""No normalisation and Batch Normalization, which every other norm is held against; the latter also frozen."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.types import Device

from bncli.kernels import Impl
from bncli.kernels.batch_norm import batch_norm
from bncli.norms.channels import (
    Affine,
    DType,
    RunningMomentum,
    RunningNorm,
    add_affine,
    add_running,
    average,
    bessel,
    check_channels,
    check_floating,
    count_batch,
    count_values,
    describe,
    reset_affine,
    reset_running,
)


class NoNorm(nn.Module):
    """y = x. Takes `channels`, `device` and `dtype` as every norm does; it has no parameters and no buffers."""

    def __init__(self, channels: int, *, device: Device = None, dtype: DType = None) -> None:
        super().__init__()
        self.channels = channels

    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return check_floating(x)


class BatchNorm(RunningNorm):
    """Batch Normalization (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2).

    y = weight (x - mean) / sqrt(var + eps) + bias, where mean and the biased var of each channel are taken over
    examples and locations in training, and are `running_mean` and the unbiased `running_var` in evaluation.

    One class for all four shapes. Equal to torch's `BatchNorm1d/2d/3d`, whose `momentum=None` is `"cumulative"` too.
    The paper averages the evaluation statistics over many batches with the weights frozen; this, like torch, averages
    along training.

    Args:
        momentum: weight of the newest batch in the running statistics, or "cumulative": all batches weigh the same.
        affine: which of weight and bias are learned: both (True), none (False), the weight ("scale") or the bias
            ("shift"); the other is left out.
        track_running_stats: if not, there are no running statistics, and evaluation does what training does.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W). Without examples training moves nothing.

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    optional_statistics = True
    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        momentum: RunningMomentum = 0.1,
        affine: Affine = True,
        track_running_stats: bool = True,
        impl: Impl = "auto",
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum, self.affine, self.impl = channels, eps, momentum, affine, impl
        self.num_features, self.track_running_stats = channels, track_running_stats  # as SyncBatchNorm asks for them
        add_affine(self, channels, affine, device=device, dtype=dtype)
        tracked = ("running_mean", "running_var")
        add_running(self, channels, *tracked, device=device, dtype=dtype, room=track_running_stats)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        return normalise_batch(self, x, self.impl)


def normalise_batch(norm: RunningNorm, x: Tensor, impl: Impl) -> Tensor:
    """What `BatchNorm` does of x (N, C, ...) in training and evaluation."""
    m = count_values(x, norm.channels)
    mean, var = norm.running_mean, norm.running_var
    if norm.training and not norm.track_running_stats:
        mean = var = None  # set so afterwards: what there is stays, as in torch, and evaluation uses it
    if m and (norm.training or mean is None or var is None):
        bessel(m)  # refuses a single value
        if mean is None or var is None or not norm.training:
            return batch_norm(x, None, None, norm.weight, norm.bias, 0.0, norm.eps, impl)
        counts = count_batch(norm)
        if counts and norm.momentum is not None and not isinstance(norm.momentum, str):
            return batch_norm(x, mean, var, norm.weight, norm.bias, norm.momentum, norm.eps, impl)
        new_mean, new_var = mean.clone(), var.clone()  # which the kernel makes the batch's own
        y = batch_norm(x, new_mean, new_var, norm.weight, norm.bias, 1.0, norm.eps, impl)
        if counts:
            average(mean, new_mean, norm.momentum, norm.num_batches_tracked)
            average(var, new_var, norm.momentum, norm.num_batches_tracked)
        return y
    if norm.training and mean is not None:
        count_batch(norm)  # an empty one, as torch does
    if mean is None or var is None:
        mean, var = x.new_zeros(norm.channels), x.new_ones(norm.channels)
    return F.batch_norm(x, mean, var, norm.weight, norm.bias, eps=norm.eps)


class FrozenBatchNorm(_NormBase):
    """Frozen Batch Normalization: the evaluation of `BatchNorm`, in training too.

    y = weight (x - running_mean) / sqrt(running_var + eps) + bias: an affine map of each channel, whose running
    statistics nothing updates. It starts from mean 0 and variance 1; `load_state_dict` takes a `BatchNorm`'s state,
    which is how it is meant: the last epochs of a training (Wu & Johnson 2021, arXiv:2105.07576), or fine-tuning with
    batches too small for statistics. Unlike torchvision's `FrozenBatchNorm2d` it learns weight and bias.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    """

    weight: Tensor | None  # type: ignore[assignment]
    bias: Tensor | None  # type: ignore[assignment]

    def __init__(
        self, channels: int, *, eps: float = 1e-5, affine: bool = True, device: Device = None, dtype: DType = None
    ) -> None:
        nn.Module.__init__(self)
        self.channels, self.eps, self.affine, self.track_running_stats = channels, eps, affine, True
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the running statistics."""
        check_channels(x, self.channels)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
