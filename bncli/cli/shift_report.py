"""`bncli shift-report`: what happens to the distributions while the variants of a preset train."""

from pathlib import Path
from typing import Annotated

import typer

from bncli.cli.options import (
    DataDir,
    Device,
    DryRun,
    Engine,
    Jobs,
    Json,
    PresetArgument,
    Seeds,
    Sets,
    StoreFolder,
    Variants,
)

Layers = Annotated[str, typer.Option(help="Show only layers that match one of these patterns (a,b*).")]
Metrics = Annotated[str, typer.Option(help="Show only these metrics of those that the preset probes (a,b).")]
Plot = Annotated[Path | None, typer.Option(help="Write the figures into this folder, as SVG and PNG.")]


def shift_report(
    preset: PresetArgument = "figure1-shift", variants: Variants = "", seeds: Seeds = None, sets: Sets = None,
    layers: Layers = "", metrics: Metrics = "", plot: Plot = None, device: Device = "auto", engine: Engine = "auto",
    jobs: Jobs = None, store: StoreFolder = Path(".bncli"), data_dir: DataDir = None, json: Json = None,
    dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Train the variants with probes, and say by every definition asked for whether their distributions shift less."""
    from bncli.presets import preset_path

    path = preset_path(preset)  # first: a mistyped name is answered before anything heavy is imported

    from bncli.cli.progress import display
    from bncli.cli.session import exit_for_failures, open_session, show_plan, train_study
    from bncli.cli.shift import chosen_metrics, findings_of, with_probes, write_json

    session = open_session(path, variants, seeds, sets, device, engine, jobs, store, data_dir)
    if not session.study.probes.metrics:
        session = open_session(path, variants, seeds, with_probes(sets), device, engine, jobs, store, data_dir)
    chosen = chosen_metrics(session, metrics)
    if dry_run:
        return show_plan(session)
    session, results = train_study(session, display)
    findings = findings_of(session, results, chosen, layers)
    if json:
        write_json(json, session, findings, results)
    if plot:
        from bncli.report.shift.figures import write_plots

        write_plots(findings, plot)
    if json != "-":
        from bncli.cli.output import stdout
        from bncli.report.shift.table import show

        show(findings, stdout())
        print(f"\n{len(results)} runs in {session.store.folder}")
    return exit_for_failures(results)
