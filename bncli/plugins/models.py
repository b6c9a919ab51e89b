"""Anybody's model by one text, as a command line gives it: FILE.py:NAME, MODULE:NAME, torchvision:NAME, timm:NAME."""

import copy
from typing import Any

from torch import nn

from bncli.errors import ConfigError
from bncli.models.build import make_listed, make_model
from bncli.models.foreign import LISTS
from bncli.plugins.code import resolve_code


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
    if place in LISTS and name:
        return make_listed(place, name, **options)
    found = resolve_code(text, what)
    if isinstance(found, nn.Module):
        return copy.deepcopy(found)
    if not callable(found):
        raise ConfigError(f"{what} {text}: must be a model, or what makes one, got {type(found).__name__}")
    return make_model(found, f"{what} {text}", options)
