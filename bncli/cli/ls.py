"""`bncli ls`: what there is: presets, norms, models, data sets, optimisers."""

from typing import Annotated, Any

import typer

KINDS = ("presets", "norms", "models", "data", "optimizers")


def ls(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}; all of them if left out.")] = "",
) -> None:
    """List what a preset can name."""
    from bncli.errors import ConfigError, unknown

    if kind and kind not in KINDS:
        raise ConfigError(unknown("list", kind, KINDS))
    for one in [kind] if kind else KINDS:
        rows = _presets() if one == "presets" else _rows(one)
        width = max(len(name) for name, _ in rows)
        print(f"{one}:" if not kind else "", end="\n" if not kind else "")
        for name, summary in rows:
            print(f"  {name:<{width}}  {summary}")


def _rows(kind: str) -> list[tuple[str, str]]:
    catalogue = _catalogue(kind)
    return [(name, row.summary) for name, row in catalogue.items()]


def _catalogue(kind: str) -> Any:
    if kind == "norms":
        from bncli.norms import NORMS

        return NORMS
    if kind == "models":
        from bncli.models import MODELS

        return MODELS
    if kind == "data":
        from bncli.data import DATASETS

        return DATASETS
    from bncli.engine import OPTIMIZERS

    return OPTIMIZERS


def _presets() -> list[tuple[str, str]]:
    from bncli.config.reading import parse_file
    from bncli.presets import preset_names, preset_path

    return [(name, str(parse_file(preset_path(name)).data.get("question", ""))) for name in preset_names()]
