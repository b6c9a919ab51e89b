"""Figures of what was varied: a measure over a swept or tuned number, with each variant's optimum."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bncli.findings import Findings, Summary
from bncli.format import written, written_arm, written_score, written_setting
from bncli.report.figures.parts import (
    HIDDEN,
    SHOWN,
    Figure,
    Spec,
    colour,
    dash,
    facet,
    make_figure,
    order_variants,
    shape,
    short,
    unique,
)

FEW = 2  # values of a key make no curve yet
FAR = 3  # times the worst variant's best: such a loss is of training that went astray


def tuning_figures(findings: Findings) -> Iterator[Figure]:
    """A figure of every tuned key, of a searched learning rate, and of the swept number that has most values."""
    order = order_variants(findings.arms)
    for key in unique(tuning.key for tuning in findings.tunings):
        yield _tuned(findings, key, order)
    if findings.searches and "training.lr" in findings.searches[0].space:
        yield _searched(findings, "training.lr", order)
    swept = _swept_key(findings)
    if swept and findings.measures:
        yield _swept(findings, swept, order)


def _tuned(findings: Findings, key: str, order: Sequence[str]) -> Figure:
    tunings = [tuning for tuning in findings.tunings if tuning.key == key]
    rows: list[dict[str, Any]] = []
    by = tunings[0].by
    accuracy = by == "validation_accuracy"
    for tuning in tunings:
        at = {"at": written_setting(tuning.setting)} if tuning.setting else {}
        for value, median in zip(tuning.values, tuning.medians, strict=True):
            best = {"best": 1} if value == tuning.chosen else {}
            score = short(median if accuracy else -median)
            rows.append({"variant": tuning.variant, **at, "x": short(value), "y": score, **best})
    word = key.rsplit(".", 1)[-1]
    chosen = "; ".join(
        f"{written_arm(t.variant, t.setting)} {t.chosen:g}"
        f" ({written_score(t.medians[t.values.index(t.chosen)], by)}{' %' if accuracy else ''})"
        for t in tunings
    )
    title = f"{by.replace('_', ' ').capitalize()} over {_called(word)}"
    return make_figure(
        f"tuning-{word}", title, "Medians over tuning seeds; rings are the values chosen for the comparison.",
        f"{title}. Best for {chosen}.", _over_number(rows, order, word, by.replace("_", " "), percent=accuracy),
    )  # fmt: skip


def _searched(findings: Findings, key: str, order: Sequence[str]) -> Figure:
    """Every trial of a search by one of its keys, at the first rung, to which all were trained."""
    searches, rows = findings.searches, list[dict[str, Any]]()
    by, steps = searches[0].by, searches[0].rungs[0]
    sign = 1 if by == "validation_accuracy" else -1
    for search in searches:
        at = {"at": written_setting(search.setting)} if search.setting else {}
        for trial in search.trials:
            best = {"best": 1} if trial.values == search.chosen else {}
            point = {"x": short(trial.values[key]), "y": short(sign * trial.first)}
            if point["y"] is not None:  # of what diverged there is no score
                rows.append({"variant": search.variant, **at, **point, **best})
    word = key.rsplit(".", 1)[-1]
    chosen = "; ".join(f"{written_arm(s.variant, s.setting)} {s.chosen[key]:.3g}" for s in searches)
    title = f"{by.replace('_', ' ').capitalize()} over {_called(word)}, all trials"
    spec = _over_number(rows, order, word, by.replace("_", " "), percent=sign > 0, joined=False)
    caption = f"Medians over seeds after {steps:,} steps; rings are the trials chosen in the end."
    return make_figure(f"trials-{word}", title, caption, f"{title}. Chosen for {chosen}.", spec)


def _swept_key(findings: Findings) -> str | None:
    """The swept key with most values, all of them numbers."""
    values: dict[str, set[float]] = {}
    for arm in findings.arms:
        for key, value in arm.setting.items():
            values.setdefault(key, set()).add(value if type(value) in (int, float) else float("nan"))
    counts = {key: len(found) for key, found in values.items() if all(v == v for v in found)}
    most = max(counts, key=lambda each: counts[each], default=None)
    return most if most and counts[most] > FEW else None


def _swept(findings: Findings, key: str, order: Sequence[str]) -> Figure:
    measure = next((m for m in findings.measures if m.unit == "fraction"), findings.measures[0])
    sign = 1 if measure.direction == "higher" else -1
    rows: list[dict[str, Any]] = []
    for arm in findings.arms:
        summary = next(each for each in arm.summaries if each.measure == measure.name)
        rest = written_setting({k: v for k, v in arm.setting.items() if k != key})
        centre = summary.mean if summary.mean is not None else summary.median
        if centre is not None:
            at = {"at": rest} if rest else {}
            rows.append({"variant": arm.variant, **at, "x": short(arm.setting[key]), **_ends(summary, centre)})
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        here = row["variant"], row.get("at", "")
        if here not in best or sign * row["y"] > sign * best[here]["y"]:
            best[here] = row
    for row in best.values():
        row["best"] = 1
    word = key.rsplit(".", 1)[-1]
    title = f"{measure.label[:1].upper()}{measure.label[1:]} over {_called(word)}"
    said = "; ".join(
        f"{variant}{' at ' + at if at else ''} {row['x']} ({written(row['y'], measure.unit)})"
        for (variant, at), row in best.items()
    )
    return make_figure(
        f"sweep-{word}", title, "Means over seeds with their standard deviation; rings are each variant's best.",
        f"{title}. Best for {said}.",
        _over_number(rows, order, word, measure.label, percent=measure.unit in ("fraction", "share")),
    )  # fmt: skip


def _ends(summary: Summary, centre: float) -> Mapping[str, Any]:
    ends = {} if summary.std is None else {"low": short(centre - summary.std), "high": short(centre + summary.std)}
    return {"y": short(centre), **ends}


def _edge(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Where an axis of losses ends, so that those far above every best do not hide the others; None: none is."""
    worst = max((row["y"] for row in rows if "best" in row and row["y"] is not None), default=0)
    known = [row["y"] for row in rows if row["y"] is not None]
    near = [y for y in known if y <= FAR * worst]
    if worst <= 0 or len(near) == len(known):
        return None
    return short(max(near) + 0.15 * (max(near) - min(near) or worst))


