"""`bncli ls`: what a preset can name, whoever adds it, the card of one name, every key, and the studies in a store."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bncli.cli.completion import complete_norm, one_of
from bncli.cli.options import Json, Plugins, StoreFolder

# what a preset or an option can name
KINDS = ("presets", "norms", "models", "data", "optimizers", "schedules", "tasks", "metrics", "measures", "executors")
OTHERS = ("keys", "studies", "cases")


def ls(
    kind: Annotated[
        str,
        typer.Argument(
            help=f"One of {', '.join(KINDS)}, all of them if left out; keys; studies; cases, of bench.",
            autocompletion=one_of(*KINDS, *OTHERS),
        ),
    ] = "",
    name: Annotated[
        str,
        typer.Argument(
            help="One of them, for its card; of keys a section: training; of cases a preset.",
            autocompletion=complete_norm,
        ),
    ] = "",
    plugins: Plugins = None,
    store: StoreFolder = Path(".bncli"),
    json: Json = None,
) -> None:
    """List what a preset can name, with who adds it in brackets; with NAME, its options, or a section's keys."""
    from bncli.errors import ConfigError, unknown

    if kind and kind not in (*KINDS, *OTHERS):
        raise ConfigError(unknown("list", kind, (*KINDS, *OTHERS)))
    if kind not in ("presets", *OTHERS):
        from bncli.plugins import add_plugins, register_installed

        add_plugins(plugins or ())
        for problem in register_installed():
            print(problem, file=sys.stderr)
    if kind == "studies":
        if name:
            raise ConfigError("`bncli ls studies` takes no name; `bncli show NAME` shows one")
        from bncli.cli.store import list_studies

        list_studies(store, json)
    elif kind == "cases":
        _cases(name, json)
    elif kind == "keys":
        _keys(name, json)
    elif json:
        _write(json, {one: _documents(one, name) for one in ([kind] if kind else KINDS)})
    elif kind == "norms" and not name:
        from bncli.cli.output import stdout
        from bncli.norms import NORMS
        from bncli.report.cards import listing

        listing(NORMS, stdout())
    elif name:
        print(_card(kind, name))
    else:
        for one in [kind] if kind else KINDS:
            _print(one, heading=not kind)


def _keys(section: str, json: str | None) -> None:
    """The keys of one section of presets, or of all."""
    from bncli.config import PRESETS
    from bncli.config.keys import list_sections, look_up
    from bncli.report.cards import key_lines

    found = {section: look_up(PRESETS, section)} if section else list_sections(PRESETS)
    if json:
        _write(json, {place: [asdict(key) for key in keys] for place, keys in found.items()})
        return
    for place, keys in found.items():
        print(f"{place}:\n{key_lines(keys)}" if not section else key_lines(keys))


def _cases(preset: str, json: str | None) -> None:
    """Print what a bench preset holds, by the names that cases have on a CPU; without one how many each holds."""
    from bncli.config import read_bench
    from bncli.presets import preset_names, preset_path
    from bncli.timing.cases import expand_cases

    known = [name for name in preset_names() if name.startswith("bench-")]
    found = {path.stem: read_bench(path) for path in map(preset_path, [preset] if preset else known)}
    cases = {name: [case.name for case in expand_cases(bench, "cpu")] for name, bench in found.items()}
    if json:
        _write(json, {name: {"question": bench.question, "cases": cases[name]} for name, bench in found.items()})
        return
    width = max(map(len, found))
    for name, bench in found.items():
        print(f"{name:<{width}}  {len(cases[name]):>3} cases: {bench.question}")
        for case in cases[name] if preset else ():
            print(f"  {case}")


def _card(kind: str, name: str) -> str:
    from bncli.report.cards import card

    if kind != "presets":
        return card(kind, name, _catalogue(kind)[name])
    from bncli.presets import preset_path

    return preset_path(name).read_text(encoding="utf-8").rstrip("\n")


def _documents(kind: str, name: str) -> list[dict[str, Any]]:
    """What `--json` writes of a list: each name with what its card says."""
    from bncli.report.cards import facts

    if kind == "presets":
        return [{"name": one, "summary": summary} for one, summary in _rows(kind) if name in ("", one)]
    catalogue = _catalogue(kind)
    return [
        {
            "name": one, "summary": row.summary, "origin": row.origin, **facts(kind, row),
            "options": [asdict(key) for key in row.list_options()],
        }
        for one, row in ([(name, catalogue[name])] if name else catalogue.listed())
    ]  # fmt: skip


def _write(place: str, document: Mapping[str, Any]) -> None:
    from json import dumps

    from bncli.cli.output import write

    write(place, dumps(document, indent=1, ensure_ascii=False) + "\n", f"--json {place}")


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
