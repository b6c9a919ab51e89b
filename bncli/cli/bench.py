"""`bncli bench`: time norms against torch's batch norm and a plain copy; and the gate that finds what became slower."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bncli.cli.completion import complete_bench, complete_norm
from bncli.cli.destinations import Export, History, Html
from bncli.cli.options import (
    AA,
    CHECKS,
    WHERE,
    BaselineName,
    CheckClaims,
    Device,
    FailIf,
    Github,
    Json,
    PlainText,
    Plot,
    Plugins,
    SaveBaseline,
    StoreFolder,
    Style,
    Yes,
)
from bncli.errors import BncliError

if TYPE_CHECKING:
    from bncli.session.events import Event, OnEvent

CASES = "What is timed"  # the panel of --help for grids
BenchArgument = Annotated[
    str | None,
    typer.Argument(
        help="A shipped bench preset's name, or a YAML file: bench-quick, or with --norm those norms alone.",
        autocompletion=complete_bench, show_default=False,
    ),
]  # fmt: skip
Norms = Annotated[
    list[str] | None,
    typer.Option(
        help="Time these, instead of a preset's norms: batch,group(groups=8),mine.py:Norm.",
        metavar="NORM,...", autocompletion=complete_norm, rich_help_panel=CASES,
    ),
]  # fmt: skip
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        help="Inputs of these shapes, in the place of those of every grid: 32x64x56x56, N256C512.",
        metavar="SHAPE,...", rich_help_panel=CASES,
    ),
]  # fmt: skip
DTypes = Annotated[
    list[str] | None,
    typer.Option("--dtype", help="Of the inputs: f32, f64, bf16, f16.", metavar="DTYPE,...", rich_help_panel=CASES),
]
Passes = Annotated[
    list[str] | None,
    typer.Option(
        "--pass", help="What is timed: train-forward, train-backward, train-both, eval-forward.", metavar="PASS,...",
        rich_help_panel=CASES,
    ),
]  # fmt: skip
Layouts = Annotated[
    list[str] | None,
    typer.Option(
        "--layout", help="Of images in memory: nchw, channels_last.", metavar="LAYOUT,...", rich_help_panel=CASES
    ),
]
ThreadCounts = Annotated[
    list[str] | None,
    typer.Option("--threads", help="How many threads compute, on a CPU: 1,2.", metavar="N,...", rich_help_panel=CASES),
]
Compiled = Annotated[
    bool | None,
    typer.Option("--compile/--no-compile", help="Compile the norms by torch.compile.", rich_help_panel=CASES),
]
Versus = Annotated[
    str | None,
    typer.Option(
        "--vs", help="Time each case against this too, in the same process: a kernel or a norm.",
        metavar="FILE.py:NAME|NORM", rich_help_panel=CASES,
    ),
]  # fmt: skip
Only = Annotated[
    list[str] | None,
    typer.Option(help="Keep cases with this in their name, or matching it (*).", rich_help_panel=CASES),
]
Skip = Annotated[
    list[str] | None,
    typer.Option(help="Leave out cases with this in their name, or matching it (*).", rich_help_panel=CASES),
]
Kernel = Annotated[
    list[str] | None,
    typer.Option(help="Time your own too: a function of the channels.", metavar="FILE.py:NAME", rich_help_panel=CASES),
]
Truth = Annotated[
    str | None,
    typer.Option(
        help="What kernels must compute: a norm, or your own in plain torch.",
        metavar="NORM|FILE.py:NAME",
        rich_help_panel=CASES,
    ),
]
CaseTime = Annotated[
    float | None,
    typer.Option(
        "--time-limit", help="Seconds after which a case that gives no answer is ended (120).", rich_help_panel=WHERE
    ),
]
Warm = Annotated[
    bool,
    typer.Option("--warm", help="Leave the arguments in the cache instead of rotating copies.", rich_help_panel=WHERE),
]
Graph = Annotated[
    bool,
    typer.Option("--graph", help="On a GPU, time replayed CUDA graphs: kernels, not launches.", rich_help_panel=WHERE),
]
Profile = Annotated[
    bool,
    typer.Option(
        "--profile", help="Name the kernels that run, with their shares of the time, once all is timed.",
        rich_help_panel=WHERE,
    ),
]  # fmt: skip
Budget = Annotated[
    float | None, typer.Option(min=1, help="Seconds of measuring, instead of the preset's.", rich_help_panel=WHERE)
]
AnyMachine = Annotated[
    bool,
    typer.Option("--allow-other-machine", help="Compare with another machine's baseline too.", rich_help_panel=CHECKS),
]
Against = Annotated[
    str | None,
    typer.Option(help="Compare with another interpreter's bncli and torch.", metavar="PYTHON", rich_help_panel=CHECKS),
]


def bench(
    preset: BenchArgument = None, norm: Norms = None, kernel: Kernel = None, vs: Versus = None, shape: Shapes = None,
    dtype: DTypes = None, pass_: Passes = None, layout: Layouts = None, threads: ThreadCounts = None,
    compile: Compiled = None, only: Only = None, skip: Skip = None, truth: Truth = None,
    warm: Warm = False, graph: Graph = False, profile: Profile = False, budget: Budget = None,
    time_limit: CaseTime = None, device: Device = "auto", json: Json = None,
    html: Html = None, plot: Plot = None, history: History = None, export: Export = None, style: Style = "web",
    plain: PlainText = False,
    github: Github = False, save_baseline: SaveBaseline = None, baseline: BaselineName = None,
    fail_if: FailIf = None, allow_other_machine: AnyMachine = False, aa: AA = False, against: Against = None,
    check: CheckClaims = False, plugin: Plugins = None, store: StoreFolder = Path(".bncli"), yes: Yes = False,
) -> None:  # fmt: skip
    """Time norms against torch's own batch norm and a plain copy of the same bytes.

    The cases are those of a preset. --norm, --shape, --dtype, --pass, --layout, --threads and --compile take the place
    of what it says, in every grid; --norm without a preset is a grid of its own.
    """
    from bncli.plugins import add_plugins
    from bncli.presets import preset_path
    from bncli.session.bench_plan import open_bench, plan_bench
    from bncli.timing.grids import Axes

    path = preset_path(preset) if preset is not None else None  # first: a mistake is answered at once
    add_plugins(plugin or ())
    axes = Axes(norm or (), shape or (), dtype or (), pass_ or (), layout or (), threads or (), compile)
    name, asked = open_bench(path, axes)
    plan = plan_bench(
        asked, name, axes=axes, only=only or (), skip=skip or (), kernels=kernel or (), versus=vs, truth=truth,
        device=device, warm=warm, graph=graph, profile=profile, budget=budget, time_limit=time_limit, baseline=baseline,
        save_baseline=save_baseline, against=against, aa=aa, fail_if=fail_if or (),
        allow_other_machine=allow_other_machine, check=check, store=store, yes=yes,
    )  # fmt: skip

    from bncli.cli.destinations import append_history, command_line, read_destinations, write_destinations
    from bncli.cli.output import exit_for_checks, print_report, require_writable

    destinations = read_destinations(
        "bench", plan.name, export, json=json, html=html, plot=plot, github=github,
        unchecked="" if plan.checks_anything else "--baseline NAME, --against PYTHON, --aa or --check",
    )  # fmt: skip
    require_writable(history=history)
    from bncli.report.data import ReportData
    from bncli.report.timing.gate import list_checks
    from bncli.session.bench import BenchError, BenchInterrupted, measure_plan

    ending: typer.Exit | BncliError | None = None
    try:
        with show_progress(plain=plain) as on_event:
            record = measure_plan(plan, on_event)
    except BenchInterrupted as cut:
        print(cut, file=sys.stderr)
        if not (cut.record.rows or cut.record.failures):
            raise typer.Exit(130) from None
        record, ending = cut.record, typer.Exit(130)
    except BenchError as cut:
        record, ending = cut.record, cut.error
    checks = list_checks(record)
    study = asked.model_dump(mode="json") if asked else None
    data = ReportData(plan.name, record, study, (), checks, command_line())
    if not any(each.takes_stdout for each in destinations):
        print_report(data, plain=plain)
    write_destinations(data, destinations, style)
    if history and record.complete and record.rows:
        from bncli.session.history import describe_bench

        append_history(history, describe_bench(record))
    if ending:
        raise ending
    if any(failure.status != "wrong" for failure in record.failures):
        raise typer.Exit(2)  # each was said when it happened
    exit_for_checks(checks)


@contextmanager
def show_progress(*, plain: bool) -> "Iterator[OnEvent]":
    """What happens, on stderr: a bar on a terminal, a line a measurement elsewhere."""
    from bncli.cli.output import is_animated, stderr

    if plain or not is_animated():
        yield lambda event: print(line, file=sys.stderr, flush=True) if (line := describe(event)) else None
        return

    from rich.progress import Progress

    from bncli.session.events import Measured, Measuring

    with Progress(console=stderr(), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", visible=False)

        def tell(event: "Event") -> None:
            """Drawn between measurements only, so that it costs none of their time."""
            if isinstance(event, Measured):
                bar.update(task, completed=event.done, description=event.result.name, refresh=True)
                return
            if line := describe(event):
                bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            if isinstance(event, Measuring):
                bar.reset(task, total=event.total, description=f"{event.total} measurements", visible=True)
                bar.refresh()

        yield tell


def describe(event: "Event") -> str:
    """An event as a line; empty where there is nothing to say."""
    from bncli.format import written_ratio, written_seconds
    from bncli.report.timing.table import name_rival
    from bncli.session.events import BaselineSaved, Measured, Measuring, Warned

    match event:
        case Measuring(cases=names, remeasurement=True):
            return f"measuring again: {', '.join(names)}"
        case Measured(done, total, result):
            rival, ratio = next(iter(result.ratios.items()))
            seconds = written_seconds(result.seconds["case"].value)
            return f"[{done}/{total}] {result.name}: {seconds}, {written_ratio(ratio.value)} of {name_rival(rival)}"
        case Warned(text):
            return text
        case BaselineSaved(place):
            return f"baseline saved in {place}"
    return ""
