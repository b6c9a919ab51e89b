"""Plug-ins: code that others add, named on the command line or installed."""

from importlib import import_module
from typing import Any

from bncli.errors import ConfigError


def resolve_code(text: str, what: str) -> Any:
    """What `MODULE:NAME` stands for."""
    module, _, name = text.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{what} {text}: {error}") from None