def _called(word: str) -> str:
    return "the learning rate" if word == "lr" else word.replace("_", " ")


def _over_number(
    rows: Sequence[Mapping[str, Any]],
    order: Sequence[str],
    word: str,
    label: str,
    *,
    percent: bool,
    joined: bool = True,
) -> Spec:
    """A line a variant with its points, their spread where it is known, and a ring around the best."""
    numbers = [row["x"] for row in rows]
    log = bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= 8
    ticks = sorted(set(numbers))
    marked: Spec = {"values": ticks} if len(ticks) <= 12 and joined else {"tickCount": 6}
    x: Spec = {
        "field": "x", "type": "quantitative", "title": "learning rate" if word == "lr" else word.replace("_", " "),
        "scale": {"type": "log", "padding": 12, "nice": False} if log else {"zero": False, "padding": 12},
        "axis": {"format": "~g", "labelOverlap": True, **marked},
    }  # fmt: skip
    end = None if percent else _edge(rows)
    y: Spec = {
        "type": "quantitative", "title": label if end is None else f"{label} (what is above stands at the edge)",
        "scale": {"zero": False} if end is None else {"zero": False, "domainMax": end, "clamp": True},
        "axis": {"format": ".3~%" if percent else ".3~g", "tickCount": 5},
    }  # fmt: skip
    tooltip = [
        {"field": "variant"}, {"field": "x", "type": "quantitative", "title": word, "format": "~g"},
        *({"field": n, "type": "quantitative", "title": title, "format": y["axis"]["format"].replace("3", "4")}
          for n, title in (("y", label), ("low", "low"), ("high", "high"))),
    ]  # fmt: skip
    both = {"x": x, "color": colour(order), "tooltip": tooltip}
    middle = {"field": "y", **y}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "isValid(datum.low)"}], "mark": {"type": "rule", "opacity": 0.6},
            "encoding": {**both, "y": {"field": "low", **y}, "y2": {"field": "high"}},
        },
        *([{"mark": {"type": "line"}, "encoding": {**both, "y": middle, "strokeDash": dash(order)}}] * joined),
        {"mark": {"type": "point"}, "encoding": {**both, "y": middle, "shape": shape(order)}},
        {
            "transform": [{"filter": "datum.best"}],
            "mark": {"type": "point", "shape": "circle", "style": "ring"},
            "encoding": {**both, "y": middle},
        },
    ]  # fmt: skip
    settings = unique(row["at"] for row in rows if "at" in row)
    return {"params": [HIDDEN], "data": {"values": [*rows]}, "transform": [SHOWN], **facet(settings, layers)}
