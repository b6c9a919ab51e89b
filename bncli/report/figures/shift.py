"""Shift findings as figures, each a function of findings: bands, metrics by layer, ratios by definition."""

from collections.abc import Iterator, Mapping

from bncli.findings.shift import Cell, PercentileBand, ShiftFindings
from bncli.format import written_arm
from bncli.report.bands import Band
from bncli.report.figures import panels
from bncli.report.figures.panels import Point, Ratio
from bncli.report.figures.parts import Figure, make_figure

SiteNames = Mapping[tuple[str, str], str]  # by layer and place


def shift_figures(findings: ShiftFindings) -> Iterator[Figure]:
    """All that shift findings show."""
    made = (bands_figure(findings), layers_figure(findings), ratios_figure(findings))
    yield from (figure for figure in made if figure)


def last_bands(findings: ShiftFindings) -> list[list[PercentileBand]]:
    """Figure 1 b, c: percentiles at the last layer that has them, first of the median unit, then of a typical one."""
    last = {_who(band): (band.layer, band.place) for band in findings.bands}
    found = [band for band in findings.bands if (band.layer, band.place) == last[_who(band)]]
    medians = [band for band in found if band.index is None]
    return [group for group in (medians, [band for band in found if band not in medians]) if group]


def drawn(band: PercentileBand, *, panels: bool = False) -> Band:
    """As a terminal draws it; or with `panels` as a figure does, a colour a variant."""
    unit = "median of units" if band.index is None else f"typical (unit {band.index})"
    title = f"{_who(band)}: {unit}"
    label, panel = (_who(band), title) if panels else (title, "")
    return Band(label, band.steps, band.low, band.middle, band.high, panel)


def layer_names(findings: ShiftFindings) -> SiteNames:
    """Layers and places in them as they are shown: without the place where all have the same."""
    shown: list[Cell | PercentileBand] = [*(cell for arm in findings.arms for cell in arm.cells), *findings.bands]
    several = len({each.place for each in shown if each.place}) > 1
    names = {(e.layer, e.place): f"{e.layer}/{e.place}" if several and e.place else e.layer for e in shown if e.layer}
    return {("", ""): "network", **names}


def bands_figure(findings: ShiftFindings) -> Figure | None:
    """Figure 1 b, c."""
    bands = [drawn(band, panels=True) for group in last_bands(findings) for band in group]
    if not bands:
        return None
    last = findings.bands[-1]
    layer = layer_names(findings)[last.layer, last.place]
    title = f"{layer}: 15th, 50th and 85th percentile over training"
    caption = "Of each unit's inputs over the examples; the thick line is the 50th."
    return make_figure("bands", title, caption, f"{title} of {len(bands)} variants.", panels.percentile_bands(bands))


def layers_figure(findings: ShiftFindings) -> Figure | None:
    """Every metric by layer, with the 95 % edge of what sampling noise alone would show."""
    labels, layers = _labels(findings), layer_names(findings)
    points = [
        Point(
            labels[cell.metric],
            layers[cell.layer, cell.place],
            written_arm(arm.variant, arm.setting),
            cell.mean,
            noise=cell.null,
        )
        for arm in findings.arms
        for cell in arm.cells
    ]
    if not points:
        return None
    title, caption = "Shift by layer, mean over training", "Grey ticks: 95 % edge of sampling noise alone."
    return make_figure("layers", title, caption, f"{title}.", panels.by_layer(points))


def ratios_figure(findings: ShiftFindings) -> Figure | None:
    """Every definition that has a ratio, against the reference."""
    labels, scales = _labels(findings), {d.name: d.scale for d in findings.definitions}
    layers = {**layer_names(findings), ("", ""): "all layers"}
    cells = [
        Ratio(
            labels[c.metric],
            layers[c.layer, c.place],
            written_arm(c.variant, c.setting),
            c.estimate,
            c.side in ("less", "more"),
        )
        for c in findings.comparisons
        if scales[c.metric] == "ratio" and c.estimate is not None
    ]
    if not cells:
        return None
    reference = next(c.reference for c in findings.comparisons)
    title, caption = f"Shift as a multiple of {reference}'s", f"Grey is not told apart from {reference}."
    return make_figure("ratios", title, caption, f"{title}.", panels.ratios(cells, reference=reference))


def _labels(findings: ShiftFindings) -> Mapping[str, str]:
    return {definition.name: definition.label for definition in findings.definitions}


def _who(band: PercentileBand) -> str:
    return written_arm(band.variant, band.setting)
