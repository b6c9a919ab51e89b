"""The options that commands share, and what those that train a study do with them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bncli.cli.completion import complete_key, complete_norm, complete_preset, one_of

# Panels of --help
WHAT = "What is compared"
OWN = "Your own model"
WHERE = "Where and how it runs"
PLACES = "Where jobs run on a cluster"
OUT = "What is written"
CHECKS = "Checks"  # what can fail


PresetArgument = Annotated[
    str | None,
    typer.Argument(help="A shipped preset's name, or a YAML file.", autocompletion=complete_preset, show_default=False),
]
ModelCode = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Train another model: its norms are replaced by each variant's.",
        metavar="NAME|FILE.py:NAME|torchvision:NAME|timm:NAME",
        rich_help_panel=OWN,
    ),
]
Weights = Annotated[
    Path | None, typer.Option(help="Trained weights for it, a state_dict.", metavar="FILE", rich_help_panel=OWN)
]
SitePattern = Annotated[
    str | None,
    typer.Option(
        "--sites", help='Replace only norms whose path fits this: "layer4.*".', metavar="PATTERN", rich_help_panel=OWN
    ),
]
LossCode = Annotated[
    str | None,
    typer.Option(
        "--loss",
        help="cross_entropy, squared_error, or a function of yours.",
        metavar="NAME|FILE.py:NAME",
        rich_help_panel=OWN,
    ),
]
Variants = Annotated[
    str,
    typer.Option(
        help="Compare only these: variants of the preset, or norms (a,b,c).",
        autocompletion=complete_norm,
        rich_help_panel=WHAT,
    ),
]
Seeds = Annotated[str | None, typer.Option(help="How many seeds (5), or which (0..9).", rich_help_panel=WHAT)]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Compare runs made elsewhere: a table, or a folder of logs.",
        metavar="FILE|FOLDER",
        rich_help_panel=WHAT,
    ),
]
VariantFrom = Annotated[
    str | None,
    typer.Option(help="With --from: what says a run's variant.", metavar="COLUMN|PATTERN", rich_help_panel=WHAT),
]
SeedFrom = Annotated[
    str | None,
    typer.Option(
        help="With --from: what says a run's seed, as 'seed(\\d+)'.", metavar="COLUMN|PATTERN", rich_help_panel=WHAT
    ),
]
Until = Annotated[
    str,
    typer.Option(
        help="Add seeds while a headline is open: 5, 8, 10, 15, 20, 30, 50 of them; --seeds is the most.",
        metavar="decided",
        rich_help_panel=WHAT,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a key of the preset: key=value; key=v1,v2 sweeps.",
        metavar="KEY=VALUE",
        autocompletion=complete_key,
        rich_help_panel=WHAT,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, or mps where networks are trained.",
        autocompletion=one_of("auto", "cpu", "cuda", "mps"),
        rich_help_panel=WHERE,
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        help="auto, or plain: one run at a time and nothing traced, the reference.",
        metavar="auto|plain",
        autocompletion=one_of("auto", "plain"),
        rich_help_panel=WHERE,
    ),
]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Worker processes; default: one a core, or one a GPU.", rich_help_panel=WHERE)
]
Executor = Annotated[
    str,
    typer.Option(
        help="What carries jobs to workers: this machine, a cluster of Ray or Dask, or your own factory.",
        metavar="local|ray[:ADDRESS]|dask:ADDRESS|FILE.py:FACTORY",
        rich_help_panel=WHERE,
    ),
]
CpusPerJob = Annotated[
    float | None, typer.Option(min=0, help="Processors that a job has of a cluster.", rich_help_panel=PLACES)
]
GpusPerJob = Annotated[
    float | None, typer.Option(min=0, help="GPUs that a job has; 0.25 puts four on one.", rich_help_panel=PLACES)
]
MaxInFlight = Annotated[
    int | None, typer.Option(min=1, help="Jobs given to workers at once, at most.", rich_help_panel=PLACES)
]
SharedFolder = Annotated[
    Path | None,
    typer.Option(
        help="A folder that all machines see: for progress, and for checkpoints of killed jobs.",
        metavar="FOLDER",
        rich_help_panel=PLACES,
    ),
]
TimeLimit = Annotated[
    float | None, typer.Option(help="Seconds after which a job is ended, as timed out.", rich_help_panel=WHERE)
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        help="A file or module that adds norms, models, data and more.",
        metavar="FILE.py|MODULE",
        rich_help_panel=WHERE,
    ),
]
StoreFolder = Annotated[
    Path, typer.Option("--store", envvar="BNCLI_STORE", help="Where finished runs are kept.", rich_help_panel=WHERE)
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Train on other data: a data set, arrays, text, a folder of images.",
        metavar="NAME|FILE.npz|FILE.txt|FOLDER|hf:NAME",
        rich_help_panel=WHAT,
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        help="Train a loop of your own: a generator that yields numbers.",
        metavar="FILE.py:NAME|MODULE:NAME",
        rich_help_panel=WHAT,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(envvar="BNCLI_DATA", help="Another folder with the files of a data set.", rich_help_panel=WHERE),
]
Plot = Annotated[
    Path | None, typer.Option(help="Write the figures into this folder, as SVG, PDF and PNG.", rich_help_panel=OUT)
]
Json = Annotated[
    str | None, typer.Option(help="Write one JSON document here; - is stdout.", metavar="PATH|-", rich_help_panel=OUT)
]
Yes = Annotated[
    bool, typer.Option("--yes", help="Train also what is so much that it may be a mistake.", rich_help_panel=WHERE)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and train nothing.", rich_help_panel=WHERE)]
Style = Annotated[
    Literal["paper", "slides", "web"],
    typer.Option(help="Size and type of figures: paper is one column, 3.3 in at 8 points.", rich_help_panel=OUT),
]
PlainText = Annotated[
    bool,
    typer.Option(
        "--plain",
        envvar="BNCLI_PLAIN",
        help="A line a fact, for screen readers and logs: no tables, drawings or bars.",
        rich_help_panel=OUT,
    ),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Say all footnotes, each with a paragraph.", rich_help_panel=OUT)
]
CheckClaims = Annotated[
    bool,
    typer.Option(
        "--check", help="Judge the preset's claims: exit 3 if one is refuted, 4 if open.", rich_help_panel=CHECKS
    ),
]
Junit = Annotated[
    Path | None, typer.Option(help="Write the checks as JUnit XML here.", metavar="FILE", rich_help_panel=CHECKS)
]
Markdown = Annotated[
    Path | None,
    typer.Option(help="Write answer, table and checks as Markdown here.", metavar="FILE", rich_help_panel=CHECKS),
]
Github = Annotated[
    bool,
    typer.Option(
        "--github",
        help="On GitHub: add a table to the job's summary, and annotate the change where a check did not pass.",
        rich_help_panel=CHECKS,
    ),
]
EventsTo = Annotated[
    str | None,
    typer.Option(
        "--events", help="Write what happens as JSON lines here; - is stdout.", metavar="FILE|-", rich_help_panel=OUT
    ),
]
AA = Annotated[
    bool,
    typer.Option(
        "--aa",
        help="Compare with itself, for what chance alone does: the reference on other seeds, or code timed twice.",
        rich_help_panel=CHECKS,
    ),
]
SaveBaseline = Annotated[
    str | None,
    typer.Option(
        help="Measure with the code as it is now, and keep the result under this name.",
        metavar="NAME|FILE",
        rich_help_panel=CHECKS,
    ),
]
BaselineName = Annotated[
    str | None,
    typer.Option(
        help="Measure with the code as it is now, and hold the result against this.",
        metavar="NAME|FILE",
        rich_help_panel=CHECKS,
    ),
]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        help="How far from the baseline is too far: steps_to_target:+10%, or batch/*=ratio:+5%.",
        metavar="[PATTERN=]MEASURE:CHANGE",
        rich_help_panel=CHECKS,
    ),
]


def prepare(
    preset: str | None, variants: str, seeds: str | None, sets: Sequence[str] | None, device: str, engine: str,
    jobs: int | None, executor: str, time_limit: float | None, plugins: Sequence[str] | None, store: Path,
    data_dir: Path | None, own: Mapping[str, Any], until: str = "", default: str = "quickstart", *, yes: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The arguments of a function of `bncli.api`, from those of a command.

    Without a preset it is `default`, or `own` for a model or data of somebody's. BNCLI_COMPILE=0 turns tracing off, for
    looking at faults.

    Raises:
        ConfigError: if there is no such preset: a mistyped name is answered before anything heavy is imported; or
            within torchrun, each of whose processes would train the whole study.
    """
    from bncli.errors import ConfigError
    from bncli.presets import preset_path

    if (processes := os.environ.get("WORLD_SIZE") or "1") != "1":
        raise ConfigError(
            f"torchrun (WORLD_SIZE={processes}) starts this command {processes} times, and each would train everything;"
            f" run it once, with --set training.ranks={processes}: bncli starts a run's ranks itself, on one machine"
        )
    preset = preset or ("task" if own.get("task") else "own" if own["model"] or own["data"] else default)
    untraced = engine == "auto" and os.environ.get("BNCLI_COMPILE") == "0"
    return {
        "preset": preset_path(preset),
        "variants": variants, "seeds": seeds, "set": sets or (), "device": device,
        "engine": "untraced" if untraced else engine, "jobs": jobs, "executor": executor, "time_limit": time_limit,
        "plugins": plugins or (), "store": store, "data_dir": data_dir, "yes": yes, **own,
        **({"until": until} if until else {}),
    }  # fmt: skip


