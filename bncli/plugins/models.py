"""Anybody's model by one text, as a command line gives it: FILE.py:NAME, MODULE:NAME, torchvision:NAME, timm:NAME."""

import copy
from importlib import import_module
from typing import Any

from torch import nn

from bncli.errors import ConfigError, did_you_mean
from bncli.plugins.code import resolve_code

_LISTS = ("torchvision", "timm")


def build_model(text: str, what: str = "MODEL", **options: Any) -> nn.Module:
    """The model that a text names, with the weights it is made with: none are loaded.

    Args:
        text: `torchvision:NAME` and `timm:NAME` are of those packages' own lists; `FILE.py:NAME` and `MODULE:NAME` name
            a module, or a class or function that makes one.
        what: begins the messages: "--model".
        options: keywords for what makes the model.

    Raises:
        ConfigError: if there is no such model, or it cannot be made.
    """
    place, _, name = text.partition(":")
    if place in _LISTS and name:
        return _of_list(place, name, f"{what} {text}", options)
    found = resolve_code(text, what)
    if isinstance(found, nn.Module):
        return copy.deepcopy(found)
    if not callable(found):
        raise ConfigError(f"{what} {text}: must be a model, or what makes one, got {type(found).__name__}")
    return _make(found, f"{what} {text}", options)


def _of_list(package: str, name: str, what: str, options: dict[str, Any]) -> nn.Module:
    """A model of an installed package's own list, without trained weights."""
    try:
        module: Any = import_module(package)
        models: Any = import_module("torchvision.models") if package == "torchvision" else module
    except ModuleNotFoundError:
        raise ConfigError(f"{what}: {package} is not installed: pip install {package}") from None
    except (ImportError, RuntimeError) as error:  # made for another torch
        raise ConfigError(f"{what}: {package} cannot be imported ({str(error).splitlines()[0]})") from None
    known = models.list_models()
    if name not in known:
        raise ConfigError(f"{what}: {package} has no model {name!r}{did_you_mean(name, known)}")
    if package == "timm":
        return _make(lambda **given: models.create_model(name, pretrained=False, **given), what, options)
    return _make(lambda **given: models.get_model(name, weights=None, **given), what, options)


def _make(make: Any, what: str, options: dict[str, Any]) -> nn.Module:
    """What a class or function makes."""
    try:
        made = make(**options)
    except Exception as error:  # anybody's code
        lines = str(error).strip().splitlines() or [""]
        raise ConfigError(f"{what}: cannot be made: {type(error).__name__}: {lines[0]}") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{what}: must give a torch module, got {type(made).__name__}")
    return made
