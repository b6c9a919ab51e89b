"""bncli settles arguments about normalisation in neural networks."""

from typing import Any

__version__ = "0.1.0"

_PUBLIC = {"norm": "bncli.norms", "normalise": "bncli.norms", "NORMS": "bncli.norms", "compare": "bncli.api"}


def __getattr__(name: str) -> Any:
    """Resolve the public API lazily, so that `import bncli` imports no torch."""
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'bncli' has no attribute {name!r}")
