"""Channels in groups: their covariance, its running average, and the whitening by a root of it.

S = (x - mean) (x - mean)^T / m + eps I over the m values (examples and locations) of each of the d channels of a group.
Shapes: N examples, C channels, G groups, d channels in a group (`group_size`, or C if that is less), m values. If d
does not divide C, the last group is filled up with channels of zeros, which no root mixes with the others: one batched
operation for all groups costs less than a second one for the last.

Roots that are exact see small eigenvalues beside large ones, so for them S, its root and the gradients of both are in
double precision whatever x is in, and all else too in training where values are few (`FEW`). Elsewhere the products
with the root stay in x's precision: with S of condition number k they are off by up to sqrt(k) times its resolution.
"""

from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.types import Device

from bncli.kernels import Impl, may_look, note_fallback, suspend_autocast, triton_launch, whitening
from bncli.kernels.whitening import Root, layout_of
from bncli.kernels.whitening_rows import ClosedForm, are_possible_lanes
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
    widen,
)

FEW = 8  # values for each channel of a group: up to there a root costs more than the products with it


class RunningCovariance(Protocol):
    """A norm that averages the covariances of its groups."""

    channels: int
    eps: float
    momentum: RunningMomentum
    running_mean: Tensor  # (C,)
    running_cov: Tensor  # (G, d, d), without eps, unbiased; 0 for fillers
    num_batches_tracked: Tensor
    filler: float  # what multiplies eps for the channels that fill up the last group


class Whitening(RunningCovariance, Protocol):
    """A norm that whitens by that covariance: what `set_up` makes of a module and `whiten` needs."""

    training: bool
    impl: Impl
    weight: Tensor | None
    bias: Tensor | None
    evaluation: "LastRoot"


class LastRoot:
    """The root of a covariance on the processor, kept for as long as all its values and the options stay the same.

    Values are compared, as what else tells a change (`_version`) is left as it was by `.data`, numpy and collectives.
    Neither copied nor pickled with its module. Computes anew wherever it may not look at values or would wait for them.
    """

    def __init__(self) -> None:
        self.last: tuple[Tensor, object, Tensor] | None = None

    def __call__(self, cov: Tensor, compute: Root, *options: object) -> Tensor:
        """`compute(cov)`, which depends on `options` too, from memory if it can."""
        if cov.device.type != "cpu" or cov.requires_grad or not may_look(cov):
            return compute(cov)
        options = tuple((each.func, each.keywords) if isinstance(each, partial) else each for each in options)
        if self.last is not None:
            same, of, W = self.last
            if of == options and same.dtype == cov.dtype and torch.equal(same, cov):
                return W
        with torch.inference_mode(False), torch.no_grad():  # W may be needed in a later forward with gradients
            W = compute(cov)
        self.last = cov.clone(), options, W
        return W

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


def reset_covariance(norm: Any) -> None:
    """Put the running mean back to 0, the running covariance to I and the count of batches to 0, in place."""
    norm.running_mean.zero_()
    norm.running_cov.copy_(build_identity(norm.running_cov, norm.channels, 0.0))
    norm.num_batches_tracked.zero_()


