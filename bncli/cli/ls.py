"""`bncli ls`: what a preset can name, the card of one norm, and the studies in a store."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bncli.cli.options import StoreFolder, complete_norm

KINDS = ("presets", "norms", "models", "data", "optimizers", "metrics", "measures")  # what a preset can name


def ls(
    kind: Annotated[
        str, typer.Argument(help=f"One of {', '.join(KINDS)}, all of them if left out; or studies, those in the store.")
    ] = "",
    name: Annotated[str, typer.Argument(help="A norm, for its card.", autocompletion=complete_norm)] = "",
    store: StoreFolder = Path(".bncli"),
) -> None:
    """List what a preset can name, or what the store has; `bncli ls norms NAME` prints the card of one norm."""
    from bncli.errors import ConfigError, unknown

    if kind and kind not in (*KINDS, "studies"):
        raise ConfigError(unknown("list", kind, (*KINDS, "studies")))
    if kind == "norms":
        _norms(name)
    elif name:
        raise ConfigError(f"only norms have cards; `bncli ls {kind}` takes no name, got {name!r}")
    elif kind == "studies":
        from bncli.cli.store import list_studies

        list_studies(store)
    else:
        for one in [kind] if kind else KINDS:
            _print(one, heading=not kind)


def _norms(name: str) -> None:
    from bncli.cli.output import stdout
    from bncli.norms import NORMS
    from bncli.report.cards import card, listing

    if name:
        print(card(name, NORMS[name]))
    else:
        listing(NORMS, stdout())


def _print(kind: str, *, heading: bool) -> None:
    rows = _rows(kind)
    width = max(len(name) for name, _ in rows)
    if heading:
        print(f"{kind}:")
    for name, summary in rows:
        print(f"  {name:<{width}}  {summary}")


def _rows(kind: str) -> list[tuple[str, str]]:
    if kind == "presets":
        from bncli.config.reading import parse_file
        from bncli.presets import preset_names, preset_path

        return [(name, str(parse_file(preset_path(name)).data.get("question", ""))) for name in preset_names()]
    return [(name, row.summary) for name, row in _catalogue(kind).items()]


def _catalogue(kind: str) -> Any:
    from bncli.data import DATASETS
    from bncli.measures import MEASURES
    from bncli.models import MODELS
    from bncli.norms import NORMS
    from bncli.optim import OPTIMIZERS
    from bncli.shift import METRICS

    known = {
        "norms": NORMS, "models": MODELS, "data": DATASETS, "optimizers": OPTIMIZERS, "metrics": METRICS,
        "measures": MEASURES,
    }  # fmt: skip
    return known[kind]
