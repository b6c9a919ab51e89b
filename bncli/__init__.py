"""bncli settles arguments about normalisation in neural networks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bncli.api import Result, bench, compare, read_study, shift_report, train
    from bncli.config import Study
    from bncli.errors import BncliError
    from bncli.findings import Findings
    from bncli.norms import NORMS, norm, normalise
    from bncli.norms.inspection import inspect_model
    from bncli.norms.replace import factory, replace_norms
    from bncli.plugins.norms import check_norm
    from bncli.shift import METRICS
    from bncli.shift.probing import drift, probe
    from bncli.store.folder import Store

    __version__: str

_HOMES = {
    "METRICS": "shift", "NORMS": "norms", "BncliError": "errors", "Findings": "findings", "Result": "result",
    "Store": "store.folder", "Study": "config", "bench": "api", "check_norm": "plugins.norms",
    "compare": "api", "compare_results": "api", "drift": "shift.probing", "factory": "norms.replace",
    "inspect_model": "norms.inspection", "norm": "norms", "normalise": "norms", "probe": "shift.probing",
    "read_study": "api", "replace_norms": "norms.replace", "shift_report": "api", "train": "api",
}  # fmt: skip
__all__ = [
    "METRICS", "NORMS", "BncliError", "Findings", "Result", "Store", "Study", "bench", "check_norm", "compare",
    "compare_results", "drift", "factory", "inspect_model", "norm", "normalise", "probe", "read_study", "replace_norms",
    "shift_report", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Resolve the public names lazily, so that `import bncli` imports no torch."""
    if name == "__version__":
        from bncli.code_hash import VERSION

        return VERSION
    if name in _HOMES:
        from importlib import import_module

        import_module("bncli.plugins")  # so that the names of installed plug-ins are known too
        return getattr(import_module(f"bncli.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'bncli' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
