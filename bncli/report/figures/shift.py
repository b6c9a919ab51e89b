"""Figures of shift: percentile bands over training, and figure 1 of the paper."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bncli.findings.shift import Cell, PercentileBand, ShiftFindings
from bncli.format import written, written_arm
from bncli.report.bands import Band
from bncli.report.figures.parts import (
    HIDDEN,
    SHOWN,
    STEPS,
    Figure,
    Spec,
    colour,
    dash,
    facet,
    make_figure,
    order_variants,
    short,
    thin,
)

SiteNames = Mapping[tuple[str, str], str]  # by layer and place


def shift_figures(findings: ShiftFindings) -> Iterator[Figure]:
    """All that shift findings show."""
    from bncli.report.figures.layers import course_figure, layers_figure, ratios_figure

    made = (figure1(findings), bands_figure(findings), layers_figure(findings), ratios_figure(findings))
    yield from (figure for figure in made if figure)
    for definition in findings.definitions:
        if (figure := course_figure(findings, definition)) is not None:
            yield figure


def last_bands(findings: ShiftFindings) -> list[list[PercentileBand]]:
    """Figure 1 b, c: percentiles at the last layer that has them, first of the median unit, then of a typical one."""
    last = {_who(band): (band.layer, band.place) for band in findings.bands}
    found = [band for band in findings.bands if (band.layer, band.place) == last[_who(band)]]
    medians = [band for band in found if band.index is None]
    return [group for group in (medians, [band for band in found if band not in medians]) if group]


def drawn(band: PercentileBand) -> Band:
    """As a terminal draws it."""
    return Band(f"{_who(band)}: {_unit(band)}", band.steps, band.low, band.middle, band.high)


def layer_names(findings: ShiftFindings) -> SiteNames:
    """Layers and places in them as they are shown: without the place where all have the same."""
    shown: list[Cell | PercentileBand] = [*(cell for arm in findings.arms for cell in arm.cells), *findings.bands]
    several = len({each.place for each in shown if each.place}) > 1
    names = {(e.layer, e.place): f"{e.layer}/{e.place}" if several and e.place else e.layer for e in shown if e.layer}
    return {("", ""): "network", **names}


def figure1(findings: ShiftFindings) -> Figure | None:
    """Figure 1 of Ioffe & Szegedy (2015): accuracy over training (a), percentile bands of each variant (b, c, ...).

    Of a typical unit, as in the paper, where single units were recorded; else the median of units. None where accuracy
    or percentiles were not measured, or the study sweeps something.
    """
    groups, curves = last_bands(findings), [c for c in findings.curves if c.metric == "accuracy"]
    if not groups or not curves or any(arm.setting for arm in findings.arms):
        return None
    order, bands = order_variants(findings.arms), groups[-1]
    rows = [
        {
            "variant": curve.variant, "step": [curve.steps[i] for i in thin(len(curve.steps))],
            **{n: [short(getattr(curve, n)[i]) for i in thin(len(curve.steps))] for n in ("mean", "low", "high")},
        }
        for curve in curves
    ]  # fmt: skip
    y: Spec = {"type": "quantitative", "title": "accuracy", "axis": {"format": ".3~%", "tickCount": 5}}
    both = {"x": _steps(), "color": colour(order), "tooltip": {"field": "variant"}}
    accuracy: Spec = {
        "title": "(a) accuracy", "width": 510, "height": 200, "data": {"values": rows},
        "transform": [{"flatten": ["step", "mean", "low", "high"]}, SHOWN],
        "layer": [
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "area", "opacity": 0.15, "clip": True},
                "encoding": {**both, "y": {"field": "low", **y, "scale": {"domain": [0, 1]}}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "clip": True},
                "encoding": {**both, "y": {"field": "mean", **y}, "strokeDash": dash(order)},
            },
        ],
    }  # fmt: skip
    ends = _ends(bands)
    panels = [
        {
            "title": f"({'bcdefghijklmnopqrstuvwxyz'[i % 25]}) {band.variant}", "width": 220, "height": 170,
            "data": {"values": [_band_row(band)]}, "transform": [{"flatten": ["step", "low", "middle", "high"]}],
            "layer": _band_layers(order, ends),
        }
        for i, band in enumerate(bands)
    ]  # fmt: skip
    title = "Figure 1 of Ioffe & Szegedy (2015), as trained here"
    layer = layer_names(findings)[bands[-1].layer, bands[-1].place]
    unit = "the median unit" if bands[-1].index is None else "a typical unit"
    caption = (
        f"(a) Accuracy, means over seeds with 95 % intervals; (b, c) 15th, 50th and 85th percentile of the inputs of"
        f" {unit} of {layer}."
    )
    last = "; ".join(f"{c.variant} {written(c.mean[-1], 'fraction')}" for c in curves)
    return make_figure(
        "figure1", title, caption, f"{title}. Accuracy at the end: {last}. {_said(bands)}",
        {
            "params": [HIDDEN], "vconcat": [accuracy, {"concat": panels, "columns": 2}],
            "resolve": {"scale": {"color": "independent", "strokeDash": "independent"}},
        },
    )  # fmt: skip


def bands_figure(findings: ShiftFindings) -> Figure | None:
    """Figure 1 b, c: a panel a variant, and again for a typical unit where single ones were recorded."""
    bands = [band for group in last_bands(findings) for band in group]
    if not bands:
        return None
    panels = [f"{_who(band)}: {_unit(band)}" for band in bands]
    rows = [{"at": panel, **_band_row(band)} for panel, band in zip(panels, bands, strict=True)]
    layer = layer_names(findings)[bands[-1].layer, bands[-1].place]
    title = f"What reaches {layer} over training" if bands[-1].place != "layer" else f"What {layer} gives over training"
    spec = {
        "params": [HIDDEN], "data": {"values": rows},
        "transform": [{"flatten": ["step", "low", "middle", "high"]}, SHOWN],
        **facet(panels, _band_layers(order_variants(findings.arms), _ends(bands))),
    }  # fmt: skip
    caption = "The 15th, 50th (thick) and 85th percentile over examples, mean over seeds."
    return make_figure("bands", title, caption, f"{title}. {_said(bands)}", spec)


def _band_layers(order: Sequence[str], ends: Sequence[Any]) -> list[Spec]:
    y: Spec = {
        "type": "quantitative", "title": "activation", "axis": {"format": ".3~g", "tickCount": 5},
        "scale": {"domain": list(ends), "zero": False},
    }  # fmt: skip
    tooltip: list[Spec] = [
        {"field": "variant"}, {"field": "step", "type": "quantitative", "format": ","},
        *({"field": n, "type": "quantitative", "title": f"{p}th percentile", "format": ".4~g"}
          for n, p in (("low", 15), ("middle", 50), ("high", 85))),
    ]  # fmt: skip
    both: Spec = {"x": _steps(), "color": colour(order, legend=False), "tooltip": tooltip}
    return [
        {
            "mark": {"type": "area", "opacity": 0.2},
            "encoding": {**both, "y": {"field": "low", **y}, "y2": {"field": "high"}},
        },
        *(
            {"mark": {"type": "line", "style": "edge"}, "encoding": {**both, "y": {"field": name, **y}}}
            for name in ("low", "high")
        ),
        {"mark": {"type": "line"}, "encoding": {**both, "y": {"field": "middle", **y}}},
        {
            "name": "hover", "mark": {"type": "point", "opacity": 0, "size": 80},
            "encoding": {**both, "y": {"field": "middle", **y}},
        },
    ]  # fmt: skip


def _band_row(band: PercentileBand) -> dict[str, Any]:
    kept = thin(len(band.steps))
    return {
        "variant": band.variant, "step": [band.steps[i] for i in kept],
        **{n: [short(getattr(band, n)[i]) for i in kept] for n in ("low", "middle", "high")},
    }  # fmt: skip


def _ends(bands: Sequence[PercentileBand]) -> list[Any]:
    """Ends of one scale for all."""
    numbers = [v for band in bands for v in (*band.low, *band.high) if short(v) is not None]
    return [short(min(numbers)), short(max(numbers))] if numbers else [0, 1]


def _said(bands: Sequence[PercentileBand]) -> str:
    """From where to where each band went."""
    return "; ".join(
        f"{_who(b)}, {_unit(b)}: from {b.low[0]:.3g} to {b.high[0]:.3g} at the first probe, from {b.low[-1]:.3g} to"
        f" {b.high[-1]:.3g} at the last"
        for b in bands
    ) + "."  # fmt: skip


def _steps() -> Spec:
    return {"field": "step", "type": "quantitative", "title": "training steps", "axis": STEPS, "scale": {"nice": False}}


def _who(band: PercentileBand) -> str:
    return written_arm(band.variant, band.setting)


def _unit(band: PercentileBand) -> str:
    return "median of units" if band.index is None else f"typical (unit {band.index})"
