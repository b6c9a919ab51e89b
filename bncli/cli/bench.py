"""`bncli bench`: time norms against torch's batch norm and a plain copy; and the gate that finds what became slower."""

from pathlib import Path
from typing import Annotated

import typer

from bncli.cli.options import Json, StoreFolder, complete_bench

GATE = "Checks"
BenchArgument = Annotated[
    str, typer.Argument(help="A shipped bench preset's name, or a YAML file.", autocompletion=complete_bench)
]
Only = Annotated[list[str] | None, typer.Option(help="Keep cases with this in their name, or matching it (*).")]
Skip = Annotated[list[str] | None, typer.Option(help="Leave out cases with this in their name, or matching it (*).")]
Kernel = Annotated[
    list[str] | None, typer.Option(help="Time your own too: a function of the channels.", metavar="MODULE:ATTR")
]
Warm = Annotated[bool, typer.Option("--warm", help="Leave the arguments in the cache instead of rotating copies.")]
Graph = Annotated[bool, typer.Option("--graph", help="On a GPU, time replayed CUDA graphs: kernels, not launches.")]
Budget = Annotated[float | None, typer.Option(min=1, help="Seconds of measuring, instead of the preset's.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Export = Annotated[
    list[str] | None,
    typer.Option(help="Write a file: json, csv, md, junit, pytest-benchmark, gha or bmf.", metavar="FORMAT:PATH"),
]
GitHub = Annotated[bool, typer.Option("--github", help="Append a table to $GITHUB_STEP_SUMMARY.")]
Save = Annotated[
    str | None, typer.Option("--save-baseline", help="Keep the ratios under this name.", metavar="NAME|FILE",
                             rich_help_panel=GATE)
]  # fmt: skip
Baseline = Annotated[
    str | None, typer.Option(help="Compare with a baseline saved before.", metavar="NAME|FILE", rich_help_panel=GATE)
]
FailIf = Annotated[
    list[str] | None,
    typer.Option(help="What is too slow: ratio:+5%, or batch/*=ratio:+3%.", metavar="RULE", rich_help_panel=GATE),
]
AnyMachine = Annotated[
    bool,
    typer.Option("--allow-other-machine", help="Compare with another machine's baseline too.", rich_help_panel=GATE),
]
Check = Annotated[
    bool, typer.Option("--check", help="Judge the preset's claims; exit 3 if one is refuted.", rich_help_panel=GATE)
]
Itself = Annotated[bool, typer.Option("--aa", help="Compare this code with itself: the noise.", rich_help_panel=GATE)]
Against = Annotated[
    str | None,
    typer.Option(help="Compare with another interpreter's bncli and torch.", metavar="PYTHON", rich_help_panel=GATE),
]


def bench(
    preset: BenchArgument = "bench-quick", only: Only = None, skip: Skip = None, kernel: Kernel = None,
    warm: Warm = False, graph: Graph = False, budget: Budget = None, device: Device = "auto", json: Json = None,
    export: Export = None, github: GitHub = False, save_baseline: Save = None, baseline: Baseline = None,
    fail_if: FailIf = None, allow_other_machine: AnyMachine = False, aa: Itself = False, against: Against = None,
    check: Check = False, store: StoreFolder = Path(".bncli"),
) -> None:  # fmt: skip
    """Time norms against torch's own batch norm and a plain copy of the same bytes."""
    from bncli.cli.bench_gate import claims_asked, device_asked, gate_asked
    from bncli.config import read_bench
    from bncli.presets import preset_path
    from bncli.timing.cases import choose_cases, expand_cases

    path = preset_path(preset)  # first: a mistake is answered before anything heavy is imported
    asked = read_bench(path)
    where = device_asked(device, graph=graph)
    cases = choose_cases(expand_cases(asked, where, kernel or ()), only or (), skip or ())
    gate = gate_asked(
        cases, fail_if or (), baseline, save_baseline, against, aa=aa, any_machine=allow_other_machine, store=store
    )
    claims = claims_asked(check, asked, cases, gate)

    from bncli.cli.bench_exports import places_of, refuse_junit_of_nothing, write_all

    places = places_of(export or (), json, github=github)
    refuse_junit_of_nothing(places, gate, claims)

    from bncli.cli.bench_session import measured
    from bncli.cli.checks import exit_for_checks
    from bncli.cli.console import stdout
    from bncli.report.timing.gate import list_checks
    from bncli.report.timing.table import show
    from bncli.timing.subjects import Effort

    effort = Effort(warm=warm or asked.warm or graph, graph=graph)
    record, error = measured(path.stem, asked, cases, where, budget or asked.budget, gate, claims, effort)
    if not any(place.path == "-" for place in places):
        show(record, stdout())
    write_all(record, places)
    if error:
        raise error
    if not record.whole:
        raise typer.Exit(130)
    exit_for_checks(list_checks(record))
