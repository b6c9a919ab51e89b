"""Figures of a study: how its variants converge."""

from collections.abc import Iterator, Sequence
from typing import Any

from bncli.findings import ArmCurve, Findings
from bncli.format import written, written_setting
from bncli.report.data import ReportData
from bncli.report.figures.parts import (
    HIDDEN,
    SEEDS,
    SHOWN,
    Figure,
    Spec,
    colour,
    dash,
    make_figure,
    order_variants,
    short,
    thin,
    unique,
)

PERCENT = ("fraction", "share")  # units that are written in per cent


def study_figures(data: ReportData, findings: Findings) -> Iterator[Figure]:
    """All that a study shows."""
    metrics = unique(curve.metric for curve in findings.curves)
    for metric in metrics:
        yield convergence_figure(data, findings, metric, first=metric == metrics[0])


def convergence_figure(data: ReportData, findings: Findings, metric: str, *, first: bool) -> Figure:
    """A metric over training steps: a line a variant with its 95 % interval, the target, single seeds on demand."""
    curves = [curve for curve in findings.curves if curve.metric == metric]
    arms = {(arm.variant, repr(arm.setting)): arm for arm in findings.arms}
    order = order_variants(
        [c.variant for c in curves], next((a.variant for a in findings.arms if a.is_reference), None)
    )
    settings = unique(written_setting(curve.setting) for curve in curves)
    word, unit = metric.replace("_", " "), curves[0].unit
    rows = [_row(curve) for curve in curves]
    if first:
        rows += _seed_rows(data, metric)
    targets = unique(str(arm.target) for arm in arms.values() if arm.target is not None) if first else []
    axis = {"format": ".0%" if unit in PERCENT else ".3~g", "tickCount": 5}
    y = {"type": "quantitative", "title": word if unit in (*PERCENT, "") else f"{word} ({unit})"}
    x = {"field": "step", "type": "quantitative", "title": "training steps", "axis": {"format": "~s", "tickCount": 5}}
    across = {"x": x, "color": colour(order)}
    tooltip = [
        {"field": "variant", "type": "nominal"},
        {"field": "step", "type": "quantitative", "format": ","},
        *({"field": name, "type": "quantitative", "format": ".4~g"} for name in ("mean", "low", "high")),
    ]
    lines: list[Spec] = [
        {
            "transform": [{"filter": "!isValid(datum.seed) && isValid(datum.low)"}],
            "mark": {"type": "area", "opacity": 0.15},
            "encoding": {**across, "y": {"field": "low", **y}, "y2": {"field": "high"}},
        },
        {
            "transform": [{"filter": "seeds && isValid(datum.seed)"}],
            "mark": {"type": "line", "strokeWidth": 0.7, "opacity": 0.6},
            "encoding": {**across, "y": {"field": "mean", **y}, "detail": {"field": "seed"}, "tooltip": tooltip},
        },
        {
            "transform": [{"filter": "!isValid(datum.seed)"}],
            "mark": {"type": "line"},
            "encoding": {
                **across, "y": {"field": "mean", **y, "scale": {"zero": False}, "axis": axis},
                "strokeDash": dash(order), "tooltip": tooltip,
            },
        },
        {
            "name": "hover",
            "transform": [{"filter": "!isValid(datum.seed)"}],
            "mark": {"type": "point", "opacity": 0, "size": 80},
            "encoding": {**across, "y": {"field": "mean", **y}, "tooltip": tooltip},
        },
        *({"data": {"values": [{"target": float(t)}]}, "mark": {"type": "rule", "style": "target"},
           "encoding": {"y": {"field": "target", **y}}} for t in targets),
    ]  # fmt: skip
    spec: Spec = {
        "params": [HIDDEN, SEEDS],
        "data": {"values": rows},
        "transform": [{"flatten": ["step", "mean", "low", "high"]}, SHOWN],
    }
    if len(settings) > 1:
        spec |= {
            "facet": {"field": "at", "type": "nominal", "sort": settings},
            "columns": 2,
            "spec": {"width": 250, "height": 170, "layer": lines},
        }
    else:
        spec |= {"layer": lines}
    last = "; ".join(
        f"{c.variant}{' at ' + written_setting(c.setting) if c.setting else ''} {written(c.mean[-1], unit)}"
        for c in curves
    )
    name = "convergence" if first else f"convergence-{metric.replace('_', '-')}"
    title = f"{word[:1].upper()}{word[1:]} over training"
    caption = "Lines are means over seeds, bands their 95 % intervals."
    return make_figure(name, title, caption, f"{title}. At the end: {last}.", spec)


def _row(curve: ArmCurve) -> dict[str, Any]:
    """A whole curve as one row of lists, which the specification takes apart."""
    kept = thin(len(curve.steps))
    at = {"at": written_setting(curve.setting)} if curve.setting else {}
    return {
        "variant": curve.variant, **at, "step": [curve.steps[i] for i in kept],
        **{name: [short(getattr(curve, name)[i]) for i in kept] for name in ("mean", "low", "high")},
    }  # fmt: skip


def _seed_rows(data: ReportData, metric: str) -> Sequence[dict[str, Any]]:
    """The same of single runs."""
    rows = []
    for run in data.runs:
        steps, values = run.result.curve(metric) if run.result else ([], [])
        kept = thin(len(steps))
        at = {"at": written_setting(run.setting)} if run.setting else {}
        if steps:
            rows.append({
                "variant": run.variant, **at, "seed": run.seed, "step": [steps[i] for i in kept],
                "mean": [short(values[i]) for i in kept], "low": [], "high": [],
            })  # fmt: skip
    return rows
