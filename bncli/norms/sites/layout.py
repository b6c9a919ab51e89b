"""A norm in another's place: its input turned to (N, C, ...), and what the other did besides the norm still done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class NormLayout:
    """How a place gives its input to a norm of (N, C, ...)."""

    axis: int = 1  # that holds the channels: 1, or -1 for the last one
    each_location: bool = False  # what stood here first took its statistics from each location by itself
    flat: bool = False  # where channels are last, each location becomes an example: (N, ..., C) to (N P, C)
    apart: bool = False  # where channels are last, those of each location are channels of their own: to (N, P C)
    examples: int = 0  # axis of the examples, where channels are last: 1 for (T, N, C)
    copies: bool = False  # the output must not be the input itself: something changes it in place

    def __call__(self, norm: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`norm` of x, which is turned and turned back."""
        x = x.clone() if self.copies else x
        if self.axis == 1 or x.ndim < 3:
            return norm(x)
        if self.flat:
            return norm(x.reshape(-1, x.shape[-1])).reshape(x.shape)
        if self.apart:
            return norm(x.flatten(1)).view_as(x)
        first = x.movedim(self.examples, 0)
        return norm(first.movedim(-1, 1)).movedim(1, -1).movedim(0, self.examples)


class AdaptedNorm(nn.Module):
    """What is mixed into the class of a norm: it keeps that class's names, parameters and buffers.

    Children called `drop` and `act`, which layers of timm have, are applied to the norm's output, in this order.
    """

    layout: NormLayout

    def forward(self, x: Tensor) -> Tensor:
        """The norm of x in the layout of its place, then what follows in the same layer."""
        y = self.layout(super().forward, x)
        for name in ("drop", "act"):
            if name in self._modules:
                y = self._modules[name](y)  # type: ignore[misc]
        return y

    def extra_repr(self) -> str:
        """As the norm's own, and where the channels are if they are not second."""
        where = "channels last" if self.layout.axis == -1 else ""
        return ", ".join(part for part in (super().extra_repr(), where) if part)

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (type(self).__mro__[2],), self.__dict__


def adapt(norm: nn.Module, layout: NormLayout, followers: dict[str, nn.Module]) -> nn.Module:
    """The same module, made to fit its place; as it is where there is nothing to adapt."""
    if layout == NormLayout() and not followers:
        return norm
    held: Any = norm
    held.layout = layout
    norm.__class__ = _adapted(type(norm))
    for name, child in followers.items():
        norm.add_module(name, child)
    return norm


_ADAPTED: dict[type[nn.Module], type[nn.Module]] = {}


def _adapted(kind: type[nn.Module]) -> type[nn.Module]:
    if kind not in _ADAPTED:
        _ADAPTED[kind] = type(kind.__name__, (AdaptedNorm, kind), {"__module__": __name__, "__doc__": kind.__doc__})
    return _ADAPTED[kind]


def _blank(kind: type[nn.Module]) -> nn.Module:
    """For copies and pickles, which name no class that is made while running."""
    adapted = _adapted(kind)
    return adapted.__new__(adapted)
