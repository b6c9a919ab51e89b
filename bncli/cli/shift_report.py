"""`bncli shift-report`: what happens to the distributions while the variants of a preset train."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bncli.cli.completion import complete_metric
from bncli.cli.destinations import Export, Html
from bncli.cli.options import (
    WHAT,
    CpusPerJob,
    Data,
    DataDir,
    Device,
    DryRun,
    EngineName,
    Executor,
    Explain,
    GpusPerJob,
    Jobs,
    Json,
    LossCode,
    MaxInFlight,
    ModelCode,
    PlainText,
    Plot,
    Plugins,
    PresetArgument,
    Seeds,
    Sets,
    SharedFolder,
    SitePattern,
    StoreFolder,
    Style,
    TimeLimit,
    Variants,
    Weights,
    Yes,
    placed,
    prepare,
    show_plan,
)

Layers = Annotated[
    str, typer.Option(help="Show only layers that match one of these patterns (a,b*).", rich_help_panel=WHAT)
]
Metrics = Annotated[
    str,
    typer.Option(
        help="Show only these metrics of those that the preset probes (a,b).",
        autocompletion=complete_metric,
        rich_help_panel=WHAT,
    ),
]


def shift_report(
    preset: PresetArgument = None, data: Data = None, model: ModelCode = None, weights: Weights = None,
    sites: SitePattern = None, loss: LossCode = None, variants: Variants = "", seeds: Seeds = None,
    sets: Sets = None, layers: Layers = "", metrics: Metrics = "", plot: Plot = None, style: Style = "web",
    device: Device = "auto",
    engine: EngineName = "auto", jobs: Jobs = None, executor: Executor = "local",
    cpus_per_job: CpusPerJob = None, gpus_per_job: GpusPerJob = None, max_in_flight: MaxInFlight = None,
    shared: SharedFolder = None,
    time_limit: TimeLimit = None, plugin: Plugins = None, store: StoreFolder = Path(".bncli"),
    data_dir: DataDir = None,
    json: Json = None, html: Html = None, export: Export = None,
    dry_run: DryRun = False, yes: Yes = False, explain: Explain = False,
    plain: PlainText = False,
) -> None:  # fmt: skip
    """Train the variants with probes, and say by every definition asked for whether their distributions shift less."""
    own = {"model": model, "weights": weights, "sites": sites, "loss": loss, "data": data}
    how = placed(cpus_per_job, gpus_per_job, max_in_flight, shared) | prepare(
        preset, variants, seeds, sets, device, engine, jobs, executor, time_limit, plugin, store, data_dir, own,
        default="figure1-shift", yes=yes,
    )  # fmt: skip
    if dry_run:
        show_plan(how, probed=True, json=json, unused={"--plot": plot, "--html": html, "--export": export})
        return
    if not store.exists():  # so there is something to train
        from bncli.executors.local import start_early

        start_early(executor, device)

    from bncli import api
    from bncli.cli.destinations import command_line, read_destinations, write_destinations
    from bncli.cli.output import exit_for_failures, print_report
    from bncli.cli.progress import show_progress

    destinations = read_destinations("shift", how["preset"].stem, export, json=json, html=html, plot=plot)
    with show_progress(plain=plain) as (on_event, _):
        result = api.shift_report(**how, layers=layers, metrics=metrics, on_event=on_event)
    result = replace(result, command=command_line())
    if not any(each.takes_stdout for each in destinations):
        print_report(result.data(), explain=explain, plain=plain)
        print(f"\n{len(result.runs)} runs in {result.store}")
    write_destinations(result.data(), destinations, style)
    exit_for_failures(result.runs)
