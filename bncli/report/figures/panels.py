"""Specifications in panels: each a function from plain data to a plain dict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bncli.report.bands import Band
from bncli.report.figures.parts import Spec, unique
from bncli.report.figures.style import COLOURS

_STEPS = {"format": "~s", "tickCount": 5, "labelExpr": "datum.value == 0 ? '0' : datum.label", "labelOverlap": True}
_STEP = {"field": "step", "type": "quantitative", "axis": _STEPS}


@dataclass(frozen=True)
class Point:
    """One metric of one layer of one variant."""

    metric: str
    layer: str
    variant: str
    value: float
    high: float | None = None  # a larger quantile over the units, if it is a number of units
    noise: float | None = None  # the 95 % edge of what sampling noise alone would show


@dataclass(frozen=True)
class Ratio:
    """One metric of one layer of a variant, as a multiple of the reference's."""

    metric: str
    layer: str
    variant: str
    ratio: float  # > 0
    distinct: bool  # told apart from 1 by its interval


@dataclass(frozen=True)
class Share:
    """How much of something one key of a variant is."""

    key: str
    variant: str
    share: float  # 0 to 1
    distinct: bool  # told apart from chance


def percentile_bands(bands: Sequence[Band], *, y: str = "activation") -> Spec:
    """The paper's figure 1 b, c: three lines over training, one panel a variant (or `Band.panel`), on one scale."""
    lines = [
        {"mark": {"type": "area", "opacity": 0.2}, "encoding": {"y": _y("low", y), "y2": {"field": "high"}}},
        *({"mark": {"type": "line", "strokeWidth": 1}, "encoding": {"y": _y(name, y)}} for name in ("low", "high")),
        {"mark": {"type": "line", "strokeWidth": 2.5}, "encoding": {"y": _y("middle", y)}},
    ]
    return _over_steps(bands, lines, legend=any(band.panel for band in bands))


def curves(
    bands: Sequence[Band], *, y: str, x: str = "training step", log: bool = False,
    free: bool = False,
) -> Spec:  # fmt: skip
    """A number over training with its spread: one colour a variant, one panel a layer (`Band.panel`).

    Args:
        bands: by variant and layer; low and high are the ends of the spread.
        y: what is drawn, with its unit.
        x: what it is drawn over.
        log: a logarithmic scale; values that are not above 0 are left out.
        free: each panel has a scale of its own.
    """
    scale = {"type": "log", "nice": False} if log else {"zero": False}
    lines = [
        {"mark": {"type": "area", "opacity": 0.2}, "encoding": {"y": _y("low", y, scale), "y2": {"field": "high"}}},
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"y": _y("middle", y, scale)}},
    ]
    spec = _over_steps(bands, lines, legend=True, above=0 if log else -math.inf, x=x)
    return spec | ({"resolve": {"scale": {"y": "independent"}}} if free else {})


