"""What the operations by Triton have in common: lanes as channels, and gradients that are differentiated again.

Shapes: S lanes, N examples, C channels.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def lanes_as_channels(x: Tensor) -> Tensor:
    """(S, N, C, ...) to (N, S C, ...): statistics of a channel, or of a group, depend on no other."""
    return x.movedim(0, 1).flatten(1, 2)


def flatten_lanes(parameter: Tensor | None) -> Tensor | None:
    """(S, C) to (S C,), where there is one."""
    return None if parameter is None else parameter.flatten(0, 1)


def empty_like(x: Tensor) -> Tensor:
    """An empty tensor with the shape and strides of what is written for x: channels last, or contiguous."""
    return torch.empty_like(x) if x.movedim(1, -1).is_contiguous() else torch.empty_like(x.contiguous())


def pull_back(plain: Callable[..., Tensor], tensors: Sequence[Tensor | None], gy: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of `tensors`, those of None None, by the reference: with their graph, in any transform."""
    there = [t is not None for t in tensors]

    def of_those(*given: Tensor) -> Tensor:
        found = iter(given)
        return plain(*[next(found) if each else None for each in there])

    _, pull, *_ = torch.func.vjp(of_those, *[t for t in tensors if t is not None])
    gradients = iter(pull(gy))
    return tuple(next(gradients) if each else None for each in there)
