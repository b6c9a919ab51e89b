"""`bncli check-norm`: what of the contract of bncli's norms anybody's norm keeps."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bncli.cli.completion import complete_norm
from bncli.cli.inspect import Set
from bncli.cli.options import Json, Plugins

if TYPE_CHECKING:
    from bncli.norms.contract import ContractReport

AnyNorm = Annotated[
    str,
    typer.Argument(
        help="A class or function of the number of channels, or the name of a norm.",
        metavar="FILE.py:NAME|MODULE:NAME|NAME",
        autocompletion=complete_norm,
    ),
]


def check_norm(
    norm: AnyNorm,
    sets: Set = None,
    channels: Annotated[int, typer.Option(min=8, help="Channels of the inputs.")] = 8,
    time_limit: Annotated[float, typer.Option(help="Seconds for a check; for a compiler's four times as many.")] = 20.0,
    plugins: Plugins = None,
    json: Json = None,
) -> None:
    """Hold a norm of anybody's against the contract of bncli's own, and print what holds; on the CPU.

    Exit code 3 if a promise is broken; facts worth knowing are no failure.
    """
    from bncli.cli.output import require_writable, write
    from bncli.config.reading import override
    from bncli.plugins.norms import check_norm as check
    from bncli.report.study.json import dumps

    require_writable(json=json)
    options: dict[str, Any] = {}
    for text in sets or ():
        options = override(options, text, {})
    found = check(norm, channels=channels, plugins=plugins or (), time_limit=time_limit, what="NORM", **options)
    if json != "-":
        _show(found)
    if json:
        write(json, dumps(found.document()) + "\n", f"--json {json}")
    if found.broken:
        raise typer.Exit(3)


def _show(found: "ContractReport") -> None:
    """Promises, then facts; what was seen below what does not hold."""
    from rich.text import Text

    from bncli.cli.output import stdout
    from bncli.report.layout import say, wrapped

    console = stdout()
    styles = {"holds": "green", "does not hold": "red", "not applicable": "dim", "not tried": "yellow"}
    for promise, title in ((True, "promises"), (False, "worth knowing")):
        say(console, title, "bold")
        for row in found.rows:
            if row.promise == promise:
                line = Text(
                    wrapped(f" {row.status:<16}{row.check}{row.seen and ': '}{row.seen}", console.width, " " * 19)
                )
                line.stylize("yellow" if row.status == "does not hold" and not promise else styles[row.status], 0, 17)
                say(console, line)
        say(console, "")
    say(console, wrapped(found.headline, console.width))
