"""One call of a norm: what it is given and what it gives, by name; and what can be said of it without any truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bncli.timing.build import Norm, check_output, check_plain
from bncli.timing.cases import Case

OUTPUT, GRADIENT = "output", "gradient of "
_CLOSE = 0.01
SECOND = -0.5  # of the gradient of y: a backward pass is linear, and this rounds nothing


@dataclass(frozen=True)
class CallResults:
    """What one call was given, and its results by name: "output", "gradient of x", "gradient of weight"."""

    x: Tensor
    g: Tensor
    results: Mapping[str, Tensor]
    statistics: Mapping[str, Tensor]  # after it


def list_asked(norm: Norm, names: Mapping[str, str]) -> dict[str, Tensor]:
    """What gradients are asked of beside x's, by the names of the truth where it has them."""
    named = norm.named_parameters() if isinstance(norm, nn.Module) else ()
    return {names.get(name, f"its own {name}"): value for name, value in named if value.requires_grad}


def call_norm(
    case: Case, norm: Norm, parameters: Mapping[str, Tensor], x: Tensor, g: Tensor, *, twice: bool = False
) -> dict[str, Tensor]:
    """The results of one call by name: "output", in training also "gradient of x", "gradient of weight", ...

    Where the backward pass runs `twice`, as it does over and over when it is timed, the second is given `SECOND` g.
    """
    trains = case.pass_ != "eval-forward"
    with torch.set_grad_enabled(trains):
        y = norm(x.requires_grad_(trains))
        check_output(case, y)
        found = {OUTPUT: y.detach()}
        asked = {"x": x, **parameters} if trains else {}
        for prefix, factor in (("", 1.0), ("second ", SECOND))[: trains + twice]:
            gradients = torch.autograd.grad(
                y, list(asked.values()), factor * g if prefix else g, retain_graph=twice, allow_unused=True
            )
            named = zip(asked, gradients, strict=True)
            given = {prefix + GRADIENT + name: d for name, d in named if d is not None}
            for name, d in given.items():
                check_plain(case, name, d)
            found |= given
    return found


def find_idle(calls: Sequence[CallResults]) -> str:
    """How a norm does nothing, if it does: known without any truth."""
    found, first = [call.results[OUTPUT] for call in calls], calls[0].results[OUTPUT]
    if not any(y.any() for y in found):
        return "it gives zeros, whatever its input"
    if all(is_same(y, call.x) for y, call in zip(found, calls, strict=True)):
        return "it gives its input back"
    if all(is_same(y, first) for y in found):
        return "it gives the result of its first call again, whatever its input"
    return ""


def find_broken(calls: Sequence[CallResults]) -> list[str]:
    """The results that are not finite."""
    names = dict.fromkeys(name for call in calls for name, value in call.results.items() if not value.isfinite().all())
    return [f"its {name} is not finite" for name in names]


def is_off(a: Tensor, b: Tensor, g: Tensor) -> bool:
    """Whether a gradient differs from `a` by more than another order of sums explains; `g` is what it is made of."""
    noise = 1e-6 * g.double().abs().sum()  # of a gradient that is zero but for rounding
    return bool((a.double() - b.double()).norm() > _CLOSE * a.double().norm() + noise)


def is_same(a: Tensor, b: Tensor) -> bool:
    """Whether all values are the same; nan is nan."""
    return bool(((a == b) | (a.isnan() & b.isnan())).all())
