"""Figures of layers: metrics by layer, layers by steps, ratios to the reference."""

import math
from collections.abc import Mapping
from typing import Any

from bncli.findings.shift import Course, Definition, ShiftFindings
from bncli.format import written_arm, written_estimate
from bncli.report.figures.parts import (
    GRADIENT,
    HIDDEN,
    SHOWN,
    STEPS,
    Figure,
    Spec,
    colour,
    facet,
    make_figure,
    order_variants,
    shape,
    short,
    thin,
    unique,
)
from bncli.report.figures.shift import SiteNames, layer_names

MOST_CELLS = 24  # layers, and steps, of a map: more are thinned evenly


def layers_figure(findings: ShiftFindings) -> Figure | None:
    """Every metric by layer with its interval over seeds, and the 95 % edge of what sampling noise alone would show."""
    labels, layers, order = _labels(findings), layer_names(findings), order_variants(findings.arms)
    rows: list[dict[str, Any]] = []
    for arm in findings.arms:
        for cell in arm.cells:
            ends = {"low": cell.low, "high": cell.high, "noise": cell.null}
            optional = {name: short(value) for name, value in ends.items() if value is not None}
            if (value := short(cell.mean)) is not None:
                who = {"variant": arm.variant, "arm": written_arm(arm.variant, arm.setting)}
                who = who if arm.setting else {"variant": arm.variant, "arm": arm.variant}
                place = {"metric": labels[cell.metric], "layer": layers[cell.layer, cell.place]}
                rows.append({**place, **who, "mean": value, **optional})
    if not rows:
        return None
    metrics, arms = unique(row["metric"] for row in rows), unique(row["arm"] for row in rows)
    shown = unique(row["layer"] for row in rows)
    single = len(shown) == 1
    x: Spec = {
        "type": "quantitative",
        "title": None,
        "axis": {"format": ".3~g", "tickCount": 3, "labelOverlap": True, "labelSeparation": 4},
        "scale": {"zero": False},
    }
    axis: Spec = {"domain": False, "ticks": False, "offset": 6}
    y: Spec = {"field": "layer", "type": "nominal", "sort": None, "title": None, "axis": None if single else axis}
    offset = {"field": "arm", "sort": arms, "scale": {"paddingInner": 0.3, "paddingOuter": 0.6}}
    tooltip = [
        {"field": "arm", "title": "variant"}, {"field": "layer"}, {"field": "metric"},
        *({"field": n, "type": "quantitative", "format": ".4~g"} for n in ("mean", "low", "high", "noise")),
    ]  # fmt: skip
    both = {"y": y, "yOffset": offset, "tooltip": tooltip}
    layered: list[Spec] = [
        {
            "mark": {"type": "tick", "style": "noise"},
            "encoding": {**both, "x": {"field": "noise", **x}},
        },
        {
            "mark": {"type": "rule"},
            "encoding": {
                **both, "color": colour(order), "x": {"field": "low", **x}, "x2": {"field": "high"}
            },
        },
        {
            "mark": {"type": "point"},
            "encoding": {**both, "color": colour(order), "shape": shape(order), "x": {"field": "mean", **x}},
        },
    ]  # fmt: skip
    title = f"Shift at {shown[0]}, mean over training" if single else "Shift by layer, mean over training"
    found = facet(metrics, layered, "metric", height={"step": max(8, 24 // len(arms)), "for": "offset"})
    spec = {
        "params": [HIDDEN], "data": {"values": rows}, "transform": [SHOWN], **found,
        **({"resolve": {"scale": {"x": "independent", "y": "independent"}}} if "spec" in found else {}),
    }  # fmt: skip
    caption = "Points are means over seeds with 95 % intervals; grey ticks are what sampling noise alone would show."
    return make_figure("layers", title, caption, f"{title}. {' '.join(findings.sentences[:3])}", spec)


def course_figure(findings: ShiftFindings, definition: Definition) -> Figure | None:
    """One metric at every layer and step: a map a variant; None where it has one layer or one step."""
    courses = [course for course in findings.courses if course.metric == definition.name]
    layers = layer_names(findings)
    names = unique(layers[course.layer, course.place] for course in courses)
    if len(names) < 2 or max(len(course.steps) for course in courses) < 2:
        return None
    names = [names[i] for i in thin(len(names), MOST_CELLS)]
    panels = unique(written_arm(course.variant, course.setting) for course in courses)
    rows = [_course_row(course, layers) for course in courses if layers[course.layer, course.place] in names]
    numbers = [v for row in rows for v in row["value"] if v is not None]
    if not numbers:
        return None
    log = min(numbers) > 0 and max(numbers) / min(numbers) > 30
    lowest, highest = min(numbers), max(numbers)
    middle = math.sqrt(lowest * highest) if log else (lowest + highest) / 2
    values = unique(f"{v:.2g}" for v in (lowest, middle, highest))
    legend: Spec = {"title": definition.label, "format": ".2~g", "values": [float(v) for v in values], **GRADIENT}
    value: Spec = {
        "field": "value", "type": "quantitative", "legend": legend,
        "scale": {"scheme": "viridis", **({"type": "log"} if log else {})},
    }  # fmt: skip
    steps = unique(step for row in rows for step in row["step"])
    tooltip = [
        {"field": "at", "title": "variant"}, {"field": "layer"},
        {"field": "step", "type": "quantitative", "format": ","},
        {"field": "value", "type": "quantitative", "title": definition.label, "format": ".4~g"},
    ]  # fmt: skip
    x: Spec = {
        "field": "step", "type": "ordinal", "sort": sorted(steps), "title": "training steps",
        "axis": STEPS | {"labelAngle": 0, "ticks": False, "domain": False, "grid": False},
    }  # fmt: skip
    y: Spec = {
        "field": "layer", "type": "nominal", "sort": names[::-1], "title": None,
        "axis": {"ticks": False, "domain": False, "grid": False},
    }  # fmt: skip
    cell: Spec = {"mark": {"type": "rect"}, "encoding": {"x": x, "y": y, "color": value, "tooltip": tooltip}}
    found = facet(panels, [cell], height={"step": 16})
    title = f"{definition.label[:1].upper()}{definition.label[1:]} by layer over training"
    top = max(rows, key=lambda row: max((v for v in row["value"] if v is not None), default=float("-inf")))
    alt = f"{title}: from {min(numbers):.3g} to {max(numbers):.3g}, highest at {top['layer']} of {top['at']}."
    spec = {"params": [HIDDEN], "data": {"values": rows}, "transform": [{"flatten": ["step", "value"]}, SHOWN], **found}
    return make_figure(
        f"course-{definition.name}", title, "Means over seeds; layers from first to last, upwards.", alt, spec
    )


def _course_row(course: Course, layers: SiteNames) -> dict[str, Any]:
    kept = thin(len(course.steps), MOST_CELLS)
    return {
        "variant": course.variant, "at": written_arm(course.variant, course.setting),
        "layer": layers[course.layer, course.place], "step": [course.steps[i] for i in kept],
        "value": [short(course.values[i]) for i in kept],
    }  # fmt: skip


def ratios_figure(findings: ShiftFindings) -> Figure | None:
    """Every metric that has a ratio against the reference: layers across, metrics down, a panel a variant."""
    labels, scales = _labels(findings), {d.name: d.scale for d in findings.definitions}
    layers = {**layer_names(findings), ("", ""): "all layers"}
    rows: list[dict[str, Any]] = [
        {
            "at": written_arm(c.variant, c.setting), "variant": c.variant, "metric": labels[c.metric],
            "layer": layers[c.layer, c.place], "ratio": short(c.estimate), "text": _times(c.estimate),
            **({"distinct": 1} if c.side in ("less", "more") else {}),
        }
        for c in findings.comparisons
        if scales[c.metric] == "ratio" and c.estimate is not None and c.estimate > 0 and short(c.estimate) is not None
    ]  # fmt: skip
    if not rows:
        return None
    reference = findings.comparisons[0].reference
    legend = {
        "title": f"times {reference}", **GRADIENT,
        "values": [0.125, 0.25, 0.5, 1, 2, 4, 8],
        "labelExpr": "datum.value < 1 ? '1/' + 1 / datum.value : '' + datum.value",
    }  # fmt: skip
    blue_to_orange = ["#0868ac", "#7fb8da", "#f7f7f7", "#f5b878", "#c65102"]
    scale = {"type": "log", "domain": [0.125, 0.35355, 1, 2.8284, 8], "range": blue_to_orange, "clamp": True}
    shade = {"field": "ratio", "type": "quantitative", "scale": scale, "legend": legend}
    bare: Spec = {"type": "nominal", "sort": None, "title": None}
    axis = {"grid": False, "domain": False, "ticks": False}
    tooltip = [
        {"field": "at", "title": "variant"},
        {"field": "metric"},
        {"field": "layer"},
        {"field": "text", "title": "ratio"},
    ]
    axes = {
        "x": {"field": "layer", **bare, "axis": {"labelAngle": -30, **axis}},
        "y": {"field": "metric", **bare, "axis": axis},
        "tooltip": tooltip,
    }  # fmt: skip
    strong = {"test": "datum.distinct && (datum.ratio > 6 || datum.ratio < 0.17)", "value": "white"}
    layered: list[Spec] = [
        {
            "mark": {"type": "rect", "stroke": "white", "strokeWidth": 1},
            "encoding": {**axes, "color": {"condition": {"test": "datum.distinct", **shade}, "value": "#e4e4e4"}},
        },
        {
            "mark": {"type": "text", "style": "cell"},
            "encoding": {**axes, "text": {"field": "text"}, "color": {"condition": strong, "value": "#1a1a1a"}},
        },
    ]
    found = facet(unique(row["at"] for row in rows), layered, width={"step": 48}, height={"step": 22})
    title = f"Shift as a multiple of {reference}'s"
    said = "; ".join(
        f"{written_arm(c.variant, c.setting)}, {labels[c.metric]}"
        f" {written_estimate(c.estimate, c.low, c.high, ratio=True)}"
        for c in findings.comparisons
        if not c.layer and c.estimate is not None and scales[c.metric] == "ratio"
    )
    caption = f"Blue is less and orange is more than {reference}'s; grey is not told apart from it."
    spec = {"params": [HIDDEN], "data": {"values": rows}, "transform": [SHOWN], **found}
    return make_figure("ratios", title, caption, f"{title}. Over all layers: {said}.", spec)


def _times(ratio: float) -> str:
    """`140`, `6.1`, `0.20`, `0.032`."""
    if ratio < 0.0995:
        return f"{ratio:.2g}"
    return f"{ratio:.{0 if ratio >= 9.95 else 1 if ratio >= 0.995 else 2}f}"


def _labels(findings: ShiftFindings) -> Mapping[str, str]:
    return {definition.name: definition.label for definition in findings.definitions}
