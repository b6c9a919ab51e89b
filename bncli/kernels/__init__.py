"""Fast versions of what the norms say plainly; each stands beside its plain reference, with the same arguments.

`impl` chooses: "plain" the reference; "fast" the fast version wherever it is possible, and the reference elsewhere
(in half precision, under a compiler or, for whitening, in lanes that are not traced); "auto" the fast version where it
is also known to be faster: a fixed rule of device, dtype, shape and layout in each file, never a clock at run time.
What is known of speed is what `tests/performance/norm_kernels.py` prints (docs/measurements.md).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

Impl = Literal["plain", "fast", "auto"]

_TRACED = ContextVar("being_traced", default=False)
_FALLBACKS: ContextVar[list[str] | None] = ContextVar("fallbacks", default=None)


def is_wrapped(x: Tensor) -> bool:
    """Whether x belongs to a transform of torch.func (lanes), so that its values cannot be looked at."""
    return not torch.compiler.is_compiling() and bool(torch._C._functorch.is_functorch_wrapped_tensor(x))


def may_look(x: Tensor) -> bool:
    """Whether a branch may depend on x's values: not where it would be burnt into a trace, or breaks a transform."""
    return not torch.compiler.is_compiling() and not is_wrapped(x) and not is_traced() and get_proxy_mode() is None


def is_ordinary(x: Tensor) -> bool:
    """Whether x is a tensor of the processor outside of any compiler or forward-mode differentiation."""
    return x.device.type == "cpu" and is_run_as_written()


def is_run_as_written() -> bool:
    """Whether no compiler and no forward-mode differentiation is at work."""
    return torch.autograd.forward_ad._current_level < 0 and not torch.compiler.is_compiling()


@contextmanager
def being_traced() -> Iterator[None]:
    """While operations are written down, so that only they count, not how they came, and no value may be looked at."""
    token = _TRACED.set(True)
    try:
        yield
    finally:
        _TRACED.reset(token)


def is_traced() -> bool:
    """Whether `being_traced` holds."""
    return _TRACED.get()


def suspend_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast switched off on x's device, if that knows it at all ("meta" does not) and if it is on."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if kind != "meta" and torch.is_autocast_enabled(kind) else nullcontext()


def broadcast(statistic: Tensor, x: Tensor) -> Tensor:
    """A statistic (C,), or (N, C), in the shape that goes with x (N, C, ...): an axis of 1 for each of locations."""
    return statistic.view(*statistic.shape, *[1] * (x.ndim - 2))


@contextmanager
def fallbacks_noted(found: list[str]) -> Iterator[None]:
    """Within it `found` takes down, each once, where `impl: fast` was asked for but the plain version ran, and why."""
    token = _FALLBACKS.set(found)
    try:
        yield
    finally:
        _FALLBACKS.reset(token)


def note_fallback(kernel: str, reason: str) -> None:
    """Say that `impl: fast` was asked for and the plain version runs, to whoever listens; not under a compiler."""
    found = None if torch.compiler.is_compiling() else _FALLBACKS.get()
    text = f"{kernel} takes its plain version, not the fast one that impl: fast asks for: {reason}"
    if found is not None and text not in found:
        found.append(text)


def obstacle(x: Tensor) -> str:
    """Why x is not an ordinary tensor, in words; empty where it is."""
    if x.device.type != "cpu":
        return f"the fast version is for the CPU, not {x.device.type}"
    return "" if is_ordinary(x) else "the fast version has no forward-mode derivative"


def lanes_first(tensors: Sequence[Tensor | None], at: Sequence[int | None], lanes: int) -> list[Tensor | None]:
    """Arguments of a function under vmap, with the axis of lanes in front in all of them."""
    return [
        t if t is None else t.expand(lanes, *t.shape) if axis is None else t.movedim(axis, 0)
        for t, axis in zip(tensors, at, strict=True)
    ]