def empty_groups(channels: int, group_size: int, device: Device, dtype: DType) -> Tensor:
    """Room for a matrix of each group, (G, d, d)."""
    d = min(group_size, channels)
    return torch.empty(-(-channels // d), d, d, device=device, dtype=dtype)


def build_identity(like: Tensor, channels: int, filler: float, dtype: DType = None) -> Tensor:
    """Identities (G, d, d) such as those of `like`, the diagonal being `filler` where the last group is filled up.

    Built when it is needed: as a buffer that no state has, it would be garbage after `to_empty` and `load_state_dict`.
    """
    G, d = like.shape[-3], like.shape[-1]
    options: Any = {"dtype": dtype or like.dtype, "device": like.device}
    if filler == 1 or channels == G * d:
        return torch.eye(d, **options).expand(G, d, d)
    diagonal = torch.cat([torch.ones(channels, **options), torch.full((G * d - channels,), filler, **options)])
    return diagonal.view(G, d).diag_embed()


def root_dtype(x: Tensor) -> torch.dtype:
    """The type of covariances that an exact root is taken of: double precision but on MPS, which has none."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def widen_for_root(x: Tensor, m: int, d: int) -> Tensor:
    """The values of groups of d channels, m of each channel, that an exact root is taken of and multiplied with."""
    return x.to(root_dtype(x)) if are_few(m, d) else widen(x)


def are_few(m: int, d: int) -> bool:
    """Whether m values of each of d channels are so few that products with a root are in its type."""
    return m <= FEW * d


def whiten(module: nn.Module, x: Tensor, root: Root, closed: ClosedForm | None = None, *, exact: bool) -> Tensor:
    """Whiten x (N, C, ...) by `root` of its covariance in training, of the running one in evaluation."""
    norm: Whitening = module  # type: ignore[assignment]  # by `set_up`
    m, d = count_values(x, norm.channels), norm.running_cov.shape[-1]
    if not norm.training:
        with suspend_autocast(x):
            return _evaluate(norm, x, root, exact)
    bessel(m)  # refuses a single value
    with suspend_autocast(x):
        exporting = getattr(torch.compiler, "is_exporting", bool)()  # a program for any number of examples
        values = widen(x)
        wide = root_dtype(x) if exact and are_few(m, d) and not exporting else values.dtype
        dtype = root_dtype(x) if exact else values.dtype
        identity = build_identity(norm.running_cov, norm.channels, norm.filler, dtype)
        reason = _find_obstacle(norm, values, identity, closed, few=exact and m <= FEW * d)
        if reason is None:
            from bncli.kernels import triton_whitening  # which registers its operations

            assert closed is not None
            y, mean, cov = triton_whitening.fast(values, norm.weight, norm.bias, identity, norm.eps, root, closed)
            track(norm, mean, cov, m)
            return lay_out_like(y.to(x.dtype), x)
        if norm.impl != "plain":
            if whitening.is_possible(values) or are_possible_lanes(values, closed):
                affine = norm.weight, norm.bias
                y, mean, cov = whitening.fast(values, *affine, identity, norm.eps, root, closed, wide)
                track(norm, mean, cov, m)
                return lay_out_like(y.to(x.dtype), x)
            if norm.impl == "fast":
                note_fallback("whitening", reason or whitening.why_impossible(values))
        values = values.to(wide)
        groups = split_groups(values, norm.channels, d)
        mean = groups.mean(-1, keepdim=True)
        centred = groups - mean
        cov = covariance(centred, dtype)
        track(norm, mean.detach(), cov.detach(), m)
        y = join_groups(torch.bmm(root(cov + norm.eps * identity).to(values.dtype), centred), x.shape)
        return lay_out_like(apply_affine(y, norm.weight, norm.bias).to(x.dtype), x)


def _find_obstacle(
    norm: Whitening, values: Tensor, identity: Tensor, closed: ClosedForm | None, *, few: bool
) -> str | None:
    """What keeps whitening from Triton's kernels, which `impl: fast` asks for; None if nothing, "" elsewhere."""
    if norm.impl != "fast" or not triton_launch.runs_on(values):
        return ""
    if few:
        return f"with up to {FEW} values for each channel of a group it is computed in double precision"
    from bncli.kernels import triton_whitening

    return triton_whitening.why_not(values, identity, closed)


def _evaluate(norm: Whitening, x: Tensor, root: Root, exact: bool) -> Tensor:
    values, d = widen(x), norm.running_cov.shape[-1]

    def compute(running: Tensor) -> Tensor:
        cov = read_running(running, norm.eps, norm.momentum) if exact else running.to(values.dtype)
        return root(cov + norm.eps * build_identity(cov, norm.channels, norm.filler)).to(values.dtype)

    def split(statistic: Tensor) -> Tensor:
        return split_groups(statistic.to(values.dtype).unsqueeze(0), norm.channels, d)

    W = norm.evaluation(norm.running_cov, compute, root, norm.eps, norm.momentum, values.dtype)
    centred = split_groups(values, norm.channels, d) - split(norm.running_mean)
    A = W if norm.weight is None else W * split(norm.weight)
    y = torch.bmm(A, centred) if norm.bias is None else torch.baddbmm(split(norm.bias), A, centred)
    return lay_out_like(join_groups(y, x.shape).to(x.dtype), x)


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
    """`y` with its channels innermost (channels_last) if those of `x` are, else contiguous; both (N, C, ...)."""
    return y.contiguous(memory_format=layout_of(x))


class _Covariance(Function):
    """The mean of the products of values (..., d, m), in a type that may be wider than theirs; its gradient in theirs.

    Not by a widened copy under autograd, which would be kept, and multiplied twice.
    """

    @staticmethod
    def forward(centred: Tensor, dtype: torch.dtype) -> Tensor:
        wide = centred.to(dtype)
        return wide @ wide.mT / wide.shape[-1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, torch.dtype], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (centred,) = ctx.saved_tensors
        with suspend_autocast(centred):
            return ((g + g.mT) / centred.shape[-1]).to(centred.dtype) @ centred, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], centred: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
        return _Covariance.apply(centred.movedim(in_dims[0], 0), dtype), 0


def covariance(centred: Tensor, dtype: torch.dtype) -> Tensor:
    """Centred centred^T / m in `dtype`: (..., d, m) to (..., d, d)."""
    if dtype != centred.dtype:
        cov: Tensor = _Covariance.apply(centred, dtype)
        return cov
    return centred @ centred.mT / centred.shape[-1]


def read_running(cov: Tensor, eps: float, momentum: RunningMomentum) -> Tensor:
    """A running covariance (..., d, d) for an exact root of it + eps I: in double precision, each variance raised.

    By its resolution, without which what rounding has left of it need not be positive (Higham, Accuracy and Stability,
    section 10.1). By as much as the rounding of all steps may add up to, 1 / momentum times that of one, where a
    variance lower by so much would leave it indefinite: there its least eigenvalues are nothing but that rounding, in
    double precision too, into which a norm may have been converted after training.

    One that is kept in half precision, or on a device without double precision, is taken as it is, in float32.
    """
    dtype = root_dtype(cov)
    if dtype == cov.dtype == torch.float32 or cov.dtype in (torch.float16, torch.bfloat16):
        return widen(cov)
    wide, resolution = cov.to(dtype), torch.finfo(cov.dtype).eps
    variances = wide.diagonal(dim1=-2, dim2=-1)
    moved = 0.01 if momentum is None or isinstance(momentum, str) or momentum <= 0 else momentum
    rounded = variances * (max(resolution, torch.finfo(torch.float32).eps) / moved)
    lost = torch.linalg.cholesky_ex(wide + torch.diag_embed(eps - rounded)).info.unsqueeze(-1) != 0
    single = variances * (2 * cov.shape[-1] ** 0.5 * resolution)
    return wide + torch.diag_embed(torch.where(lost, torch.maximum(rounded, single), single))


def track(norm: RunningCovariance, mean: Tensor, cov: Tensor, m: int) -> None:
    """Move the running statistics towards a batch's, its covariance unbiased."""
    if count_batch(norm):
        average(norm.running_mean, mean.flatten()[: norm.channels], norm.momentum, norm.num_batches_tracked)
        average(norm.running_cov, cov, norm.momentum, norm.num_batches_tracked, bessel(m))
