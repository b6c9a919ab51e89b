"""A study's curves on a terminal: the mean over seeds of each arm, in one panel."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from bncli.findings import ArmCurve, Findings
from bncli.format import written, written_arm
from bncli.report.bands import STYLES, PlottedLine, curve_lines, needs_letters
from bncli.report.layout import say, wrapped

_FIRST = ("accuracy", "loss")  # what is drawn, where a study has it


def show_curves(findings: Findings, console: Console) -> None:
    """Print the panel below an empty line; where there are too many arms to tell apart, a line that says so."""
    for number, line in enumerate(_lay_out(findings, console)):
        if not number:
            say(console, "")
        say(console, line)


def _lay_out(findings: Findings, console: Console) -> Iterator[Text]:
    metrics = dict.fromkeys(curve.metric for curve in findings.curves)
    metric = next((name for name in (*_FIRST, *metrics) if name in metrics), "")
    curves = [curve for curve in findings.curves if curve.metric == metric and len(curve.steps) > 1]
    if not curves:
        return
    if len(curves) > len(STYLES):
        yield Text(
            wrapped(f"{len(curves)} curves are too many for a terminal; --html FILE draws them", console.width), "dim"
        )
        return
    unit = ", %" if curves[0].unit == "fraction" else f", {curves[0].unit}" if curves[0].unit else ""
    yield Text(f"{metric.replace('_', ' ')}{unit}, by step, mean over seeds", style="bold")
    yield from curve_lines(list(map(_line, curves)), console.width, letters=needs_letters(console))


def _line(curve: ArmCurve) -> PlottedLine:
    factor = 100 if curve.unit == "fraction" else 1
    last = written(curve.mean[-1], curve.unit)
    return PlottedLine(written_arm(curve.variant, curve.setting), curve.steps, [factor * v for v in curve.mean], last)
