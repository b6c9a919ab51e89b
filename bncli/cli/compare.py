"""`bncli compare`: plan, train what the store lacks, analyse, show; check claims, hold against a baseline."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bncli.cli.destinations import Export, History, Html
from bncli.cli.options import (
    AA,
    BaselineName,
    CheckClaims,
    CpusPerJob,
    Data,
    DataDir,
    Device,
    DryRun,
    EngineName,
    EventsTo,
    Executor,
    Explain,
    FailIf,
    From,
    Github,
    GpusPerJob,
    Jobs,
    Json,
    Junit,
    LossCode,
    Markdown,
    MaxInFlight,
    ModelCode,
    PlainText,
    Plot,
    Plugins,
    PresetArgument,
    SaveBaseline,
    SeedFrom,
    Seeds,
    Sets,
    SharedFolder,
    SitePattern,
    StoreFolder,
    Style,
    Task,
    TimeLimit,
    Until,
    VariantFrom,
    Variants,
    Weights,
    Yes,
    placed,
    prepare,
    show_plan,
)
from bncli.errors import ConfigError


def compare(
    preset: PresetArgument = None, data: Data = None, model: ModelCode = None, weights: Weights = None,
    sites: SitePattern = None, loss: LossCode = None, task: Task = None, variants: Variants = "",
    seeds: Seeds = None, until: Until = "", sets: Sets = None, device: Device = "auto", engine: EngineName = "auto",
    jobs: Jobs = None,
    executor: Executor = "local", cpus_per_job: CpusPerJob = None, gpus_per_job: GpusPerJob = None,
    max_in_flight: MaxInFlight = None, shared: SharedFolder = None,
    time_limit: TimeLimit = None, plugin: Plugins = None,
    store: StoreFolder = Path(".bncli"), data_dir: DataDir = None, json: Json = None, dry_run: DryRun = False,
    yes: Yes = False,
    events: EventsTo = None, results: From = None, variant_from: VariantFrom = None, seed_from: SeedFrom = None,
    check: CheckClaims = False, aa: AA = False, save_baseline: SaveBaseline = None, baseline: BaselineName = None,
    fail_if: FailIf = None, junit: Junit = None, markdown: Markdown = None, github: Github = False,
    plot: Plot = None, html: Html = None, history: History = None, export: Export = None, style: Style = "web",
    explain: Explain = False, plain: PlainText = False,
) -> None:  # fmt: skip
    """Train the variants of a preset and say which converges faster, by how much, and how sure that is."""
    if results is None and (variant_from or seed_from):
        raise ConfigError("--variant-from, --seed-from: say how runs made elsewhere are called; give --from FILE too")
    own = {"model": model, "weights": weights, "sites": sites, "loss": loss, "data": data, "task": task}
    how = placed(cpus_per_job, gpus_per_job, max_in_flight, shared) | prepare(
        preset, variants, seeds, sets, device, engine, jobs, executor, time_limit, plugin, store, data_dir, own, until,
        yes=yes,
    )  # fmt: skip
    if results is not None:
        _refuse_training({
            "PRESET": preset, **{f"--{key}": value for key, value in own.items()}, "--variants": variants,
            "--seeds": seeds, "--until": until,
            "--device": device != "auto", "--engine": engine != "auto", "--jobs": jobs,
            "--executor": executor != "local", "--cpus-per-job": cpus_per_job, "--gpus-per-job": gpus_per_job,
            "--max-in-flight": max_in_flight, "--shared": shared, "--time-limit": time_limit, "--plugin": plugin,
            "--data-dir": data_dir and "BNCLI_DATA" not in os.environ,
            "--dry-run": dry_run, "--yes": yes, "--events": events, "--check": check, "--aa": aa,
        })  # fmt: skip
    gate = {"check": check, "aa": aa, "save_baseline": save_baseline, "baseline": baseline, "fail_if": fail_if or ()}
    if dry_run:
        unused: dict[str, object] = {"--junit": junit, "--markdown": markdown, "--github": github, "--events": events}
        unused |= {"--plot": plot, "--html": html, "--export": export, "--history": history}
        show_plan(how, aa=aa, fresh=bool(save_baseline or baseline), json=json, unused=unused)
        return
    if results is None and not store.exists():  # so there is something to train
        from bncli.executors.local import start_early

        start_early(executor, device)

    from bncli import api
    from bncli.cli.destinations import append_history, command_line, read_destinations, write_destinations
    from bncli.cli.output import exit_for_checks, exit_for_failures, print_report, require_writable, show_outcome
    from bncli.cli.progress import line, show_progress

    destinations = read_destinations(
        "study", results.stem if results else how["preset"].stem, export, json=json, html=html, plot=plot, junit=junit,
        markdown=markdown, github=github,
        unchecked="" if check or aa or baseline else "--check, --baseline NAME or --aa",
        taken="--events -" if events == "-" else "",
    )  # fmt: skip
    require_writable(events=events, history=history)
    with show_progress(events, plain=plain) as (on_event, tell):
        if results is not None:
            asked = {"variant_from": variant_from, "seed_from": seed_from, "set": sets or (), "store": store}
            kept = {"save_baseline": save_baseline, "baseline": baseline, "fail_if": fail_if or ()}
            result = api.compare_results(results, **asked, **kept)  # type: ignore[arg-type] # dicts of options
        else:
            result = api.compare(**how, **gate, on_event=on_event)  # type: ignore[arg-type]
        result = replace(result, command=command_line())
        if events:
            document = result.document()
            said = {key: document.get(key) for key in ("answer", "headlines", "verdicts", "warnings")}
            tell(line({"event": "findings", **said}))
    if events != "-" and not any(each.takes_stdout for each in destinations):
        print_report(result.data(), explain=explain, plain=plain)
        print(f"\n{len(result.runs)} runs {'from' if results else 'in'} {result.store}")
        if result.checks and not plain:
            show_outcome(result.name, result.checks)
    write_destinations(result.data(), destinations, style)
    if history:
        from bncli.session.history import describe_study

        append_history(history, describe_study(result.findings, result.study.model_dump(mode="json")))
    if any(each.outcome == "failed" for each in result.checks):
        exit_for_checks(result.checks)  # a regression is one, whatever else failed
    exit_for_failures(result.runs)
    if save_baseline:
        from bncli.store.folder import Store

        print(f"baseline {Store(store).baseline(save_baseline)}", file=sys.stderr)
    exit_for_checks(result.checks)


def _refuse_training(given: Mapping[str, object]) -> None:
    """Refuse options that ask for a training, where the runs were made elsewhere."""
    if names := [name for name, value in given.items() if value]:
        raise ConfigError(
            f"{', '.join(names)}: --from compares runs that were made elsewhere, and trains nothing; leave"
            f" {'them' if len(names) > 1 else 'it'} out"
        )
