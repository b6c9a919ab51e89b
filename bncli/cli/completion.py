"""What a shell completes: names of presets and norms, keys of --set, devices, lists. Nothing here imports torch."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path


def complete_preset(incomplete: str) -> list[str]:
    """Names of presets."""
    from bncli.presets import preset_names

    return _fitting(preset_names(), incomplete)


def complete_bench(incomplete: str) -> list[str]:
    """Names of bench presets."""
    return [name for name in complete_preset(incomplete) if name.startswith("bench-")]


def complete_norm(incomplete: str) -> list[str]:
    """Names of norms; the last of a comma-separated list is completed."""
    from bncli.norms import NORMS

    return _last_of(NORMS, incomplete)


def complete_key(incomplete: str) -> list[str]:
    """Keys of --set, with the sign behind them: `training.lr=`."""
    if "=" in incomplete:
        return []
    from bncli.config import Study
    from bncli.config.keys import places_of

    return [f"{key}=" for key in _fitting(places_of(Study), incomplete)]


def complete_metric(incomplete: str) -> list[str]:
    """Names of shift metrics; the last of a comma-separated list is completed."""
    from bncli.shift import METRICS

    return _last_of(METRICS, incomplete)


def complete_study(incomplete: str) -> list[str]:
    """Names of the studies in the store, and ids once one is begun."""
    from bncli.errors import BncliError
    from bncli.store.studies import Studies

    try:
        asked = Studies(Path(os.environ.get("BNCLI_STORE", ".bncli"))).list()
    except (BncliError, OSError):  # a shell wants no sentence
        return []
    ids = [study.id[:12] for study in asked if incomplete]
    return _fitting(dict.fromkeys([*(study.name for study in asked), *ids]), incomplete)


def complete_format(incomplete: str) -> list[str]:
    """Formats of --export."""
    from bncli.report.exports import FORMATS

    return _fitting(FORMATS, incomplete)


def one_of(*names: str) -> Callable[[str], list[str]]:
    """A completion of one of these words."""
    return lambda incomplete: _fitting(names, incomplete)


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _last_of(names: Iterable[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _fitting(names, last)]
