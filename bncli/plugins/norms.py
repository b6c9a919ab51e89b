"""Anybody's norm, by its name, by FILE.py:NAME or as a class, held against the contract of our own."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bncli.errors import ConfigError, expect
from bncli.norms import NORMS, norm
from bncli.norms.contract import ContractReport, check_candidate
from bncli.norms.contract.candidates import Candidate, first_line
from bncli.norms.contract.processes import run_apart
from bncli.plugins import using
from bncli.plugins.code import resolve_code

Make = Callable[..., nn.Module]


def check_norm(
    target: str | Callable[..., Any], *, channels: int = 8, plugins: Sequence[str | Path] = (),
    time_limit: float = 20.0, what: str = "norm", **options: Any,
) -> ContractReport:  # fmt: skip
    """Hold any norm against the contract of bncli's own: shapes, gradients, modes, state, layouts, number formats.

    Each check runs in a process of its own (on Windows in this one), so that a norm may raise, print, hang or end its
    process. On the CPU, with one thread.

    Args:
        target: a class or function of the number of channels that gives a torch module; `FILE.py:NAME` or
            `MODULE:NAME` of one; or the name of a norm, bncli's or a plug-in's.
        channels: that it is tried with, at least 8: no axis of the inputs is that long.
        plugins: that bring the name.
        time_limit: seconds for a check; compilers have four times as many.
        what: begins the messages.
        options: of the norm.

    Raises:
        ConfigError: for what is no norm, in one line.
    """
    expect("channels", channels, isinstance(channels, int) and channels >= 8, "a whole number >= 8")
    limited = isinstance(time_limit, int | float) and time_limit > 0
    expect("time_limit", time_limit, limited, "a number of seconds > 0")
    shown = target if isinstance(target, str) else getattr(target, "__qualname__", repr(target))
    place = f"{what} {shown}"

    def open_norm() -> tuple[Make, bool]:
        make, lanes = _resolve(target, what, options)
        try:
            made: object = make(channels)
        except ConfigError:
            raise
        except Exception as error:  # anybody's code
            raise ConfigError(f"{place}: cannot be made of {channels} channels: {first_line(error)}") from error
        if not isinstance(made, nn.Module):
            raise ConfigError(f"{place}: must give a torch module, got {type(made).__name__}")
        return make, lanes

    def try_to_open() -> str:
        try:
            with using(plugins):
                open_norm()
        except ConfigError as error:
            return str(error)
        return ""

    ended = run_apart(try_to_open, 4 * time_limit)  # what it imports may hang or end its process
    if ended.how != "done" or ended.value:
        raise ConfigError(ended.value if ended.how == "done" else f"{place}: {ended.value or 'takes too long to make'}")
    with using(plugins):
        make, lanes = open_norm()
        candidate = Candidate(partial(make, channels), channels, lanes=lanes)
        return ContractReport(shown, channels, tuple(check_candidate(candidate, time_limit)))


def _resolve(target: str | Callable[..., Any], what: str, options: Mapping[str, Any]) -> tuple[Make, bool]:
    """What makes the norm of a number of channels and a device, and whether it is said to run in lanes."""
    if isinstance(target, str) and (target in NORMS or ":" not in target):
        NORMS.options(target, options)
        return partial(norm, target, **options), NORMS[target].lanes
    found = resolve_code(target, what) if isinstance(target, str) else target
    if not callable(found) or isinstance(found, nn.Module):
        shown = f"{what} {target}" if isinstance(target, str) else what
        raise ConfigError(f"{shown}: must be a class or function of the number of channels, got {type(found).__name__}")
    try:
        takes_device = "device" in inspect.signature(found).parameters
    except (TypeError, ValueError):
        takes_device = False

    def make(channels: int, device: str | None = None) -> nn.Module:
        if device and not takes_device:
            with torch.device(device):
                return make(channels)
        made: nn.Module = found(channels, **({"device": device} if device else {}), **options)
        return made

    return make, False
