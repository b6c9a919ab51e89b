"""How alike and how unevenly scaled the channels of a layer are.

Shapes: N examples, C channels; a sample is (*lanes, N, C); results are (*lanes,). S is the biased covariance of the
channels, l its eigenvalues from the largest down; both are computed in float64. Eigenvalues within rounding of 0 count
as 0. A layer that is constant, or not finite, has no spectrum: nan.
"""

import math

import torch
from torch import Tensor

from bncli.shift.samples import centred as without_mean
from bncli.shift.samples import covariance, moments, ratio, same_shape, wide


def condition_number(x: Tensor) -> Tensor:
    """l_1 / l_C, 1 to infinity: infinite where a channel is constant, or N <= C."""
    return partial_condition_number(x, share=1.0)


def partial_condition_number(x: Tensor, *, share: float = 0.9) -> Tensor:
    """l_1 / l_k for k = share of C, rounded up: how uneven those directions are, the least ones left out."""
    spectrum = eigenvalues(x)
    least = spectrum[..., math.ceil(share * spectrum.shape[-1]) - 1]
    return spectrum[..., 0] / least


def whiteness(x: Tensor) -> Tensor:
    """||S - I||_F / sqrt(C), >= 0: 0 where all channels have variance 1 and none is correlated with another."""
    S = covariance(x)
    identity = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    distance: Tensor = (S - identity).square().mean((-2, -1)).sqrt()
    return distance * math.sqrt(S.shape[-1])


def correlation(x: Tensor) -> Tensor:
    """Mean squared correlation of two different channels, 0 to 1; a constant channel has correlation 0 with all.

    0 where there is one channel alone. Independent channels have 1 / (N - 1) on average.
    """
    deviations, _ = without_mean(x.double())
    directions = ratio(deviations, deviations.square().sum(-2, keepdim=True).sqrt())
    R = directions.transpose(-1, -2) @ directions
    R = R - torch.diag_embed(R.diagonal(dim1=-2, dim2=-1))
    channels = R.shape[-1]
    return R.square().sum((-2, -1)) / max(channels * (channels - 1), 1)


def stable_rank(x: Tensor) -> Tensor:
    """||A||_F^2 / ||A||_2^2 of the centred sample A, which is the sum of l over l_1: 1 to C."""
    spectrum = eigenvalues(x)
    return spectrum.sum(-1) / spectrum[..., 0]


def effective_rank(x: Tensor) -> Tensor:
    """exp(-sum p log p) with p = l / sum l, 1 to C: as many even directions have the same entropy.

    Roy & Vetterli (2007) take p from singular values of the sample, which are roots of these.
    """
    spectrum = eigenvalues(x)
    p = spectrum / spectrum.sum(-1, keepdim=True)
    directions: Tensor = torch.special.entr(p).sum(-1).exp()
    return directions


def participation(x: Tensor) -> Tensor:
    """(sum l)^2 / sum l^2, 1 to C: as many even directions have the same sum of squares. Needs no eigenvalues."""
    S = covariance(x)
    return S.diagonal(dim1=-2, dim2=-1).sum(-1).square() / S.square().sum((-2, -1))


def mean_cosine(x: Tensor) -> Tensor:
    """Mean cosine between two different examples, -1 to 1 (means are left in); 1 where all point the same way.

    ||sum of directions||^2 is the sum of all cosines; an example of zeros has cosine 0 with all.
    """
    values = x.double()
    directions = ratio(values, values.square().sum(-1, keepdim=True).sqrt())
    examples = x.shape[-2]
    own = directions.square().sum((-2, -1))
    return (directions.sum(-2).square().sum(-1) - own) / (examples * (examples - 1))


def frechet(before: Tensor, after: Tensor) -> Tensor:
    """2-Wasserstein distance of Gaussians fitted to the whole layer, in units of the activation: >= 0.

    W2^2 = |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2) (Dowson & Landau 1982), correlations included. Computed as
    the distance of roots of S and S' after the best rotation of one, so that nothing cancels where they are near.
    """
    same_shape(before, after)
    moved = (moments(after.double())[0] - moments(before.double())[0]).square().sum(-1)
    A, B = _root(before), _root(after)
    U, _, Vh = torch.linalg.svd(B @ A)
    apart = (A - B @ (U @ Vh)).square().sum((-2, -1))
    return _where_finite(before, after, (moved + apart).sqrt())


def eigenvalues(x: Tensor) -> Tensor:
    """Of the covariance, from the largest down, 0 where within rounding of it: (*lanes, C) in float64."""
    S = _finite(covariance(x))
    found = torch.linalg.eigvalsh(S).flip(-1)
    return _where_finite(x, x, _rounded(found))


def _root(x: Tensor) -> Tensor:
    """The symmetric root of the covariance."""
    found, Q = torch.linalg.eigh(_finite(covariance(x)))
    root: Tensor = Q * _rounded(found).sqrt().unsqueeze(-2) @ Q.transpose(-1, -2)
    return root


def _rounded(found: Tensor) -> Tensor:
    """0 for eigenvalues that rounding alone may have made."""
    least = found.shape[-1] * torch.finfo(found.dtype).eps * found.amax(-1, keepdim=True)
    return torch.where(found > least, found, 0)


def _finite(S: Tensor) -> Tensor:
    """0 for what is not finite, on which solvers stop for all lanes."""
    return torch.nan_to_num(S, nan=0.0, posinf=0.0, neginf=0.0)


def _where_finite(before: Tensor, after: Tensor, values: Tensor) -> Tensor:
    """`values`, nan in lanes whose samples are not finite."""
    whole = wide(before).isfinite().all(-1).all(-1) & wide(after).isfinite().all(-1).all(-1)
    lost = torch.full_like(values, torch.nan)
    return torch.where(whole.reshape(whole.shape + (1,) * (values.ndim - whole.ndim)), values, lost)
