"""`bncli inspect`: the norms of any model, layer by layer, and what replacing them would change."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bncli.cli.completion import complete_norm
from bncli.cli.options import Json, Plugins

if TYPE_CHECKING:
    from rich.console import Console

    from bncli.norms.inspection import InspectedNorm, ModelInspection

ModelText = Annotated[
    str, typer.Argument(help="torchvision:NAME, timm:NAME, FILE.py:NAME or MODULE:NAME; no trained weights are loaded.")
]
To = Annotated[
    str, typer.Option(help="A norm that would replace them, by name or FILE.py:NAME.", autocompletion=complete_norm)
]
Set = Annotated[list[str] | None, typer.Option("--set", help="An option of that norm.", metavar="KEY=VALUE")]
Sites = Annotated[str | None, typer.Option(help='Only norms whose path fits this: "layer4.*".', metavar="PATTERN")]
InputShape = Annotated[str, typer.Option(help="Of one input: 3,64,64; else guessed from the first layer.")]


def inspect(
    model: ModelText,
    to: To = "",
    sets: Set = None,
    sites: Sites = None,
    shape: InputShape = "",
    batch: Annotated[int, typer.Option(min=1, help="Inputs in a batch, where --shape is given.")] = 8,
    plugins: Plugins = None,
    json: Json = None,
) -> None:
    """Print the norms of a model layer by layer: what would replace each, what not and why, and what that changes."""
    from bncli.cli.output import stdout, write
    from bncli.config.reading import override
    from bncli.errors import ConfigError
    from bncli.norms.inspection import inspect_model
    from bncli.plugins import add_plugins
    from bncli.plugins.code import resolve_code
    from bncli.plugins.models import build_model
    from bncli.report.study.json import dumps

    add_plugins(plugins or ())
    options: dict[str, Any] = {}
    for text in sets or ():
        options = override(options, text, {})
    if (sites or options) and not to:
        raise ConfigError("--sites and --set are about the norm that would replace others; say --to NORM")
    new = resolve_code(to, "--to") if ":" in to else to
    found = inspect_model(build_model(model), new, inputs=_draw(shape, batch), where=sites, **options)
    if json:
        write(json, dumps({"model": model, **found.document()}) + "\n", f"--json {json}")
    if json != "-":
        _show(model, found, stdout())


def _draw(shape: str, batch: int) -> Any:
    """Numbers of a normal distribution, of the shape given; None if none is."""
    from bncli.errors import ConfigError
    from bncli.norms.inspection import draw_inputs

    if not shape:
        return None
    sizes = shape.replace("x", ",").split(",")
    if not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise ConfigError(f"--shape {shape}: expected whole numbers, as in 3,64,64")
    return draw_inputs(batch, *map(int, sizes))


def _show(model: str, found: "ModelInspection", console: "Console") -> None:
    """The table, what stays, and the totals."""
    from bncli.report.layout import say, stacked, table, width, wrapped

    room, columns = console.width, _build_columns(found)
    for line in table(columns) if width(columns) <= room else stacked(columns, 1, room):
        say(console, line)
    say(console, "")
    for note in _list_notes(model, found):
        say(console, wrapped(note, room, "  "))


def _build_columns(found: "ModelInspection") -> list[Any]:
    from rich.text import Text

    from bncli.report.layout import Column

    def column(title: str, cells: Sequence[str], *, right: bool = False) -> Column:
        return Column(title, tuple(Text(cell) for cell in cells), right=right, gap=2)

    def numbers(title: str, name: str) -> Column:
        cells = []
        for row in found.rows:
            after = getattr(row.after, name) if row.after else None
            cells.append(_change(getattr(row.before, name), after, replaced=row.new != ""))
        return column(title, cells, right=True)

    named = [", ".join((row.path or "the model itself", *row.also)) for row in found.rows]
    new = column("becomes", [_describe(row) for row in found.rows])
    return [
        column("norm", named), column("is", [row.old for row in found.rows]), *([new] if found.to else []),
        numbers("parameters", "parameters"), numbers("buffers", "buffers"), numbers("operations", "operations"),
        column("output", [" x ".join(map(str, row.before.shape or ("?",))) for row in found.rows]),
        numbers("mean", "mean"), numbers("std", "std"), numbers("averages over", "averages_over"),
    ]  # fmt: skip


def _describe(row: "InspectedNorm") -> str:
    groups = f", {row.options['groups']} groups" if "groups" in row.options else ""
    return f"{row.new}{groups}" if row.new else "stays"


def _change(before: float | None, after: float | None, *, replaced: bool) -> str:
    old, new = _write(before), _write(after)
    return old if old == new or not replaced else f"{old} -> {new}"


def _write(number: float | None) -> str:
    if number is None:
        return "?"
    return f"{number:,}" if isinstance(number, int) else f"{number:.2g}" if abs(number) > 1e-6 else "0"


def _list_notes(model: str, found: "ModelInspection") -> list[str]:
    """What a reader must know besides the table."""
    told: dict[str, list[str]] = {}
    for row in found.rows:
        for note in ([f"{row.old} {row.reason}"] if row.reason and row.reason != "not chosen" else []) + [*row.notes]:
            told.setdefault(note, []).append(row.path or "the model itself")
    lines = [f"{', '.join(paths)}: {note}" for note, paths in told.items()]
    lines += [f"{each} is no module: out of reach" for each in found.functional]
    for names, what in ((found.bias_added, "would get a bias"), (found.bias_dropped, "would lose its bias")):
        lines += [f"{', '.join(names)}: {what}"] if names else []
    lines += found.notes
    sizes = []
    for title in ("parameters", "buffers", "operations"):
        before, after = getattr(found.before, title), getattr(found.after, title) if found.after else None
        sizes.append(f"{_change(before, after, replaced=found.after is not None)} {title}")
    shapes = "; ".join(" x ".join(map(str, shape)) for shape in found.inputs)
    guess = " (guessed from the first layer; --shape says another)" if found.guessed and shapes else ""
    lines.append(f"{model}: {len(found.rows)} norms, {', '.join(sizes)}, for inputs {shapes or 'unknown'}{guess}")
    lines.append(
        "Operations are those of a forward pass in training; mean and std are of the output before training; 'averages"
        " over' is how many values stand behind each statistic (0: it takes none; ?: several kinds)."
    )
    return lines
