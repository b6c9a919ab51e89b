"""`bncli compare`: plan, train what the store lacks, analyse, show; check claims, hold against a baseline."""

from pathlib import Path

from bncli.cli.options import (
    AA,
    BaselineName,
    CheckClaims,
    DataDir,
    Device,
    DryRun,
    Engine,
    EventsTo,
    FailIf,
    Github,
    Jobs,
    Json,
    Junit,
    Markdown,
    PresetArgument,
    SaveBaseline,
    Seeds,
    Sets,
    StoreFolder,
    Variants,
)


def compare(
    preset: PresetArgument = "quickstart", variants: Variants = "", seeds: Seeds = None, sets: Sets = None,
    device: Device = "auto", engine: Engine = "auto", jobs: Jobs = None, store: StoreFolder = Path(".bncli"),
    data_dir: DataDir = None, json: Json = None, dry_run: DryRun = False, events: EventsTo = None,
    check: CheckClaims = False, aa: AA = False, save_baseline: SaveBaseline = None, baseline: BaselineName = None,
    fail_if: FailIf = None, junit: Junit = None, markdown: Markdown = None, github: Github = False,
) -> None:  # fmt: skip
    """Train the variants of a preset and say which converges faster, by how much, and how sure that is."""
    from bncli.presets import preset_path

    path = preset_path(preset)  # first: a mistyped name is answered before anything heavy is imported

    from bncli.cli.gate import baseline_of, checks_of, keep, limits_of, refuse_mixtures, refuse_no_claims, retrained
    from bncli.cli.session import exit_for_failures, open_session, show_plan, train_study

    refuse_mixtures(save_baseline, baseline, fail_if or (), aa, check)
    asked = open_session(path, variants, seeds, sets, device, engine, jobs, store, data_dir)
    if check:
        refuse_no_claims(asked)
    limits = limits_of(fail_if or (), asked)
    before = baseline_of(asked, baseline) if baseline else None
    session = retrained(asked) if save_baseline or baseline else asked
    if aa:
        from bncli.cli.again import against_itself

        session = against_itself(session)
    if dry_run:
        show_plan(session)
        return

    from bncli.cli.events import display_and_tell

    show, tell = display_and_tell(events)
    session, results = train_study(session, show)

    from bncli.cli.findings import findings_document, findings_of, write_json  # only now: it brings numpy and scipy

    findings = findings_of(session, results, again=aa)
    kept = json or events or save_baseline or baseline  # else the runs' curves need not be gathered
    document = findings_document(session, findings, results) if kept else {}
    tell({"event": "findings", **{key: document.get(key) for key in ("headlines", "verdicts", "warnings")}})
    if json:
        write_json(json, document)
    quiet = "-" in (json, events)
    if not quiet:
        from bncli.cli.output import stdout
        from bncli.report.study.table import show as show_table

        show_table(findings, stdout())
        print(f"\n{len(results)} runs in {session.store.folder}")
    exit_for_failures(results)
    if save_baseline:
        keep(asked, save_baseline, document)
    if checks := checks_of(findings, document, before, limits, claims=check, again=aa):
        from bncli.cli.output import finish

        finish(session.name, checks, junit, markdown, github, quiet=quiet)
