"""`bncli train`: train every run of a preset and show how each ended; no verdict."""

from dataclasses import replace
from pathlib import Path

from bncli.cli.destinations import Export
from bncli.cli.options import (
    CpusPerJob,
    Data,
    DataDir,
    Device,
    DryRun,
    EngineName,
    Executor,
    GpusPerJob,
    Jobs,
    LossCode,
    MaxInFlight,
    ModelCode,
    PlainText,
    Plugins,
    PresetArgument,
    Seeds,
    Sets,
    SharedFolder,
    SitePattern,
    StoreFolder,
    Style,
    Task,
    TimeLimit,
    Variants,
    Weights,
    Yes,
    placed,
    prepare,
    show_plan,
)


def train(
    preset: PresetArgument = None, data: Data = None, model: ModelCode = None, weights: Weights = None,
    sites: SitePattern = None, loss: LossCode = None, task: Task = None, variants: Variants = "", seeds: Seeds = None,
    sets: Sets = None, device: Device = "auto", engine: EngineName = "auto", jobs: Jobs = None,
    executor: Executor = "local", cpus_per_job: CpusPerJob = None, gpus_per_job: GpusPerJob = None,
    max_in_flight: MaxInFlight = None, shared: SharedFolder = None,
    time_limit: TimeLimit = None, plugin: Plugins = None,
    store: StoreFolder = Path(".bncli"), data_dir: DataDir = None, dry_run: DryRun = False, yes: Yes = False,
    export: Export = None, style: Style = "web", plain: PlainText = False,
) -> None:  # fmt: skip
    """Train every run of a preset, store what it measures, and show how each run ended."""
    own = {"model": model, "weights": weights, "sites": sites, "loss": loss, "data": data, "task": task}
    how = placed(cpus_per_job, gpus_per_job, max_in_flight, shared) | prepare(
        preset, variants, seeds, sets, device, engine, jobs, executor, time_limit, plugin, store, data_dir, own,
        yes=yes,
    )  # fmt: skip
    if dry_run:
        show_plan(how, unused={"--export": export})
        return
    if not store.exists():  # so there is something to train
        from bncli.executors.local import start_early

        start_early(executor, device)

    from bncli import api
    from bncli.cli.destinations import command_line, read_destinations, write_destinations
    from bncli.cli.output import exit_for_failures, print_report
    from bncli.cli.progress import show_progress

    destinations = read_destinations("runs", how["preset"].stem, export)
    with show_progress(plain=plain) as (on_event, _):
        result = replace(api.train(**how, on_event=on_event), command=command_line())
    if not any(each.takes_stdout for each in destinations):
        print_report(result.data(), plain=plain)
        print(f"\n{len(result.runs)} runs in {result.store}")
    write_destinations(result.data(), destinations, style)
    exit_for_failures(result.runs)
