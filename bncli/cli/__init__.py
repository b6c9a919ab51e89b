"""The command line: the only package that knows Typer and exit codes. One file a command, imported only when run."""

import sys
from collections.abc import Callable, Mapping, Sequence
from errno import ELOOP, ENAMETOOLONG
from itertools import pairwise
from typing import Annotated

import typer

from bncli.cli.bench import bench
from bncli.cli.check_norm import check_norm
from bncli.cli.compare import compare
from bncli.cli.doctor import doctor
from bncli.cli.export import export
from bncli.cli.inspect import inspect
from bncli.cli.ls import ls
from bncli.cli.shift_report import shift_report
from bncli.cli.show import show
from bncli.cli.status import status
from bncli.cli.store import merge, prune, store, verify
from bncli.cli.train import train
from bncli.cli.validate import validate
from bncli.errors import BncliError, ConfigError, UndecidedError, as_line

app = typer.Typer(
    name="bncli",
    help="Settle arguments about normalisation in neural networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 2 your mistake, 3 a gate failed, 4 a gate could not be decided, 5 some runs failed, "
    "130 interrupted (run again to continue).",
)
TAUGHT: Mapping[Callable[..., None], tuple[str, ...]] = {  # command -> examples, and where there is more
    compare: ("bncli compare", "bncli compare figure1 --variants batch,layer --seeds 10", "docs/studies.md"),
    train: ("bncli train quickstart --jobs 2", "bncli train my-study.yaml --dry-run", "docs/studies.md"),
    shift_report: (
        "bncli shift-report",
        "bncli shift-report --layers 'hidden.2*' --metrics percentile-drift --plot figures",
        "docs/shift.md",
    ),
    bench: ("bncli bench", "bncli bench bench-ci --baseline main --fail-if ratio:+5%", "docs/bench.md"),
    inspect: ("bncli inspect torchvision:resnet18", "bncli inspect net.py:Net --to group", "docs/yours.md"),
    check_norm: ("bncli check-norm batch", "bncli check-norm my_norms.py:FastNorm --json -", "docs/kernel-writers.md"),
    export: ("bncli export quickstart --to runs.csv", "bncli export --variants batch --to -", "docs/yours.md"),
    doctor: ("bncli doctor", "bncli doctor && bncli bench", "docs/bench.md"),
    ls: ("bncli ls norms iternorm", "bncli ls keys training", "docs/presets.md"),
    validate: ("bncli validate my-study.yaml", "bncli validate presets/*.yaml", "docs/presets.md"),
    show: ("bncli show quickstart --export html", "bncli show a.json b.json", "docs/exports.md"),
    status: ("bncli status", "bncli status quickstart --json -", "docs/store.md"),
    merge: ("bncli store merge /mnt/other/.bncli", "bncli store merge a b --store both", "docs/store.md"),
    prune: ("bncli store prune --study quickstart --dry-run", "bncli store prune --older-than 30d", "docs/store.md"),
    verify: ("bncli store verify", "bncli store verify --store /mnt/results", "docs/store.md"),
}


def _teach(*taught: str) -> str:
    """What stands below the options of a command's help: examples, a line each, and the page."""
    *examples, page = taught
    return "\n\n".join(["Examples:", *(f"$ {each}" for each in examples), f"More: {page}"])


for command, taught in TAUGHT.items():
    (store if command in (merge, prune, verify) else app).command(epilog=_teach(*taught))(command)
app.add_typer(store)


def _version(wanted: bool) -> None:
    if wanted:
        from bncli.code_hash import VERSION

        typer.echo(f"bncli {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty value or list, whatever it is of: `--baseline "$BASE"` without BASE would be no gate, and pass.

    Raises:
        ConfigError: that names the option, or the argument's place.
    """
    for place, (before, text) in enumerate(pairwise(["", *arguments]), 1):
        option, equals, value = text.partition("=")
        if not text.strip(" \t\n,"):
            flag = before if before.startswith("-") and "=" not in before else f"argument {place}"
        elif option.startswith("--") and equals and not value.strip(" \t\n,"):
            flag = option
        else:
            continue
        raise ConfigError(f"{flag}: is empty; give a value or leave it out (is a variable not set?)")


def main() -> None:
    """Run the command line; a user's mistake is a line on stderr and exit 2, a gate that cannot be decided exit 4."""
    try:
        _refuse_empty(sys.argv[1:])
        app()
    except BncliError as error:
        print(error, file=sys.stderr)
        sys.exit(4 if isinstance(error, UndecidedError) else 2)
    except OSError as error:
        if error.errno not in (ENAMETOOLONG, ELOOP):
            raise
        print(f"{as_line(str(error.filename)):.100}: cannot be used ({error.strerror})", file=sys.stderr)
        sys.exit(2)  # none of the names that we give is
