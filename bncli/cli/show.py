"""`bncli show`: what is stored, shown again in any format, or two of it side by side; nothing is trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bncli.cli.completion import complete_study, one_of
from bncli.cli.destinations import Export, Html
from bncli.cli.options import WHAT, Explain, Json, PlainText, Plot, Plugins, StoreFolder, Style
from bncli.errors import BncliError, ConfigError, StoreError, as_line

if TYPE_CHECKING:
    from bncli.cli.destinations import Destination
    from bncli.report.exports import AnyReport
    from bncli.report.figures.style import StyleName
    from bncli.report.sheet import Sheet

What = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[STUDY|ID|PRESET|FILE.json|FILE.jsonl]...",
        help="A stored study, a preset whose runs are stored, what --json wrote, a history; two to hold them side by"
        " side, or two stores. Left out: the study last asked.",
        autocompletion=complete_study,
        show_default=False,
    ),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="Of a probed study: study compares it, shift reports its shift (default).",
        metavar="study|shift",
        autocompletion=one_of("study", "shift"),
        rich_help_panel=WHAT,
    ),
]


def show(
    what: What = None, as_: As = None, explain: Explain = False, plain: PlainText = False, json: Json = None,
    html: Html = None, plot: Plot = None, export: Export = None, style: Style = "web", plugin: Plugins = None,
    store: StoreFolder = Path(".bncli"),
) -> None:  # fmt: skip
    """Show again what is stored, in any format, or two of it side by side. Nothing is trained."""
    from bncli.cli.destinations import read_destinations
    from bncli.report.exports import kind_of

    named = what or [""]
    if len(named) > 2:
        raise ConfigError(f"show: takes one or two, got {len(named)}: {', '.join(named)}")
    shown: Sequence[AnyReport]
    if len(named) == 2:
        shown = _lay_out_pairs(named[0], named[1], store, as_, plugin or ())
    elif Path(named[0]).suffix == ".jsonl":
        shown = [_lay_out_history(Path(named[0]))]
    else:
        from bncli.api.stored import read_report

        shown = [read_report(named[0], store=store, kind=as_, plugins=plugin or ())]
    given = {"--json": json, "--html": html, "--plot": plot, "--export": export}
    if len(shown) > 1 and (names := [name for name, value in given.items() if value]):
        raise ConfigError(f"{', '.join(names)}: the stores have {len(shown)} studies in common; name one of each")
    destinations = read_destinations(
        kind_of(shown[0]), shown[0].name, export, json=json, html=html, plot=plot,
        unchecked="" if shown[0].checks else "--check, --baseline NAME or --aa to the command that measures",
    )  # fmt: skip
    with _of_a_whole_document(named):
        _put_out(shown, destinations, style, explain=explain, plain=plain)


def _put_out(
    shown: "Sequence[AnyReport]", destinations: "Sequence[Destination]", style: "StyleName", *, explain: bool,
    plain: bool,
) -> None:  # fmt: skip
    """Print reports, unless stdout is taken, and write the first wherever it is wanted."""
    from bncli.cli.destinations import write_destinations
    from bncli.cli.output import print_report, show_outcome
    from bncli.report.exports import kind_of

    for number, each in enumerate(shown if not any(place.takes_stdout for place in destinations) else ()):
        print("\n" * bool(number), end="")
        print_report(each, explain=explain, plain=plain)
        if each.checks and not plain and kind_of(each) in ("study", "shift", "runs"):  # others print theirs
            show_outcome(each.name, each.checks)
    write_destinations(shown[0], destinations, style)


@contextmanager
def _of_a_whole_document(named: Sequence[str]) -> Iterator[None]:
    """A document may be of the right form and lack what a table is made from.

    Raises:
        StoreError: that says so, of whatever came of it.
    """
    try:
        yield
    except (BncliError, typer.Exit, OSError):
        raise
    except Exception as error:
        if files := [name for name in named if Path(name).suffix == ".json"]:
            why = f"{type(error).__name__}: {as_line(str(error))}"
            raise StoreError(f"{', '.join(files)}: not a whole document ({why:.100})") from None
        raise


def _lay_out_pairs(first: str, second: str, store: Path, kind: str | None, plugins: Sequence[str]) -> "list[Sheet]":
    """Two reports side by side, or of two stores every study that both hold."""
    from bncli.api.stored import read_report
    from bncli.report.exports import KIND_NAMES, kind_of
    from bncli.report.pair import lay_out_pair

    pairs = [(first, store, second, store)]
    if Path(first).is_dir() and Path(second).is_dir():
        pairs = [(key, Path(first), key, Path(second)) for key in _list_common(Path(first), Path(second))]
    found = []
    for ours, here, theirs, there in pairs:
        a = read_report(ours, store=here, kind=kind, plugins=plugins)
        b = read_report(theirs, store=there, kind=kind, plugins=plugins)
        if kind_of(a) != kind_of(b):
            kinds = f"{KIND_NAMES[kind_of(a)]} and {KIND_NAMES[kind_of(b)]}"
            raise ConfigError(f"{first}, {second}: {kinds} measure nothing in common; --as study or --as shift chooses")
        names = (f"{a.name} in {here}", f"{b.name} in {there}") if here != there else (first, second)
        found.append(lay_out_pair(a, b, names))
    return found


def _lay_out_history(place: Path) -> "Sheet":
    """What --history has written."""
    from bncli.report.history import lay_out_history
    from bncli.session.history import list_trends, read_history

    entries, problems = read_history(place)
    if not entries:
        raise StoreError("\n".join(problems) or f"{place}: is empty; --history of `bncli bench` and `compare` fills it")
    return lay_out_history(place.stem, list(list_trends(entries)), problems)


def _list_common(first: Path, second: Path) -> Sequence[str]:
    from bncli.store.folder import require_store
    from bncli.store.studies import Studies

    for folder in (first, second):
        require_store(folder)
    common = [key for key in Studies(first).ids() if key in Studies(second).ids()]
    if not common:
        raise StoreError(f"{first} and {second} hold no study in common; `bncli ls studies --store` lists each")
    return common
