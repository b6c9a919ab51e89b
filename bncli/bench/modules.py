"""The modules behind a case: a norm of the zoo, a kernel named on the command line, torch's own batch norm.

All take (N, C) or (N, C, H, W) and keep its shape.
"""

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bncli.bench.cases import Case
from bncli.errors import BncliError, ConfigError, did_you_mean
from bncli.norms import norm

Norm = Callable[[Tensor], Tensor]


def module_of(case: Case) -> Norm:
    """The norm that a case times, in training or evaluation as its pass says.

    In half precision the parameters stay float32, as mixed precision has it; in float64 they are float64.

    Raises:
        ConfigError: for a kernel that cannot be had.
    """
    channels = case.shape[1]
    made = _kernel(case.norm, channels) if case.is_kernel else norm(case.norm, channels, **dict(case.options))
    return _placed(made, case)


def native_of(case: Case) -> nn.Module:
    """Torch's own batch norm for the input of a case, uncompiled."""
    kind = nn.BatchNorm2d if len(case.shape) == 4 else nn.BatchNorm1d
    placed = _placed(kind(case.shape[1]), case)
    assert isinstance(placed, nn.Module)
    return placed


def _placed(made: Norm, case: Case) -> Norm:
    if isinstance(made, nn.Module):
        made = made.to(case.device, torch.float64 if case.dtype == "f64" else torch.float32)
        return made.train(case.pass_ != "eval-forward")
    return made


def _kernel(place: str, channels: int) -> Norm:
    make = factory(place)
    try:
        made = make(channels)
    except Exception as error:  # anybody's code
        raise ConfigError(f"--kernel {place}: {place}({channels}) raised {_said(error)}") from None
    if not callable(made):
        raise ConfigError(f"--kernel {place}: {place}({channels}) must give a norm to call, got {type(made).__name__}")
    return made  # type: ignore[no-any-return]


@cache
def factory(place: str) -> Callable[[int], Any]:
    """What `module:attribute` names, a function of the number of channels; looked for in the working directory too.

    Raises:
        ConfigError: if there is no such thing, or it cannot be called.
    """
    name, _, attribute = place.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        missing = f"module {name!r}" if error.name == name else f"module {error.name!r}, which {name!r} imports,"
        raise ConfigError(f"--kernel {place}: {missing} is not installed and not in {here}") from None
    except Exception as error:  # anybody's code
        raise ConfigError(f"--kernel {place}: importing {name!r} raised {_said(error)}") from None
    made = getattr(module, attribute, None)
    if made is None:
        near = did_you_mean(attribute, [n for n in vars(module) if not n.startswith("_")])
        raise ConfigError(f"--kernel {place}: module {name!r} has no {attribute!r}{near}")
    if not callable(made):
        raise ConfigError(f"--kernel {place}: must be a function of the number of channels, got {made!r}")
    return made  # type: ignore[no-any-return]


def check_output(case: Case, y: object) -> None:
    """Refuse a kernel whose output is no normalised input.

    Raises:
        BncliError: that says what came instead.
    """
    if not isinstance(y, Tensor) or tuple(y.shape) != case.shape:
        came = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise BncliError(f"{case.name}: expected an output of the input's shape {case.shape}, got {came}")


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
