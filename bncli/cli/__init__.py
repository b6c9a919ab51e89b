"""The command line: the only package that knows Typer and exit codes. One file a command, imported only when run."""

import sys
from collections.abc import Sequence
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
from bncli.cli.status import status
from bncli.cli.store import store
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
for command in (compare, train, shift_report, bench, inspect, check_norm, export, doctor, ls, validate, status):
    app.command()(command)
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
