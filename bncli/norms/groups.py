"""Channels in groups: their covariance, its running average, and the whitening by a root of it.

S = (x - mean) (x - mean)^T / m + eps I over the m values (examples and locations) of each of the d channels of a group.
Shapes: N examples, C channels, G groups, d channels in a group (`group_size`, or C if that is less), m values. If d
does not divide C, the last group is filled up with channels of zeros, which no root mixes with the others: one batched
operation for all groups costs less than a second one for the last.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from bncli.kernels import Impl, note_fallback, whitening
from bncli.kernels.whitening import ClosedForm
from bncli.norms.channels import channels_checked, values_per_channel


def laid_out_like(y: Tensor, x: Tensor) -> Tensor:
    """`y` with its channels innermost (channels_last) if those of `x` are, both (N, C, ...) of one shape."""
    if x.ndim > 3 and x.shape[1] > 1 and x.stride(1) == 1:
        return y.movedim(1, -1).contiguous().movedim(-1, 1)
    return y


Root = Callable[[Tensor], Tensor]


class Whitening(Protocol):
    """What `whiten` needs of a norm."""

    training: bool
    channels: int
    eps: float
    momentum: float
    affine: bool
    group_size: int
    impl: Impl
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor  # (C,)
    running_cov: Tensor  # (G, d, d), without eps, unbiased; 0 for fillers
    num_batches_tracked: Tensor
    identity: Tensor  # (G, d, d): what eps multiplies
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


def add_state(norm: nn.Module, channels: int, affine: bool, group_size: int, *, filler: float) -> None:
    """Give a norm what `Whitening` lists beyond its options; eps is multiplied by `filler` for channels of zeros."""
    d = min(group_size, channels)
    real = torch.zeros(-(-channels // d) * d)
    real[:channels] = 1
    norm.register_parameter("weight", nn.Parameter(torch.ones(channels)) if affine else None)
    norm.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if affine else None)
    norm.register_buffer("running_mean", torch.zeros(channels))
    norm.register_buffer("running_cov", real.view(-1, d).diag_embed())
    norm.register_buffer("num_batches_tracked", torch.tensor(0))
    norm.register_buffer("identity", real.clamp(min=filler).view(-1, d).diag_embed(), persistent=False)


def whiten(norm: Whitening, x: Tensor, root: Root, closed: ClosedForm | None = None) -> Tensor:
    """Whiten x (N, C, ...) by `root` of its covariance in training, of the running one in evaluation."""
    m = values_per_channel(x, norm.channels)
    if norm.training:
        bessel(m)  # refuses a single value
    with torch.autocast(x.device.type, enabled=False):
        if norm.training and norm.impl != "plain":
            values = single_or_better(x)
            if whitening.is_possible(values):
                y, mean, S = whitening.fast(values, norm.weight, norm.bias, norm.identity, norm.eps, root, closed)
                track(norm, mean, S, m)
                return laid_out_like(y.to(x.dtype), x)
            if norm.impl == "fast":
                note_fallback("whitening", whitening.why_impossible(values))
        values = grouped(x, norm.channels, norm.running_cov.shape[-1])
        if norm.training:
            mean = values.mean(-1, keepdim=True)
            centred = values - mean
            S = covariance(centred, norm.identity, norm.eps)
            track(norm, mean.detach(), S.detach(), m)
            W = root(S)
        else:
            centred = values - grouped(norm.running_mean.unsqueeze(0), norm.channels, values.shape[1])
            W = norm.evaluation(norm.running_cov, lambda cov: root(ridged(cov, norm.identity, norm.eps))).to(
                values.dtype
            )
        y = ungrouped(torch.bmm(W, centred), x.shape)
        return laid_out_like(scaled(y, norm.weight, norm.bias).to(x.dtype), x)


def grouped(x: Tensor, channels: int, d: int) -> Tensor:
    """(N, C, ...) to (G, d, m), zeros for channels that are wanting, in float32 or better."""
    rows = single_or_better(channels_checked(x, channels).transpose(0, 1).flatten(1))  # (C, m)
    if channels % d:  # not by F.pad, which in torch 2.6 refuses m = 0
        rows = torch.cat([rows, rows.new_zeros(d - channels % d, rows.shape[1])])
    return rows.view(len(rows) // d, d, rows.shape[1])


def ungrouped(values: Tensor, shape: torch.Size) -> Tensor:
    """(G, d, m) back to (N, C, ...), the inverse of `grouped`."""
    rows: Tensor = values.flatten(0, 1)[: shape[1]]
    return rows.view(shape[1], shape[0], *shape[2:]).transpose(0, 1)


def covariance(centred: Tensor, identity: Tensor, eps: float) -> Tensor:
    """S = centred centred^T / m + eps identity: (G, d, m) to (G, d, d)."""
    return torch.baddbmm(identity.to(centred.dtype), centred, centred.mT, beta=eps, alpha=1 / centred.shape[-1])


def ridged(cov: Tensor, identity: Tensor, eps: float) -> Tensor:
    """The same S, of a covariance that is known."""
    cov = single_or_better(cov)
    return torch.add(cov, identity.to(cov.dtype), alpha=eps)


def single_or_better(tensor: Tensor) -> Tensor:
    """In float32, if it is in less: the decompositions have no half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def track(norm: Whitening, mean: Tensor, S: Tensor, m: int) -> None:
    """Move the running statistics towards a batch's, its covariance without eps and unbiased."""
    keep, new = 1 - norm.momentum, norm.momentum * bessel(m)
    norm.running_mean.mul_(keep).add_(mean.flatten()[: norm.channels], alpha=norm.momentum)
    norm.running_cov.mul_(keep).add_(S, alpha=new).sub_(norm.identity, alpha=new * norm.eps)
    norm.num_batches_tracked.add_(1)


def bessel(m: int) -> float:
    """m / (m - 1): from the biased variance of m values to the unbiased.

    Raises:
        ValueError: for a single value.
    """
    if m < 2:
        raise ValueError(f"expected more than 1 value per channel when training, got {m}")
    return m / (m - 1)


def scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Weight y + bias for y (N, C, ...), or y if there are none."""
    if weight is None or bias is None:
        return y
    each = (-1, *[1] * (y.ndim - 2))
    return torch.addcmul(bias.view(each), y, weight.view(each))


def describe(norm: Whitening) -> str:
    """For `extra_repr`."""
    return (
        f"{norm.channels}, eps={norm.eps}, momentum={norm.momentum}, affine={norm.affine}, "
        f"group_size={norm.group_size}, impl={norm.impl}"
    )
