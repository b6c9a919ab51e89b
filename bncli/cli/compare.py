"""`bncli compare`: plan, train what the store lacks, analyse, show."""

from pathlib import Path

from bncli.cli.options import (
    Check,
    DataDir,
    Device,
    DryRun,
    Engine,
    Github,
    Jobs,
    Json,
    Junit,
    Markdown,
    PresetArgument,
    Seeds,
    Sets,
    StoreFolder,
    Variants,
)


def compare(
    preset: PresetArgument = "quickstart", variants: Variants = "", seeds: Seeds = None, sets: Sets = None,
    device: Device = "auto", engine: Engine = "auto", jobs: Jobs = None, store: StoreFolder = Path(".bncli"),
    data_dir: DataDir = None, json: Json = None, dry_run: DryRun = False,
    check: Check = False, junit: Junit = None, markdown: Markdown = None, github: Github = False,
) -> None:  # fmt: skip
    """Train the variants of a preset and say which converges faster, by how much, and how sure that is."""
    from bncli.presets import preset_path

    path = preset_path(preset)  # first: a mistyped name is answered before anything heavy is imported

    from bncli.cli.progress import display
    from bncli.cli.session import exit_for_failures, open_session, show_plan, train_study

    session = open_session(path, variants, seeds, sets, device, engine, jobs, store, data_dir)
    if dry_run:
        show_plan(session)
        return
    session, results = train_study(session, display)

    from bncli.cli.findings import findings_of, write_json  # only now: a mistake is answered without numpy and scipy

    findings = findings_of(session, results)
    if json:
        write_json(json, session, findings, results)
    if json != "-":
        from bncli.cli.console import stdout
        from bncli.report.table import show

        show(findings, stdout())
        print(f"\n{len(results)} runs in {session.store.folder}")
    exit_for_failures(results)
    if check:
        from bncli.cli.checks import finish
        from bncli.report.checks import claim_checks

        finish(f"claims of {session.name}", claim_checks(findings), junit, markdown, github, quiet=json == "-")
