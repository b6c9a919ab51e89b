"""`bncli export`: the stored runs of a preset as one tidy table, for other tools and for `compare --from`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bncli.cli.options import (
    Data,
    DataDir,
    Device,
    LossCode,
    ModelCode,
    Plugins,
    PresetArgument,
    Seeds,
    Sets,
    SitePattern,
    StoreFolder,
    Variants,
    Weights,
    opened,
    prepare,
)
from bncli.errors import ConfigError

Table = Annotated[
    str, typer.Option("--to", help="Where to: a .csv or .jsonl file, or - for CSV on stdout.", metavar="FILE")
]


def export(
    preset: PresetArgument = None, to: Table = "-", variants: Variants = "", seeds: Seeds = None,
    sets: Sets = None, device: Device = "auto", plugin: Plugins = None, store: StoreFolder = Path(".bncli"),
    data: Data = None, model: ModelCode = None, weights: Weights = None, sites: SitePattern = None,
    loss: LossCode = None, data_dir: DataDir = None,
) -> None:  # fmt: skip
    """Write the stored runs of a preset as a table: a row a run and step, a column a metric. Nothing is trained."""
    own = {"model": model, "weights": weights, "sites": sites, "loss": loss, "data": data}
    how = prepare(preset, variants, seeds, sets, device, "auto", None, "local", None, plugin, store, data_dir, own)
    suffix = ".csv" if to == "-" else Path(to).suffix
    if suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"--to {to}: expected a .csv or .jsonl file, or -")

    from bncli.api import open_study
    from bncli.cli.output import require_writable, write
    from bncli.plugins import using
    from bncli.report.study.tidy import write_tidy
    from bncli.session.training import read_stored

    require_writable(to=to)
    code, asked = opened(how)
    with using(code):
        runs = read_stored(open_study(**asked))
    there = [run for run in runs if run.result]
    if not there:
        name = how["preset"].stem
        raise ConfigError(f"{name}: none of its {len(runs)} runs is in {store}; `bncli train {name}` makes them")
    write(to, write_tidy(there, suffix), f"--to {to}")
    if len(there) < len(runs):
        print(f"{len(there)} of {len(runs)} runs; the others are not in {store} yet", file=sys.stderr)