def by_layer(points: Sequence[Point]) -> Spec:
    """Metrics by layer: a panel a metric, a dot a variant, a line up to the high quantile, a grey tick for noise."""
    rows = [vars(point) for point in points if math.isfinite(point.value)]
    layer = {
        "field": "layer",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"domain": False, "ticks": False},
    }
    variants = unique(point.variant for point in points)
    shared = {
        "y": layer,
        "yOffset": {"field": "variant", "sort": None, "scale": {"paddingInner": 0.4, "paddingOuter": 0.6}},
    }
    value = {"type": "quantitative", "title": None, "axis": {"format": ".3~g", "tickCount": 4}}
    colour = {"color": _colour(variants)}
    layers = [
        {
            "transform": [{"filter": "isValid(datum.high)"}],
            "mark": {"type": "rule", "opacity": 0.6},
            "encoding": {**shared, **colour, "x": {"field": "value", **value}, "x2": {"field": "high"}},
        },
        {
            "transform": [{"filter": "isValid(datum.noise)"}],
            "mark": {"type": "tick", "color": "#777777", "thickness": 2, "size": 9},
            "encoding": {**shared, "x": {"field": "noise", **value}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {**shared, **colour, "x": {"field": "value", **value}},
        },
    ]
    height = {"step": max(9, 22 // max(len(variants), 1)), "for": "offset"}
    faceted = _facets("metric", unique(point.metric for point in points), columns=3)
    return _spec(rows, faceted) | {
        "spec": {"width": 200, "height": height, "layer": layers},
        "resolve": {"scale": {"x": "independent"}},
    }


def ratios(cells: Sequence[Ratio], *, reference: str) -> Spec:
    """Definitions against layers, a panel a variant: how many times the reference's each number is.

    Blue is less and orange is more than the reference; grey is not told apart from it.
    """
    rows = [
        {**vars(cell), "text": _times(cell.ratio), "shown": max(min(math.log2(cell.ratio), 3), -3)}
        for cell in cells
        if cell.ratio > 0 and math.isfinite(cell.ratio)
    ]
    legend = {
        "title": f"times {reference}", "orient": "right", "gradientLength": 120, "values": [-3, -2, -1, 0, 1, 2, 3],
        "labelExpr": "datum.value < 0 ? '1/' + pow(2, -datum.value) : '' + pow(2, datum.value)",
    }  # fmt: skip
    scale = {"domain": [-3, 3], "range": ["#0868ac", "#7fb8da", "#f7f7f7", "#f5b878", "#c65102"], "type": "linear"}
    colour = {"field": "shown", "type": "quantitative", "scale": {**scale, "domainMid": 0}, "legend": legend}
    strong = {"test": "abs(datum.shown) > 2.2 && datum.distinct", "value": "white"}
    weak = {"test": "!datum.distinct", "value": "#777777"}
    bare = {"type": "nominal", "sort": None, "title": None}
    axis = {"grid": False, "domain": False, "ticks": False}
    axes = {
        "x": {"field": "layer", **bare, "axis": {"labelAngle": -30, **axis}},
        "y": {"field": "metric", **bare, "axis": axis},
    }
    layers = [
        {
            "mark": {"type": "rect", "stroke": "white", "strokeWidth": 2},
            "encoding": {**axes, "color": {"condition": {"test": "datum.distinct", **colour}, "value": "#eeeeee"}},
        },
        {
            "mark": {"type": "text", "fontSize": 11},
            "encoding": {**axes, "text": {"field": "text"}, "color": {"condition": [weak, strong], "value": "black"}},
        },
    ]
    faceted = _facets("variant", unique(cell.variant for cell in cells), columns=2)
    return _spec(rows, faceted) | {
        "spec": {"width": {"step": 56}, "height": {"step": 24}, "view": {"stroke": None}, "layer": layers},
    }


def shares(cells: Sequence[Share]) -> Spec:
    """A bar a key, a panel a variant: from 0 to 100 %; pale where chance may have made it."""
    across = {"field": "share", "type": "quantitative", "title": None, "scale": {"domain": [0, 1]}}
    along = {"field": "key", "type": "nominal", "sort": None, "title": None, "axis": {"domain": False, "ticks": False}}
    pale = {"condition": {"test": "datum.distinct", "value": 1}, "value": 0.3}
    axis = {"format": ".0%", "tickCount": 4}
    faceted = _facets("variant", unique(cell.variant for cell in cells), columns=3)
    return _spec([vars(cell) for cell in cells], faceted) | {
        "spec": {
            "width": 200, "height": {"step": 24}, "mark": {"type": "bar", "color": COLOURS[0]},
            "encoding": {"x": {**across, "axis": axis}, "y": along, "opacity": pale},
        },
    }  # fmt: skip


def _over_steps(
    bands: Sequence[Band], lines: list[Spec], *, legend: bool, above: float = -math.inf,
    x: str = "training step",
) -> Spec:  # fmt: skip
    """Layers of lines over training steps in panels."""
    rows = [row for band in bands for row in _rows(band, above)]
    panels = unique(band.panel or band.label for band in bands)
    colour = _colour(unique(band.label for band in bands), "label", legend=legend)
    width = 300 if len(panels) <= 2 else 210
    return _spec(rows, _facets("panel", panels, columns=2 if len(panels) in (2, 4) else 3)) | {
        "spec": {
            "width": width,
            "height": 0.6 * width,
            "encoding": {"x": {**_STEP, "title": x}, "color": colour},
            "layer": lines,
        },
    }


def _rows(band: Band, above: float) -> list[Mapping[str, Any]]:
    """One row a step; a step with a number that cannot be drawn breaks the lines."""
    rows: list[Mapping[str, Any]] = []
    for step, *values in zip(band.steps, band.low, band.middle, band.high, strict=True):
        drawn = all(math.isfinite(v) and v > above for v in values)
        numbers = dict(zip(("low", "middle", "high"), values if drawn else [None] * 3, strict=True))
        rows.append({"panel": band.panel or band.label, "label": band.label, "step": step, **numbers})
    return rows


def _spec(rows: Sequence[Mapping[str, Any]], faceted: Spec) -> Spec:
    return {"data": {"values": [*rows]}, **faceted}


def _facets(field: str, order: Sequence[str], columns: int) -> Spec:
    return {"facet": {"field": field, "type": "nominal", "sort": list(order)}, "columns": min(columns, len(order))}


def _y(field: str, title: str, scale: Mapping[str, Any] | None = None) -> Spec:
    shown = {"scale": dict(scale or {"zero": False}), "axis": {"format": ".3~g", "tickCount": 5, "domain": False}}
    return {"field": field, "type": "quantitative", "title": title, **shown}


def _colour(names: Sequence[str], field: str = "variant", *, legend: bool = True) -> Spec:
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    return {
        "field": field, "type": "nominal", "sort": None, "scale": {"domain": list(names), "range": colours},
        **({} if legend and len(names) > 1 else {"legend": None}),
    }  # fmt: skip


def _times(ratio: float) -> str:
    """`140×`, `6.1×`, `0.20×`, `0.032×`."""
    if ratio < 0.0995:
        return f"{ratio:.2g}×"
    return f"{ratio:.{0 if ratio >= 9.95 else 1 if ratio >= 0.995 else 2}f}×"
