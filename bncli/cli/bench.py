"""`bncli bench`: time norms against torch's batch norm and a plain copy."""

from typing import Annotated

import typer

from bncli.cli.options import Json, complete_bench

BenchArgument = Annotated[
    str, typer.Argument(help="A shipped bench preset's name, or a YAML file.", autocompletion=complete_bench)
]
Only = Annotated[list[str] | None, typer.Option(help="Keep cases with this in their name, or matching it (*).")]
Skip = Annotated[list[str] | None, typer.Option(help="Leave out cases with this in their name, or matching it (*).")]
Kernel = Annotated[
    list[str] | None, typer.Option(help="Time your own too: a function of the channels.", metavar="MODULE:ATTR")
]
Warm = Annotated[bool, typer.Option("--warm", help="Leave the arguments in the cache instead of rotating copies.")]
Budget = Annotated[float | None, typer.Option(min=1, help="Seconds of measuring, instead of the preset's.")]
Export = Annotated[
    list[str] | None,
    typer.Option(help="Write a file: json, csv, md, pytest-benchmark, gha or bmf.", metavar="FORMAT:PATH"),
]
GitHub = Annotated[bool, typer.Option("--github", help="Append a table to $GITHUB_STEP_SUMMARY.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]


def bench(
    preset: BenchArgument = "bench-quick", only: Only = None, skip: Skip = None, kernel: Kernel = None,
    warm: Warm = False, budget: Budget = None, device: Device = "auto", json: Json = None, export: Export = None,
    github: GitHub = False,
) -> None:  # fmt: skip
    """Time norms against torch's own batch norm and a plain copy of the same bytes."""
    from bncli.bench.cases import cases_of, chosen
    from bncli.config import read_bench
    from bncli.presets import preset_path

    path = preset_path(preset)  # first: a mistake is answered before anything heavy is imported
    asked = read_bench(path)
    cases = chosen(cases_of(asked, "cpu", kernel or ()), only or (), skip or ())

    from bncli.cli.bench_exports import places_of, write_all

    places = places_of(export or (), json, github=github)

    from bncli.cli.bench_session import measured
    from bncli.cli.console import stdout
    from bncli.report.bench_table import show

    record = measured(path.stem, asked, cases, device, budget or asked.budget, warm=warm)
    write_all(record, places)
    if json != "-":
        show(record, stdout())
    if len(record.rows) < record.cases:
        raise typer.Exit(130)
