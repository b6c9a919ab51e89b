"""`bncli train`: train every run of a preset and show how each ended; no verdict."""

from pathlib import Path

from bncli.cli.options import DataDir, Device, DryRun, Engine, Jobs, PresetArgument, Seeds, Sets, StoreFolder, Variants


def train(
    preset: PresetArgument = "quickstart", variants: Variants = "", seeds: Seeds = None, sets: Sets = None,
    device: Device = "auto", engine: Engine = "auto", jobs: Jobs = None, store: StoreFolder = Path(".bncli"),
    data_dir: DataDir = None, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Train every run of a preset, store what it measures, and show how each run ended."""
    from bncli.presets import preset_path

    path = preset_path(preset)  # first: a mistyped name is answered before anything heavy is imported

    from bncli.cli.output import stdout
    from bncli.cli.progress import display
    from bncli.cli.session import exit_for_failures, open_session, show_plan, train_study
    from bncli.report.study.runs import show_accounting, show_runs

    session = open_session(path, variants, seeds, sets, device, engine, jobs, store, data_dir)
    if dry_run:
        return show_plan(session)
    session, results = train_study(session, display)
    show_runs(
        [(run.variant, run.setting, run.seed, results.get(run.id)) for run in (*session.searched, *session.runs)],
        stdout(),
    )
    show_accounting(list(results.values()), stdout())
    print(f"\n{len(results)} runs in {session.store.folder}")
    return exit_for_failures(results)
