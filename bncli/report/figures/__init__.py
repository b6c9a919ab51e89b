"""Figures as Vega-Lite specifications, each a function from findings; drawn as SVG, PDF and PNG, or by a page."""

from bncli.findings import Findings
from bncli.findings.shift import ShiftFindings
from bncli.report.data import ReportData
from bncli.report.figures.bench import bench_figures, history_figure
from bncli.report.figures.files import draw, load_converter, render, write_figures
from bncli.report.figures.parts import Figure
from bncli.report.figures.style import STYLES, StyleName, theme
from bncli.timing.results import BenchRecord

__all__ = [
    "STYLES", "Figure", "StyleName", "draw", "history_figure", "list_figures", "load_converter", "render",
    "theme", "write_figures",
]  # fmt: skip


def list_figures(data: ReportData) -> list[Figure]:
    """Every figure that findings have, what matters most first; none of what was not measured."""
    if isinstance(data.findings, Findings):
        from bncli.report.figures.search import search_figures
        from bncli.report.figures.study import study_figures

        return [*study_figures(data, data.findings), *search_figures(data.findings)]
    if isinstance(data.findings, ShiftFindings):
        from bncli.report.figures.shift import shift_figures

        return list(shift_figures(data.findings))
    if isinstance(data.findings, BenchRecord):
        return list(bench_figures(data.findings))
    return []
