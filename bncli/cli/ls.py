"""`bncli ls`: what a preset can name, whoever adds it, the card of one norm, and the studies in a store."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bncli.cli.options import Plugins, StoreFolder, complete_norm

# what a preset or an option can name
KINDS = ("presets", "norms", "models", "data", "optimizers", "schedules", "tasks", "metrics", "measures", "executors")


def ls(
    kind: Annotated[
        str, typer.Argument(help=f"One of {', '.join(KINDS)}, all of them if left out; or studies, those in the store.")
    ] = "",
    name: Annotated[str, typer.Argument(help="A norm, for its card.", autocompletion=complete_norm)] = "",
    plugins: Plugins = None,
    store: StoreFolder = Path(".bncli"),
) -> None:
    """List what a preset can name, with who adds it in brackets; `bncli ls norms NAME` prints the card of one norm."""
    from bncli.errors import ConfigError, unknown

    if kind and kind not in (*KINDS, "studies"):
        raise ConfigError(unknown("list", kind, (*KINDS, "studies")))
    if kind not in ("presets", "studies"):
        from bncli.plugins import add_plugins, register_installed

        add_plugins(plugins or ())
        for problem in register_installed():
            print(problem, file=sys.stderr)
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
    width = max((len(name) for name, _ in rows), default=0)
    if heading:
        print(f"{kind}:")
    for name, summary in rows or [("none; --task FILE.py:NAME and --plugin bring them", "")]:
        print(f"  {name:<{width}}  {summary}")


def _rows(kind: str) -> list[tuple[str, str]]:
    if kind == "presets":
        from bncli.config.reading import parse_file
        from bncli.presets import preset_names, preset_path

        return [(name, str(parse_file(preset_path(name)).data.get("question", ""))) for name in preset_names()]
    return [
        (name, row.summary if row.origin == "bncli" else f"{row.summary} [{row.origin}]")
        for name, row in _catalogue(kind).listed()
    ]


def _catalogue(kind: str) -> Any:
    from bncli.data import DATASETS
    from bncli.executors import EXECUTORS
    from bncli.measures import MEASURES
    from bncli.models import MODELS
    from bncli.norms import NORMS
    from bncli.optim import OPTIMIZERS, SCHEDULES
    from bncli.shift import METRICS
    from bncli.tasks import TASKS

    known = {
        "norms": NORMS, "models": MODELS, "data": DATASETS, "optimizers": OPTIMIZERS, "schedules": SCHEDULES,
        "tasks": TASKS,
        "metrics": METRICS, "measures": MEASURES, "executors": EXECUTORS,
    }  # fmt: skip
    return known[kind]