def placed(
    cpus_per_job: float | None, gpus_per_job: float | None, max_in_flight: int | None, shared: Path | None
) -> dict[str, Any]:
    """The argument of a function of `bncli.api` that says what jobs are to have of the workers."""
    from bncli.executors import Placement

    return {"placement": Placement(cpus_per_job, gpus_per_job, max_in_flight, shared and shared.absolute())}


def opened(how: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What must be loaded for a study, and the arguments of `bncli.api.open_study`."""
    from bncli.session.study import Yours, code_of

    own = ("model", "weights", "sites", "loss", "data", "task")
    yours = Yours(**{key: how[key] for key in own if key in how})
    asked = {key: value for key, value in how.items() if key not in (*own, "plugins")}
    return code_of(yours, how["plugins"]), {**asked, "yours": yours}


def show_plan(
    how: dict[str, Any], *, aa: bool = False, fresh: bool = False, probed: bool = False, json: str | None = None,
    unused: Mapping[str, object] | None = None,
) -> None:  # fmt: skip
    """Print what a command would do, and write it as one JSON document where that is asked for.

    Raises:
        ConfigError: for options of `unused` that are given: what they would write is of results.
    """
    from bncli.errors import ConfigError

    if names := [name for name, value in (unused or {}).items() if value]:
        raise ConfigError(
            f"{', '.join(names)}: --dry-run trains nothing and has no results to write; leave one of them out"
        )

    from bncli.api import open_study
    from bncli.cli.output import require_writable, write
    from bncli.plugins import using
    from bncli.session.study import describe_plan, list_plan

    require_writable(json=json)
    code, asked = opened(how)
    with using(code):
        session = open_study(**asked | {"yes": True}, aa=aa, fresh=fresh, probed=probed)
        if json != "-":
            print(describe_plan(session))
        if json:
            from bncli.report.study.json import dumps

            write(json, dumps(list_plan(session)) + "\n", f"--json {json}")
