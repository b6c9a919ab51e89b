"""How far a result may be off: what rounding explains of each value, and of what all values have in common."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bncli.timing.build import DTYPES

# A value may be off by four times what it moves by when its inputs and itself are rounded once, or what the truth
# loses in the format of the case, and by what sums lose (torch's group norm over channels_last: 1e-5 of a value).
_ROUNDINGS, _DEVIATIONS = 4.0, 3.0
_SUMS = {"f64": 2e-12, "f32": 2e-5, "bf16": 2e-5, "f16": 2e-5}


@dataclass(frozen=True)
class ResultError:
    """Of one result of one call what is furthest off the truth, and what rounding explains of it."""

    value: float  # in root mean squares of the truth's; infinite where it is not finite
    tolerance: float
    how: str = ""  # "on average", "in scale"; else it is a value's

    @property
    def share(self) -> float:
        """Above 1 is wrong."""
        return self.value / self.tolerance


def measure_error(dtype: str, found: Tensor, exact: Tensor, others: Sequence[Tensor]) -> ResultError:
    """The value that is furthest off where the truth says anything, or how all of them are off on average.

    Roundings of different channels or examples average out; a shift, or a wrong scale, does not.

    Args:
        dtype: the format of the case.
        found: a result of any shape; of two or more axes the second is the channel.
        exact: what is right, in float64.
        others: the same of inputs that are rounded, or as the truth computes it in the format of the case.
    """
    there = exact.isfinite()
    if not there.any():
        return ResultError(0.0, math.inf)
    b, *losses = (each.double().where(there, 0.0) for each in (exact, *others))
    off = (found.double() - b).where(there, 0.0)
    losses = [(each - b).nan_to_num(0.0, 0.0, 0.0) for each in losses]
    size, unit, sums = b.abs(), torch.finfo(DTYPES[dtype]).eps / 2, _SUMS[dtype]
    scale = float((b.square().sum() / there.sum()).sqrt()) or 1.0
    if not off.isfinite().all():
        return ResultError(math.inf, _ROUNDINGS * unit)
    lost = torch.stack([each.abs() for each in losses]).amax(0) if losses else torch.zeros_like(b)
    axes = [axis for axis in range(b.dim()) if axis != 1]  # a value that moves by little is among its channel's
    typical = lost.square().mean(axes if b.dim() > 1 else None, keepdim=True).sqrt()
    bound = _ROUNDINGS * (torch.maximum(lost, typical) + unit * size) + sums * (scale + size)
    distance = off.abs()
    place = int((distance / bound if (distance > bound).any() else distance).argmax())
    errors = [ResultError(float(distance.flatten()[place]) / scale, float(bound.flatten()[place]) / scale)]
    if b.dim() > 1:
        averaged = _DEVIATIONS / math.sqrt(3 * min(b.shape[:2]))  # a rounding's deviation is unit / sqrt(3)
        rounding = float((lost + unit * size).square().mean().sqrt())
        directions = {"on average": (torch.ones_like(b), rounding), "in scale": (b / scale, unit * scale)}
        for how, (direction, once) in directions.items():
            value, *known = (abs(float((each * direction).mean())) for each in (off, *losses))
            allowed = averaged * once + _ROUNDINGS * max(known, default=0.0)
            errors.append(ResultError(value / scale, allowed / scale + sums, how))
    return next((error for error in errors if error.share > 1), errors[0])


def measure_nearness(found: Tensor, exact: Tensor) -> float:
    """Correlation of two outputs; or of the half of their channels that agree best, how well they do (Lin 1989)."""
    a, b = (each.double().movedim(1, 0).flatten(1) for each in (found, exact))
    means, variances = [each.mean(1) for each in (a, b)], [each.var(1, correction=0) for each in (a, b)]
    products = ((a - means[0][:, None]) * (b - means[1][:, None])).mean(1)
    agreement = 2 * products / (sum(variances) + (means[0] - means[1]).square())
    best = agreement.nan_to_num(-1.0).sort(descending=True).values[(a.shape[0] - 1) // 2]
    return max(_correlate(a, b), float(best))


def _correlate(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation."""
    a, b = (each.flatten() - each.mean() for each in (a, b))
    return float((a @ b) / (a.norm() * b.norm()))
