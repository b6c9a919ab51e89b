"""Everything that findings can be written as: a row a format, a function each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from bncli.errors import BncliError, unknown
from bncli.findings import Findings
from bncli.findings.shift import ShiftFindings
from bncli.report.data import ReportData
from bncli.report.figures.style import StyleName
from bncli.report.sheet import Sheet

AnyReport = ReportData | Sheet
ReportKind = Literal["study", "shift", "bench", "runs", "sheet"]
KIND_NAMES: Mapping[ReportKind, str] = {
    "study": "a comparison", "shift": "a shift report", "bench": "timings of kernels",
    "runs": "runs that nobody compared", "sheet": "what stands side by side, or a history",
}  # fmt: skip


@dataclass(frozen=True)
class Format:
    """One way to write findings."""

    suffix: str  # of the file, where none is named: NAME.suffix
    summary: str
    functions: Mapping[ReportKind, str]  # "module:function" from ReportData to text, for the kinds that it can hold
    needs_checks: bool = False
    is_folder: bool = False  # a file for each figure; its functions say which figures there are


def _all(function: str, *kinds: ReportKind) -> dict[ReportKind, str]:
    return dict.fromkeys(kinds or ("study", "shift", "bench", "runs"), f"bncli.report.{function}")


_CHECKED: tuple[ReportKind, ...] = ("study", "bench")  # what checks are of
_FIGURES = _all("figures:list_figures", "study", "shift", "bench") | _all("flat:list_sheet_figures", "sheet")
FORMATS: dict[str, Format] = {
    "json": Format("json", "all of it as one JSON document, which `bncli show` reads", _all("documents:export_json")),
    "csv": Format(
        "csv",
        "raw numbers, a line an arm, a cell, a case; of `train` a line a run and step",
        {
            "study": "bncli.report.flat:export_arms", "shift": "bncli.report.flat:export_cells",
            "bench": "bncli.report.timing.exports:export_csv", "runs": "bncli.report.flat:export_runs",
            "sheet": "bncli.report.flat:export_sheet",
        },
    ),
    "markdown": Format(
        "md",
        "answer, table, warnings and checks, for a pull request or an issue",
        _all("markup:export_markdown", *KIND_NAMES) | _all("timing.exports:export_markdown", "bench"),
    ),
    "text": Format("txt", "a line a fact, as --plain prints it", _all("markup:export_text", *KIND_NAMES)),
    "latex": Format("tex", "tables for a paper (booktabs)", _all("markup:export_latex", *KIND_NAMES)),
    "html": Format(
        "html",
        "a page with tables and figures, in one file",
        _all("page:write_page", "study", "shift", "bench") | _all("markup:write_plain_page", "runs", "sheet"),
    ),
    "svg": Format("svg", "a file for each figure", _FIGURES, is_folder=True),
    "pdf": Format("pdf", "a file for each figure", _FIGURES, is_folder=True),
    "png": Format("png", "a file for each figure", _FIGURES, is_folder=True),
    "junit": Format("xml", "the checks as JUnit XML", _all("checks:export_junit", *_CHECKED), needs_checks=True),
    "github": Format(
        "txt",
        "lines that GitHub shows beside a change",
        _all("checks:export_annotations", *_CHECKED),
        needs_checks=True,
    ),
    "pytest-benchmark": Format(
        "json", "what `pytest --benchmark-json` writes", _all("timing.exports:export_pytest_benchmark", "bench")
    ),
    "gha": Format("json", "for github-action-benchmark", _all("timing.exports:export_gha", "bench")),
    "bmf": Format("json", "for Bencher", _all("timing.exports:export_bmf", "bench")),
}  # fmt: skip
ALIASES = {"md": "markdown"}


def kind_of(data: AnyReport) -> ReportKind:
    """What it is that was found."""
    if isinstance(data, Sheet):
        return "sheet"
    if data.findings is None:
        return "runs"
    if isinstance(data.findings, Findings):
        return "study"
    return "shift" if isinstance(data.findings, ShiftFindings) else "bench"


def find_format(name: str, kind: ReportKind) -> Format:
    """The row of a format that can hold such findings.

    Raises:
        BncliError: if there is none of that name, or it cannot.
    """
    if name not in FORMATS:
        raise BncliError(unknown("format", name, FORMATS))
    row = FORMATS[name]
    if kind not in row.functions:
        others = ", ".join(other for other, each in FORMATS.items() if kind in each.functions)
        raise BncliError(f"cannot hold {KIND_NAMES[kind]}; choose one of {others}")
    return row


def require_format(name: str, kind: ReportKind) -> None:
    """Make sure that a format can hold such findings and be drawn here, before anything is trained.

    Raises:
        BncliError: if it cannot.
    """
    row = find_format(name, kind)
    if row.is_folder:
        from bncli.report.figures import load_converter

        load_converter()
        return
    _load(row.functions[kind])


def render(data: AnyReport, name: str) -> str | bytes:
    """Findings as the text or the bytes of a file.

    Raises:
        BncliError: for a format that is not known, that cannot hold them, or that is a folder of figures.
    """
    kind = kind_of(data)
    row = find_format(name, kind)
    if row.is_folder:
        raise BncliError(f"{name}: is a file for each figure; see write_figures")
    found: str | bytes = _load(row.functions[kind])(data)
    return found


def write_figures(data: AnyReport, names: Sequence[str], folder: Path, style: StyleName = "web") -> list[Path]:
    """Write a file of each format for each figure that such findings have: `folder`/NAME-FIGURE.svg, .pdf, .png.

    Raises:
        BncliError: without the extra `report`, or where they cannot be written.
    """
    from bncli.report.figures import files

    kind = kind_of(data)
    figures = _load(find_format(names[0], kind).functions[kind])(data)
    return files.write_figures(figures, data.name, folder, style, names)


def _load(place: str) -> Callable[[AnyReport], Any]:
    module, _, function = place.partition(":")
    found: Callable[[AnyReport], Any] = getattr(import_module(module), function)
    return found
