"""`bncli export`: the stored runs of a preset as one tidy table, for other tools and for `compare --from`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bncli.cli.options import (
    Data,
    DataDir,
    Device,
    Plugins,
    PresetArgument,
    Seeds,
    Sets,
    StoreFolder,
    Variants,
    prepare,
)
from bncli.errors import ConfigError

Table = Annotated[
    str, typer.Option("--to", help="Where to: a .csv or .jsonl file, or - for CSV on stdout.", metavar="FILE")
]


def export(
    preset: PresetArgument = "quickstart", to: Table = "-", variants: Variants = "", seeds: Seeds = None,
    sets: Sets = None, device: Device = "auto", plugin: Plugins = None, store: StoreFolder = Path(".bncli"),
    data: Data = None, data_dir: DataDir = None,
) -> None:  # fmt: skip
    """Write the stored runs of a preset as a table: a row a run and step, a column a metric. Nothing is trained."""
    how = prepare(preset, variants, seeds, sets, device, "auto", None, "local", None, plugin, store, data_dir, data)
    suffix = ".csv" if to == "-" else Path(to).suffix
    if suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"--to {to}: expected a .csv or .jsonl file, or -")

    from bncli.api import open_study
    from bncli.cli.output import require_writable, write
    from bncli.plugins import using
    from bncli.report.study.tidy import write_tidy
    from bncli.session.training import read_stored

    require_writable(to=to)
    with using(how.pop("plugins")):
        runs = read_stored(open_study(**how))
    there = [run for run in runs if run.result]
    if not there:
        raise ConfigError(f"{preset}: none of its {len(runs)} runs is in {store}; `bncli train {preset}` makes them")
    write(to, write_tidy(there, suffix), f"--to {to}")
    if len(there) < len(runs):
        print(f"{len(there)} of {len(runs)} runs; the others are not in {store} yet", file=sys.stderr)
