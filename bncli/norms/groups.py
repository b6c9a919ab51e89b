"""Channels in groups: their covariance, its running average, and the whitening by a root of it.

S = (x - mean) (x - mean)^T / m + eps I over the m values (examples and locations) of each of the d channels of a group.
Shapes: N examples, C channels, G groups, d channels in a group (`group_size`, or C if that is less), m values. If d
does not divide C, the last group is filled up with channels of zeros, which no root mixes with the others: one batched
operation for all groups costs less than a second one for the last.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.types import Device

from bncli.kernels import Impl, note_fallback, suspend_autocast, whitening
from bncli.kernels.whitening import ClosedForm, Root
from bncli.norms.channels import (
    DType,
    RunningMomentum,
    add_affine,
    apply_affine,
    average,
    bessel,
    check_channels,
    count_batch,
    count_values,
    reset_affine,
    widen,
)


class RunningCovariance(Protocol):
    """A norm that averages the covariances of its groups."""

    channels: int
    eps: float
    momentum: RunningMomentum
    running_mean: Tensor  # (C,)
    running_cov: Tensor  # (G, d, d), without eps, unbiased; 0 for fillers
    num_batches_tracked: Tensor
    identity: Tensor  # (G, d, d): what eps multiplies


class Whitening(RunningCovariance, Protocol):
    """A norm that whitens by that covariance: what `set_up` makes of a module and `whiten` needs."""

    training: bool
    impl: Impl
    weight: Tensor | None
    bias: Tensor | None
    evaluation: "LastRoot"


class LastRoot:
    """The root of a covariance, kept for as long as that tensor is the same object, unchanged in place.

    Neither copied nor pickled with its module. Steps aside where tensors are not plain: vmap, torch.compile.
    """

    def __init__(self) -> None:
        self.cov: Tensor | None = None
        self.version = -1
        self.W: Tensor | None = None

    def __call__(self, cov: Tensor, compute: Root) -> Tensor:
        """`compute(cov)`, from memory if it can."""
        if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(cov) or cov.is_inference():
            return compute(cov)
        if self.W is None or self.cov is not cov or self.version != cov._version:
            with torch.inference_mode(False), torch.no_grad():  # W may be needed in a later forward with gradients
                self.W = compute(cov)
            self.cov, self.version = cov, cov._version
        return self.W

    def __reduce__(self) -> tuple[type["LastRoot"], tuple[()]]:
        return LastRoot, ()


def set_up(
    norm: Any,
    channels: int,
    eps: float,
    momentum: float,
    affine: bool,
    group_size: int,
    impl: Impl,
    device: Device,
    dtype: DType,
    *,
    filler: float,
) -> None:
    """Make a `Whitening` of a new module: what the constructors of all norms that whiten over the batch do."""
    norm.channels, norm.eps, norm.momentum = channels, eps, momentum
    norm.affine, norm.group_size, norm.impl = affine, group_size, impl
    norm.evaluation = LastRoot()
    add_covariance(norm, channels, affine, group_size, device, dtype, filler=filler)
    norm.reset_parameters()


def add_covariance(
    norm: Any,
    channels: int,
    affine: bool,
    group_size: int,
    device: Device,
    dtype: DType,
    *,
    filler: float,
) -> None:
    """Give a norm room for parameters and for the buffers of a `RunningCovariance`, which `reset_whitening` fills.

    `filler` is what multiplies eps for the channels of zeros that fill up the last group.
    """
    norm.filler = filler
    add_affine(norm, channels, affine, device=device, dtype=dtype)
    norm.register_buffer("running_mean", torch.empty(channels, device=device, dtype=dtype))
    norm.register_buffer("running_cov", empty_groups(channels, group_size, device, dtype))
    norm.register_buffer("num_batches_tracked", torch.empty((), device=device, dtype=torch.long))
    norm.register_buffer("identity", empty_groups(channels, group_size, device, dtype), persistent=False)


def reset_whitening(norm: Any) -> None:
    """As `bncli.norms.channels.reset_affine`, for the norms of `add_covariance`: their `reset_parameters`."""
    fill_identity(norm.identity, norm.channels, norm.filler)
    reset_affine(norm)


def reset_covariance(norm: Any) -> None:
    """Put the running mean back to 0, the running covariance to I and the count of batches to 0, in place."""
    norm.running_mean.zero_()
    fill_identity(norm.running_cov, norm.channels, 0.0)
    norm.num_batches_tracked.zero_()


def empty_groups(channels: int, group_size: int, device: Device, dtype: DType) -> Tensor:
    """Room for a matrix of each group, (G, d, d)."""
    d = min(group_size, channels)
    return torch.empty(-(-channels // d), d, d, device=device, dtype=dtype)


def fill_identity(matrices: Tensor, channels: int, filler: float) -> None:
    """Fill (G, d, d) in place by identities, the diagonal being `filler` where the last group is filled up."""
    diagonal = matrices.new_full((matrices.shape[0] * matrices.shape[1],), filler)
    diagonal[:channels] = 1
    matrices.copy_(diagonal.view(matrices.shape[:2]).diag_embed())


def whiten(module: nn.Module, x: Tensor, root: Root, closed: ClosedForm | None = None) -> Tensor:
    """Whiten x (N, C, ...) by `root` of its covariance in training, of the running one in evaluation."""
    norm: Whitening = module  # type: ignore[assignment]  # by `set_up`
    m = count_values(x, norm.channels)
    if norm.training:
        bessel(m)  # refuses a single value
    with suspend_autocast(x):
        if norm.training and norm.impl != "plain":
            values = widen(x)
            if whitening.is_possible(values):
                y, mean, S = whitening.fast(values, norm.weight, norm.bias, norm.identity, norm.eps, root, closed)
                track(norm, mean, S, m)
                return lay_out_like(y.to(x.dtype), x)
            if norm.impl == "fast":
                note_fallback("whitening", whitening.why_impossible(values))
        values = split_groups(x, norm.channels, norm.running_cov.shape[-1])
        if norm.training:
            mean = values.mean(-1, keepdim=True)
            centred = values - mean
            S = covariance(centred, norm.identity, norm.eps)
            track(norm, mean.detach(), S.detach(), m)
            W = root(S)
        else:
            centred = values - split_groups(norm.running_mean.unsqueeze(0), norm.channels, values.shape[1])
            W = norm.evaluation(norm.running_cov, lambda cov: root(add_ridge(cov, norm.identity, norm.eps))).to(
                values.dtype
            )
        y = join_groups(torch.bmm(W, centred), x.shape)
        return lay_out_like(apply_affine(y, norm.weight, norm.bias).to(x.dtype), x)


def split_groups(x: Tensor, channels: int, d: int) -> Tensor:
    """(N, C, ...) to (G, d, m), zeros for channels that are wanting, in float32 or better."""
    rows = widen(check_channels(x, channels).transpose(0, 1).flatten(1))  # (C, m)
    if channels % d:  # not by F.pad, which in torch 2.6 refuses m = 0
        rows = torch.cat([rows, rows.new_zeros(d - channels % d, rows.shape[1])])
    return rows.view(len(rows) // d, d, rows.shape[1])


def join_groups(values: Tensor, shape: torch.Size) -> Tensor:
    """(G, d, m) back to (N, C, ...), the inverse of `split_groups`."""
    rows: Tensor = values.flatten(0, 1)[: shape[1]]
    return rows.view(shape[1], shape[0], *shape[2:]).transpose(0, 1)


def lay_out_like(y: Tensor, x: Tensor) -> Tensor:
    """`y` with its channels innermost (channels_last) if those of `x` are, both (N, C, ...) of one shape."""
    if x.ndim > 3 and x.shape[1] > 1 and x.stride(1) == 1:
        return y.movedim(1, -1).contiguous().movedim(-1, 1)
    return y


def covariance(centred: Tensor, identity: Tensor, eps: float) -> Tensor:
    """S = centred centred^T / m + eps identity: (G, d, m) to (G, d, d)."""
    return torch.baddbmm(identity.to(centred.dtype), centred, centred.mT, beta=eps, alpha=1 / centred.shape[-1])


def add_ridge(cov: Tensor, identity: Tensor, eps: float) -> Tensor:
    """The same S, of a covariance that is known."""
    cov = widen(cov)
    return torch.add(cov, identity.to(cov.dtype), alpha=eps)


def track(norm: RunningCovariance, mean: Tensor, S: Tensor, m: int) -> None:
    """Move the running statistics towards a batch's, its covariance without eps and unbiased."""
    if not count_batch(norm):
        return
    average(norm.running_mean, mean.flatten()[: norm.channels], norm.momentum, norm.num_batches_tracked)
    if isinstance(norm.momentum, float | int):
        new = norm.momentum * bessel(m)
        norm.running_cov.mul_(1 - norm.momentum).add_(S, alpha=new).sub_(norm.identity, alpha=new * norm.eps)
    else:
        cov = torch.sub(S, norm.identity, alpha=norm.eps)
        average(norm.running_cov, cov, norm.momentum, norm.num_batches_tracked, bessel(m))
