"""How figures look: sizes of type and of paper, colours on white and on dark, the same for all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

StyleName = Literal["paper", "slides", "web"]


@dataclass(frozen=True)
class FigureSize:
    """What a figure is drawn for."""

    width: float  # of the whole figure, in points of 1/72 inch, which are the units of a specification
    text: float  # size of labels, points
    line: float  # width of a line, points
    scale: float  # pixels of a PNG a point


STYLES: Mapping[StyleName, FigureSize] = {
    "paper": FigureSize(
        width=237.6, text=8, line=1.1, scale=300 / 72
    ),  # one column: 3.3 in at 8 points, 300 pixels an inch
    "slides": FigureSize(width=960, text=24, line=3.5, scale=2),
    "web": FigureSize(width=640, text=12, line=2, scale=2),
}

# The reference, then Okabe & Ito (2008), then darker and lighter kin of theirs told apart by dashes and shapes too;
# yellow (#f0e442) is left out, which nobody sees on white. On dark the same hues, lighter where they need it.
COLOURS = (
    "#1a1a1a", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7a4fa3", "#8c564b", "#5f7d00",
    "#a50f3c", "#777777",
)  # fmt: skip
DARK_COLOURS = (
    "#f2f2f2", "#4aa8e0", "#f0803c", "#2fc79c", "#e39cc4", "#e0b040", "#8fd0f7", "#b79ae0", "#c99a8e", "#a9c94a",
    "#f06f93", "#a8a8a8",
)  # fmt: skip
FONT = "Arial, Liberation Sans, DejaVu Sans, sans-serif"


def theme(style: StyleName = "web", *, dark: bool = False) -> dict[str, Any]:
    """The Vega-Lite configuration of a style; a specification is drawn as `spec | {"config": theme(style)}`.

    Marks of the styles `target` and `noise` are lines that are no variant's.
    """
    size, line = STYLES[style].text, STYLES[style].line
    ink, faint, grid = ("#f2f2f2", "#b5b5b5", "#3a3a3a") if dark else ("#1a1a1a", "#555555", "#e6e6e6")
    return {
        "font": FONT,
        "background": None if style == "web" else "white",
        "padding": 2 if style == "paper" else 6,
        "range": {"category": list(DARK_COLOURS if dark else COLOURS)},
        "facet": {"spacing": size * 1.5}, "concat": {"spacing": size * 1.5},
        "view": {"stroke": None, "continuousWidth": 420, "continuousHeight": 260},
        "line": {"strokeWidth": line},
        "rule": {"strokeWidth": line * 0.7, "color": faint},
        "point": {"size": (0.75 * size) ** 2, "filled": True, "opacity": 1, "strokeWidth": line / 2},
        "text": {"fontSize": size, "color": ink},
        "bar": {"color": COLOURS[1] if not dark else DARK_COLOURS[1]},
        "style": {
            "target": {"color": faint, "strokeWidth": line * 0.7, "strokeDash": [line * 1.2, line * 1.2]},
            "noise": {"color": faint, "thickness": line, "size": size * 0.8},
            "interval": {"color": ink, "strokeWidth": line * 0.7},
            "trend": {"color": faint},
            "dot": {"color": faint, "size": (0.4 * size) ** 2},
            "step": {"color": "#d55e00"},
            "edge": {"strokeWidth": line / 2},
            "cell": {"color": "#1a1a1a"},
            "ring": {"filled": False, "size": (1.6 * size) ** 2, "strokeWidth": line},
            "label": {"color": faint, "fontSize": size},
            "group-title": {"fontSize": size * 1.15, "fill": ink},
        },
        "axis": {
            "gridColor": grid, "domainColor": faint, "tickColor": faint, "labelColor": ink, "titleColor": ink,
            "labelFontSize": size, "titleFontSize": size, "titleFontWeight": "normal", "gridWidth": line / 3,
            "domainWidth": line / 3, "tickWidth": line / 3, "labelLimit": 16 * size, "labelPadding": size / 4,
            "tickSize": size / 3, "titlePadding": size / 2,
        },
        "header": {
            "title": None, "labelFontSize": size, "labelFontWeight": "bold", "labelColor": ink,
            "labelPadding": size / 3, "labelLimit": 30 * size,
        },
        "title": {
            "anchor": "start", "frame": "bounds", "fontSize": size * 1.2, "offset": size * 0.8, "color": ink,
            "subtitleFontSize": size, "subtitleColor": faint, "subtitlePadding": size / 3,
        },
        "legend": {
            "orient": "top", "title": None, "labelFontSize": size, "labelColor": ink, "labelLimit": 20 * size,
            "titleFontSize": size, "titleColor": ink, "titleFontWeight": "normal", "symbolStrokeWidth": line,
            "symbolSize": 14 * size, "columnPadding": size, "rowPadding": size / 4, "symbolOpacity": 1,
            "symbolType": "stroke", "gradientLength": 12 * size, "gradientThickness": size, "offset": size * 0.8,
        },
    }  # fmt: skip
