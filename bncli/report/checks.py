"""What was checked and how it came out: on a terminal, as Markdown, as JUnit's XML, as annotations of GitHub."""

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from rich.console import Console
from rich.text import Text

from bncli.errors import as_line, as_lines
from bncli.findings import Check
from bncli.report.data import ReportData
from bncli.report.layout import say, wrapped

_STYLES = {"passed": "bold green", "failed": "bold red", "undecided": "yellow"}


def show_checks(checks: Sequence[Check], console: Console) -> None:
    """Print one paragraph a check, the outcome first."""
    for check in checks:
        head = Text(f"{check.word:<10} ", style=_STYLES[check.outcome])
        say(console, head + Text(wrapped(check.name, console.width - 11, " " * 11)))
        say(console, wrapped(" " * 11 + check.message, console.width, " " * 11), "dim")


def markdown(title: str, checks: Sequence[Check]) -> str:
    """A table of checks."""
    title = as_line(title)
    rows = [f"| {c.word} | {_cell(c.name)} | {_cell(c.message)} |" for c in checks]
    return "\n".join([f"### {title}", "", "| outcome | what | measured |", "|---|---|---|", *rows, ""])


def junit(title: str, checks: Sequence[Check]) -> str:
    """JUnit's XML: failed checks are failures, undecided ones errors of type `undecided`, each with its message.

    Not `skipped`: dashboards count that as passed, and a gate that could not be decided has not passed.
    """
    title = as_line(title)  # XML has no control characters
    failed, open_ = (sum(c.outcome == outcome for c in checks) for outcome in ("failed", "undecided"))
    counts = {"tests": str(len(checks)), "failures": str(failed), "errors": str(open_), "skipped": "0"}
    suite = ElementTree.Element("testsuite", {"name": title, **counts})
    for check in checks:
        message = as_line(check.message)
        case = ElementTree.SubElement(suite, "testcase", {"classname": title, "name": as_line(check.name)})
        if check.outcome == "failed":
            ElementTree.SubElement(case, "failure", {"message": message, "type": check.word})
        elif check.outcome == "undecided":
            ElementTree.SubElement(case, "error", {"message": message, "type": "undecided"})
        ElementTree.SubElement(case, "system-out").text = message
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def export_junit(data: ReportData) -> str:
    """The checks of a report as JUnit's XML."""
    return junit(data.name, data.checks)


def export_annotations(data: ReportData) -> str:
    """The lines that GitHub shows beside a change."""
    return "".join(f"{line}\n" for line in annotations(data.checks))


def annotations(checks: Sequence[Check]) -> Iterator[str]:
    """Lines that GitHub shows beside a change: an error for each failed check, a warning for each undecided one."""
    for check in checks:
        if check.outcome != "passed":
            level = "error" if check.outcome == "failed" else "warning"
            text = as_lines(f"{check.name} ({check.message})").replace("%", "%25").replace("\n", "%0A")
            yield f"::{level}::{text}"


def _cell(text: str) -> str:
    return as_line(text.replace("\n", " ")).replace("|", "\\|")
