"""Where findings go: `--export FORMAT:PATH` and its short forms, refused before anything is trained."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bncli.cli.completion import complete_format
from bncli.cli.options import CHECKS, OUT
from bncli.cli.output import refuse_place, write
from bncli.errors import BncliError, ConfigError

if TYPE_CHECKING:
    from bncli.report.exports import AnyReport, ReportKind
    from bncli.report.figures.style import StyleName

Html = Annotated[
    str | None,
    typer.Option(help="Write a page with tables and figures here; - is stdout.", metavar="PATH|-", rich_help_panel=OUT),
]
Export = Annotated[
    list[str] | None,
    typer.Option(
        help="Write the findings as json, csv, markdown, text, latex, html, svg, pdf, png, junit, github,"
        " pytest-benchmark, gha or bmf; - is stdout.",
        metavar="FORMAT[:PATH]",
        autocompletion=complete_format,
        rich_help_panel=OUT,
    ),
]
History = Annotated[
    Path | None,
    typer.Option(
        help="Append a line to this file: commit, machine, numbers; `bncli show FILE.jsonl` draws it.",
        metavar="FILE.jsonl",
        rich_help_panel=CHECKS,
    ),
]
DRAWN = ("svg", "pdf", "png")  # by --plot DIR


@dataclass(frozen=True)
class Destination:
    """One file to be written, or one folder of figures."""

    flag: str  # as it was given, for messages
    format: str
    path: str  # - is stdout
    append: bool = False
    chosen: bool = False  # by bncli, which says so
    drawn: tuple[str, ...] = ()  # formats of figures, where there is more than its own

    @property
    def takes_stdout(self) -> bool:
        """Whether nothing else can stand there; what GitHub reads from stdout stands between other lines."""
        return self.path == "-" and self.format != "github"


def read_destinations(
    kind: "ReportKind", name: str, exports: Sequence[str] | None, *, json: str | None = None,
    html: str | None = None, plot: Path | None = None, junit: Path | None = None, markdown: Path | None = None,
    github: bool = False, unchecked: str = "", taken: str = "",
) -> list[Destination]:  # fmt: skip
    """What `--export` and its short forms ask for.

    Args:
        kind: what the command finds.
        name: of the preset, and so of the files whose place is not said.
        exports: FORMAT or FORMAT:PATH each.
        json, html, plot, junit, markdown, github: the short forms.
        unchecked: what to add so that something is checked; empty where something is.
        taken: what else goes to stdout, as it was given.

    Raises:
        ConfigError: with every mistake: an unknown format, one that cannot hold what the command finds, a place that
            cannot be written, checks where nothing is checked.
        BncliError: without what draws figures.
    """
    from bncli.report.exports import FORMATS, require_format

    found = [_read(text, name) for text in exports or ()]
    for form, place in (("json", json), ("html", html), ("junit", junit), ("markdown", markdown)):
        found += [Destination(f"--{form} {place}", form, str(place))] if place else []
    found += [Destination(f"--plot {plot}", DRAWN[0], str(plot), drawn=DRAWN)] if plot else []
    if github:
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if not summary:
            raise ConfigError(
                "--github: GITHUB_STEP_SUMMARY is not set; GitHub Actions sets it, elsewhere use --export"
            )
        found.append(Destination("--github", "markdown", summary, append=True))
        if not taken and not any(each.takes_stdout for each in found):  # whose reader takes no other lines
            found.append(Destination("--github", "github", "-"))
    wrong = [f"{each.flag}: {why}" for each in found if (why := _refuse(each, kind, unchecked))]
    if len(taking := [*filter(None, [taken]), *(each.flag for each in found if each.takes_stdout)]) > 1:
        wrong.append(f"{', '.join(taking)}: stdout can hold one of them; name files for the others")
    for path in {each.path for each in found} - {"-"}:
        flags = [
            each.flag
            for each in found
            if each.path == path and not each.append and each.format in FORMATS and not FORMATS[each.format].is_folder
        ]
        if len(flags) > 1:
            wrong.append(f"{', '.join(flags)}: {path} can hold one of them; name a file for each")
    if wrong:
        raise ConfigError(*dict.fromkeys(wrong))

    for each in found:
        require_format(each.format, kind)
    return found


def write_destinations(data: "AnyReport", destinations: Sequence[Destination], style: "StyleName" = "web") -> None:
    """Write every file; of what was cut short nothing was judged, so no JUnit, which would read as passed.

    Raises:
        BncliError: if one cannot be written; the others are.
    """
    from bncli.report.exports import FORMATS, render, write_figures

    failed = list[str]()
    for each in destinations:
        if each.format == "junit" and not getattr(getattr(data, "findings", None), "complete", True):
            continue
        try:
            if FORMATS[each.format].is_folder:
                if not write_figures(data, each.drawn or (each.format,), Path(each.path), style):
                    print(f"{each.flag}: {data.name} has nothing to draw", file=sys.stderr)
            else:
                text = render(data, each.format)
                after = "; the runs themselves are stored" if getattr(data, "runs", ()) else ""
                write(each.path, str(text), each.flag, append=each.append, after=after)
        except BncliError as error:
            failed.append(str(error))
            continue
        if each.chosen:
            print(f"{each.flag}: wrote {each.path}", file=sys.stderr)
    if failed:
        raise BncliError("\n".join(dict.fromkeys(failed)))


def append_history(place: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to a history; all of it or nothing, also where the file's last line was never ended.

    Raises:
        BncliError: if it cannot be written.
    """
    from json import dumps

    ended = not place.exists() or place.stat().st_size == 0 or place.read_bytes()[-1:] == b"\n"
    text = dumps(entry, allow_nan=False, ensure_ascii=False) + "\n"
    write(str(place), text if ended else f"\n{text}", f"--history {place}", append=True)


def command_line() -> str:
    """The command that runs now, as a shell would take it."""
    return shlex.join(["bncli", *sys.argv[1:]])


def _read(text: str, name: str) -> Destination:
    from bncli.report.exports import ALIASES, FORMATS

    form, colon, path = text.partition(":")
    form = ALIASES.get(form, form)
    flag = f"--export {text}"
    if path or form not in FORMATS:
        return Destination(flag, form, path)
    if colon:
        raise ConfigError(f"{flag}: expected a path after the colon, as in {form}:{_place(form, name)}")
    if form == "github":
        return Destination(flag, form, "-")
    return Destination(flag, form, _place(form, name), chosen=True)


def _place(form: str, name: str) -> str:
    """Where a format goes that was given no path: in the current folder."""
    from bncli.report.exports import FORMATS

    row = FORMATS[form]
    if row.is_folder:
        return f"{name}-figures"
    same = [other for other, each in FORMATS.items() if each.suffix == row.suffix]
    return f"{name}.{row.suffix}" if form == same[0] else f"{name}-{form}.{row.suffix}"


def _refuse(each: Destination, kind: "ReportKind", unchecked: str) -> str:
    """Why it cannot be written, in words."""
    from bncli.report.exports import find_format

    try:
        row = find_format(each.format, kind)
    except BncliError as error:
        return str(error)
    if row.needs_checks and unchecked and not (each.flag == "--github" and kind == "bench"):
        return f"nothing is checked; add {unchecked}"
    if not row.is_folder:
        return refuse_place(each.path)
    if each.path == "-":
        return "is a file for each figure; name a folder"
    place = Path(each.path)
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    writable = there.is_dir() and os.access(there, os.W_OK)
    return "" if writable else f"cannot write figures: {there} is not a folder that can be written to"
