"""Figures of a study: how variants converge, in steps and in seconds; what they cost, and what that gains."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bncli.findings import Arm, ArmCurve, Comparison, Findings, Measure
from bncli.format import written, written_arm, written_comparison, written_setting
from bncli.report.data import ReportData
from bncli.report.figures.parts import (
    HIDDEN,
    SEEDS,
    SHOWN,
    STEPS,
    Figure,
    Spec,
    colour,
    dash,
    facet,
    make_figure,
    order_variants,
    shape,
    short,
    thin,
    unique,
)

PERCENT = ("fraction", "share")  # units that are written in per cent


def study_figures(data: ReportData, findings: Findings) -> Iterator[Figure]:
    """All that a study shows: first the curves of the metric that has the target."""
    from bncli.report.figures.tuning import tuning_figures

    metrics = unique(curve.metric for curve in findings.curves)
    if metrics:
        yield convergence_figure(data, findings, metrics[0])
        if any(curve.seconds[-1] is not None for curve in findings.curves if curve.metric == metrics[0]):
            yield convergence_figure(data, findings, metrics[0], over="seconds")
    yield from tuning_figures(findings)
    if (cost := cost_figure(findings)) is not None:
        yield cost
    for metric in metrics[1:]:
        yield convergence_figure(data, findings, metric)


def convergence_figure(data: ReportData, findings: Findings, metric: str, over: str = "step") -> Figure:
    """A metric over training: a line a variant with its 95 % interval, the target, single seeds on demand.

    Args:
        data: whose runs are the single seeds.
        findings: whose curves are drawn.
        metric: accuracy, loss, or another that has curves; the first one has the target.
        over: step or seconds.
    """
    curves = [c for c in findings.curves if c.metric == metric and (over == "step" or c.seconds[-1] is not None)]
    main = metric == findings.curves[0].metric
    order = order_variants(findings.arms)
    settings = unique(written_setting(curve.setting) for curve in curves)
    targets = {(a.variant, repr(a.setting)): a.target for a in findings.arms if main and a.target is not None}
    word, unit = metric.replace("_", " "), curves[0].unit
    rows = [_curve_row(curve, over, targets.get((curve.variant, repr(curve.setting)))) for curve in curves]
    single = main and over == "step"
    if single:
        rows += _seed_rows(data, metric, curves)
    x: Spec = {
        "field": over, "type": "quantitative", "title": "training steps" if over == "step" else "seconds of training",
        "axis": STEPS if over == "step" else {"tickCount": 5}, "scale": {"nice": False},
    }  # fmt: skip
    y: Spec = {
        "type": "quantitative", "title": word if unit in (*PERCENT, "") else f"{word}, {unit}",
        "axis": {"format": ".3~%" if unit in PERCENT else ".3~g", "tickCount": 5},
        "scale": {"domain": _extent(curves, list(targets.values()), unit), "nice": False},
    }  # fmt: skip
    spec: Spec = {
        "params": [HIDDEN, *([SEEDS] if single else [])],
        "data": {"values": rows},
        "transform": [{"flatten": [over, "mean", "low", "high"]}, SHOWN],
        **facet(settings, _curve_layers(x, y, order, over, single=single, targets=bool(targets))),
    }
    name = "-".join(["convergence", *([] if main else [metric.replace("_", "-")]), *(["time"] * (over == "seconds"))])
    title = f"{word[:1].upper()}{word[1:]} over {'training' if over == 'step' else 'the seconds of training'}"
    levels = unique(written(target, unit) for target in targets.values() if target is not None)
    dotted = f"; the dotted line is the target, {levels[0]}" if len(levels) == 1 else ""
    seeds = max(arm.seeds for arm in findings.arms)
    bands = f"means over {seeds} seeds with their 95 % intervals" if seeds > 1 else "single runs"
    lost = "; a run that diverged counts up to there" if any("diverged" in a.statuses for a in findings.arms) else ""
    ends = "; ".join(f"{written_arm(c.variant, c.setting)} {written(c.mean[-1], unit)}" for c in curves)
    return make_figure(
        name, title, f"Lines are {bands}{dotted}{lost}.",
        f"{title}. {findings.answer or ' '.join(findings.headlines[:1])} At the end: {ends}.", spec,
    )  # fmt: skip


def _curve_layers(
    x: Spec, y: Spec, order: Sequence[str], over: str, *, single: bool, targets: bool
) -> list[Spec]:  # fmt: skip
    """Bands, single seeds, means, the target, and what a pointer finds."""
    across = {"x": x, "color": colour(order)}
    axis = y["axis"]["format"].replace(".3", ".4")
    numbers = [{"field": n, "type": "quantitative", "format": axis} for n in ("mean", "low", "high")]
    at = {"field": over, "type": "quantitative", "format": "," if over == "step" else ".3~g"}
    tooltip = [{"field": "variant"}, at, *numbers]
    middle = {"field": "mean", **y}
    means = {"filter": "!isValid(datum.seed)"}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "!isValid(datum.seed) && isValid(datum.low)"}],
            "mark": {"type": "area", "opacity": 0.15, "clip": True},
            "encoding": {
                **across,
                "y": {"field": "low", **y},
                "y2": {"field": "high"},
                "tooltip": {"field": "variant"},
            },
        },
        {
            "transform": [means],
            "mark": {"type": "line", "clip": True},
            "encoding": {**across, "y": middle, "strokeDash": dash(order), "tooltip": {"field": "variant"}},
        },
        {
            "name": "hover",
            "transform": [means],
            "mark": {"type": "point", "opacity": 0, "size": 80, "clip": True},
            "encoding": {**across, "y": middle, "tooltip": tooltip},
        },
    ]
    if single:
        layers.insert(1, {
            "transform": [{"filter": "seeds && isValid(datum.seed)"}],
            "mark": {"type": "line", "strokeWidth": 0.7, "opacity": 0.7, "clip": True},
            "encoding": {
                **across, "y": middle, "detail": {"field": "seed"},
                "tooltip": [{"field": "variant"}, {"field": "seed"}],
            },
        })  # fmt: skip
    if targets:
        level = {"field": "target", **y}
        tip = {"field": "target", "type": "quantitative", "format": axis}
        layers.append({
            "transform": [{"filter": "isValid(datum.target)"}, {"aggregate": [], "groupby": ["target"]}],
            "mark": {"type": "rule", "style": "target"}, "encoding": {"y": level, "tooltip": tip},
        })  # fmt: skip
    return layers


def _extent(curves: Sequence[ArmCurve], targets: Sequence[float | None], unit: str) -> list[float | int | None]:
    """Ends of the axis: all means and the target; of the bands no more than half as much again on either side."""
    means = [m for curve in curves for m in curve.mean if math.isfinite(m)] + [t for t in targets if t is not None]
    low, high = min(means), max(means)
    reach = (high - low) / 2 or abs(high) / 10 or 1.0
    bottom = max(low - reach, min([low, *(v for curve in curves for v in curve.low if v is not None)]))
    top = min(high + reach, max([high, *(v for curve in curves for v in curve.high if v is not None)]))
    edge = (top - bottom) / 50
    ends = (bottom - edge, top + edge)
    if unit in PERCENT:
        ends = (max(ends[0], 0.0), min(ends[1], 1.0))
    return [short(end) for end in ends]


def _curve_row(curve: ArmCurve, over: str, target: float | None) -> dict[str, Any]:
    """A whole curve as one row of lists, which the specification takes apart."""
    kept = thin(len(curve.steps))
    across = curve.steps if over == "step" else [short(each) for each in curve.seconds]
    return {
        "variant": curve.variant, **_at(curve.setting), over: [across[i] for i in kept],
        **{name: [short(getattr(curve, name)[i]) for i in kept] for name in ("mean", "low", "high")},
        **({} if target is None else {"target": target}),
    }  # fmt: skip


def _seed_rows(data: ReportData, metric: str, curves: Sequence[ArmCurve]) -> Iterator[dict[str, Any]]:
    """The same of the single runs that are compared: runs of a search have settings that no arm has."""
    arms = {(curve.variant, repr(curve.setting)) for curve in curves}
    for run in data.runs:
        steps, values = run.result.curve(metric) if run.result else ([], [])
        if steps and (run.variant, repr(run.setting)) in arms:
            kept = thin(len(steps))
            yield {
                "variant": run.variant, **_at(run.setting), "seed": run.seed, "step": [steps[i] for i in kept],
                "mean": [short(values[i]) for i in kept], "low": [], "high": [],
            }  # fmt: skip


def _at(setting: Mapping[str, Any]) -> dict[str, str]:
    return {"at": written_setting(setting)} if setting else {}


def cost_figure(findings: Findings) -> Figure | None:
    """Time a step against what it gains, both relative to the reference; None where either is unknown.

    The gain is by the first measure on which some variant can be compared; time is that of `seconds_per_step` with its
    interval where the study measures it, else of the arms' medians.
    """
    reference = order_variants(findings.arms)[:1]
    for measure in findings.measures:
        rows = [row for arm in findings.arms for row in _cost_rows(arm, findings, measure)]
        if measure.unit != "seconds" and any([row["variant"]] != reference for row in rows):
            return _draw_cost(findings, measure, rows)
    return None


def _cost_rows(arm: Arm, findings: Findings, measure: Measure) -> Iterator[dict[str, Any]]:
    by_measure = {comparison.measure: comparison for comparison in arm.comparisons}
    reference = next((a for a in findings.arms if a.is_reference and dict(a.setting) == dict(arm.setting)), None)
    gain, timed = by_measure.get(measure.name), by_measure.get("seconds_per_step")
    if arm.is_reference:
        null = 1 if measure.scale == "ratio" else 0
        yield {"variant": arm.variant, **_at(arm.setting), "cost": 1, "gain": null}
    elif gain and gain.estimate is not None and (cost := _cost(arm, reference, timed)):
        low, high = gain.interval
        ends = {} if low is None or high is None else {"low": low, "high": high}
        factor = 100 if measure.unit in PERCENT and measure.scale == "difference" else 1
        numbers = {name: short(factor * value) for name, value in {"gain": gain.estimate, **ends}.items()}
        yield {"variant": arm.variant, **_at(arm.setting), **cost, **numbers}


def _cost(arm: Arm, reference: Arm | None, timed: Comparison | None) -> dict[str, Any]:
    if timed and timed.estimate is not None:
        low, high = timed.interval
        ends = {} if low is None or high is None else {"least": short(low), "most": short(high)}
        return {"cost": short(timed.estimate), **ends}
    if arm.ms_per_step and reference and reference.ms_per_step:
        return {"cost": short(arm.ms_per_step / reference.ms_per_step)}
    return {}


def _draw_cost(findings: Findings, measure: Measure, rows: list[dict[str, Any]]) -> Figure:
    order = order_variants(findings.arms)
    versus, ratio = order[0], measure.scale == "ratio"
    points = ", points" if measure.unit in PERCENT else ""
    title = [f"{measure.label}{points},", f"{'times' if ratio else 'more than'} {versus}'s (up is better)"]
    log: Spec = {"type": "log", "padding": 12, "nice": False}
    axis = {"format": ".3~g", "tickCount": 5}
    x = {"type": "quantitative", "title": f"time a step, times {versus}'s", "scale": log, "axis": axis}
    scale: Spec = log if ratio else {"zero": False, "padding": 12}
    y = {"type": "quantitative", "title": title, "axis": axis if ratio else {"format": "+.3~g", "tickCount": 5}}
    y["scale"] = scale | ({"reverse": True} if measure.direction == "lower" else {})
    tooltip = [
        {"field": "variant"},
        *({"field": n, "type": "quantitative"} for n in ("cost", "least", "most", "gain", "low", "high")),
    ]
    both = {"color": colour(order), "tooltip": tooltip}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "isValid(datum.low)"}], "mark": {"type": "rule"},
            "encoding": {**both, "x": {"field": "cost", **x}, "y": {"field": "low", **y}, "y2": {"field": "high"}},
        },
        {
            "transform": [{"filter": "isValid(datum.least)"}], "mark": {"type": "rule"},
            "encoding": {**both, "x": {"field": "least", **x}, "x2": {"field": "most"}, "y": {"field": "gain", **y}},
        },
        {
            "mark": {"type": "point"},
            "encoding": {**both, "shape": shape(order), "x": {"field": "cost", **x}, "y": {"field": "gain", **y}},
        },
    ]  # fmt: skip
    even = ""
    costs = [row["cost"] for row in rows]
    if ratio and measure.unit in ("steps", "examples") and max(costs) > min(costs):
        line = [{"cost": each, "gain": short(1 / each)} for each in (min(costs), max(costs))]
        layers.insert(0, {
            "data": {"values": line}, "mark": {"type": "line", "style": "target"},
            "encoding": {"x": {"field": "cost", **x}, "y": {"field": "gain", **y}},
        })  # fmt: skip
        even = f"; on the dotted line the time to the target is {versus}'s, above it is less"
    settings = unique(row["at"] for row in rows if "at" in row)
    costs_of = {(row["variant"], row.get("at", "")): row["cost"] for row in rows}
    said = "; ".join(
        f"{written_arm(c.variant, c.setting)} takes {costs_of[c.variant, written_setting(c.setting)]}x the time a step,"
        f" {measure.label} {written_comparison(c, measure)}"
        for arm in findings.arms
        for c in arm.comparisons
        if c.measure == measure.name and (c.variant, written_setting(c.setting)) in costs_of
    )
    spec = {
        "params": [HIDDEN], "data": {"values": rows}, "transform": [SHOWN],
        **facet(settings, layers if len(settings) < 2 or not even else layers[1:]),
    }  # fmt: skip
    caption = f"Bars are 95 % intervals{even if len(settings) < 2 else ''}."
    if missing := [variant for variant in order if variant not in {row["variant"] for row in rows}]:
        caption += f" Not shown, since it cannot be compared on both: {', '.join(missing)}."
    return make_figure(
        "cost", "What a step costs, and what that gains", caption, f"Relative to {versus}: {said}.", spec
    )
