"""Figures of `bncli bench`: times against torch's, shares of what the machine can do, and the history of a gate."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bncli.format import written_ratio
from bncli.report.figures.parts import HIDDEN, SHOWN, Figure, Spec, colour, facet, make_figure, short, unique
from bncli.timing.results import BenchRecord, BenchRow

SAID = 8  # cases that a description names
BARE: Spec = {"domain": False, "ticks": False}


def bench_figures(record: BenchRecord) -> Iterator[Figure]:
    """Times, then rates; none of what gave wrong results, which has no speed."""
    rows = [row for row in record.rows if row.facts.correctness.verdict != "wrong"]
    if rows:
        yield ratio_figure(record, rows)
        yield roofline_figure(record, rows)


def ratio_figure(record: BenchRecord, rows: Sequence[BenchRow]) -> Figure:
    """A bar a kernel from 1 to its time over the rival's, with its interval: a panel for all that shares a setting."""
    settings, common = _settings(rows)
    rival = rows[0].rival
    cells = []
    for row, at in zip(rows, settings, strict=True):
        ratio = row.ratios[row.rival]
        ends = {"low": short(ratio.low), "high": short(ratio.high)}
        cells.append({
            "variant": row.case.label, "at": at, "ratio": short(ratio.value), "text": written_ratio(ratio.value),
            "verdict": row.verdict, **{name: end for name, end in ends.items() if end is not None},
        })  # fmt: skip
    labels = unique(row.case.label for row in rows)
    x: Spec = {
        "type": "quantitative", "title": f"time, times {_called(rival)}'s",
        "scale": {"type": "log", "nice": False, "padding": 6},
        "axis": {"format": ".2~g", "tickCount": 4, "labelOverlap": True, "labelSeparation": 4},
    }  # fmt: skip
    y: Spec = {"field": "variant", "type": "nominal", "sort": None, "title": None, "axis": BARE}
    tooltip = [
        {"field": "variant", "title": "kernel"}, {"field": "at", "title": "case"}, {"field": "verdict"},
        *({"field": n, "type": "quantitative", "format": ".4~g"} for n in ("ratio", "low", "high")),
    ]  # fmt: skip
    both: Spec = {"y": y, "tooltip": tooltip}
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "opacity": 0.75},
            "encoding": {
                **both, "x": {"field": "ratio", **x}, "x2": {"datum": 1},
                "color": colour([rival, *labels], legend=False),
            },
        },
        {
            "mark": {"type": "rule", "style": "interval"},
            "encoding": {**both, "x": {"field": "low", **x}, "x2": {"field": "high"}},
        },
        {"mark": {"type": "rule", "style": "target"}, "encoding": {"x": {"datum": 1, "type": "quantitative"}}},
    ]  # fmt: skip
    title = f"Time against {_called(rival)}"
    caption = f"{common}Bars left of 1 are faster; lines are 95 % intervals."
    return make_figure(
        "bench", title, caption, f"{title}: {_say(rows, lambda row: written_ratio(*_ends(row)))}",
        _panels(cells, unique(settings), layers),
    )  # fmt: skip


def roofline_figure(record: BenchRecord, rows: Sequence[BenchRow]) -> Figure:
    """Bytes and matrix products a second, as shares of what this machine was measured to do."""
    settings, common = _settings(rows)
    cells = []
    for row, at in zip(rows, settings, strict=True):
        rates = {"bytes moved": (row.algorithmic_bandwidth, row.rates.bandwidth, "GB/s")}
        peak = row.rates.products.get(row.case.dtype)
        if row.product_rate is not None and peak:
            rates["matrix products"] = (row.product_rate, peak, "GFLOP/s")
        for kind, (rate, most, unit) in rates.items():
            said = f"{rate / 1e9:.3g} of {most / 1e9:.3g} {unit}"
            cells.append({"variant": row.case.label, "at": at, "kind": kind, "share": short(rate / most), "rate": said})
    x: Spec = {
        "field": "share", "type": "quantitative", "title": "share of what the machine can do", "scale": {"zero": True},
        "axis": {"format": ".0%", "tickCount": 4, "labelOverlap": True},
    }  # fmt: skip
    tooltip = [
        {"field": "variant", "title": "kernel"}, {"field": "at", "title": "case"}, {"field": "kind"}, {"field": "rate"},
        {"field": "share", "type": "quantitative", "format": ".1%"},
    ]  # fmt: skip
    kinds = unique(str(cell["kind"]) for cell in cells)
    legend = {} if len(kinds) > 1 else {"legend": None}
    colours: Spec = {"domain": kinds, "range": ["#0072b2", "#d55e00"][: len(kinds)]}
    shapes: Spec = {"domain": kinds, "range": ["circle", "square"][: len(kinds)]}
    by_kind: Spec = {"field": "kind", "type": "nominal", "sort": None}
    by_kind.update(legend)
    y: Spec = {"field": "variant", "type": "nominal", "sort": None, "title": None, "axis": BARE}
    layers: list[Spec] = [
        {"mark": {"type": "rule", "style": "target"}, "encoding": {"x": {"datum": 1, "type": "quantitative"}}},
        {
            "mark": {"type": "point"},
            "encoding": {
                "y": y, "x": x, "tooltip": tooltip, "color": {**by_kind, "scale": colours},
                "shape": {**by_kind, "scale": shapes},
            },
        },
    ]  # fmt: skip
    title = "How much of the machine each kernel uses"
    caption = f"{common}The dotted line is what copies, or large matrix products, reach here."
    return make_figure(
        "roofline", title, caption,
        f"{title}: {_say(rows, lambda row: f'{row.algorithmic_bandwidth / row.rates.bandwidth:.0%} of the bandwidth')}",
        _panels(cells, unique(settings), layers),
    )  # fmt: skip


def history_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The trend of every case of a gate over its runs, with the runs at which it stepped.

    Args:
        rows: one a run and case, in order: run (a number), commit, time, case, value, low and high (or None), stepped.
    """
    kept = []
    for row in rows:
        ends = {name: short(row[name]) for name in ("low", "high") if row[name] is not None}
        words = {"run": row["run"], "commit": str(row["commit"])[:10], "time": row["time"], "at": row["case"]}
        kept.append({**words, "value": short(row["value"]), **ends, **({"stepped": 1} if row["stepped"] else {})})
    x: Spec = {
        "field": "run", "type": "quantitative", "title": "run", "scale": {"zero": False, "nice": False, "padding": 8},
        "axis": {"tickMinStep": 1, "format": "d", "tickCount": 6},
    }  # fmt: skip
    y: Spec = {
        "type": "quantitative", "title": "ratio", "scale": {"zero": False}, "axis": {"format": ".3~g", "tickCount": 4}
    }  # fmt: skip
    tooltip = [
        {"field": "at", "title": "case"}, {"field": "run", "type": "quantitative"}, {"field": "commit"},
        {"field": "time"}, *({"field": n, "type": "quantitative", "format": ".4~g"} for n in ("value", "low", "high")),
    ]  # fmt: skip
    both: Spec = {"x": x, "tooltip": tooltip}
    middle: Spec = {"field": "value", **y}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "isValid(datum.low)"}], "mark": {"type": "rule", "style": "interval"},
            "encoding": {**both, "y": {"field": "low", **y}, "y2": {"field": "high"}},
        },
        {"mark": {"type": "line", "style": "trend"}, "encoding": {**both, "y": middle}},
        {"mark": {"type": "point", "style": "dot"}, "encoding": {**both, "y": middle}},
        {
            "transform": [{"filter": "datum.stepped"}],
            "mark": {"type": "point", "shape": "circle", "style": ["ring", "step"]}, "encoding": {**both, "y": middle},
        },
        {
            "transform": [{"filter": "datum.stepped"}],
            "mark": {"type": "text", "style": "label", "align": "right", "baseline": "bottom", "dx": -6, "dy": -6},
            "encoding": {**both, "y": middle, "text": {"field": "commit"}},
        },
    ]  # fmt: skip
    cases = unique(str(row["at"]) for row in kept)
    steps = [f"{row['at']} at run {row['run']} (commit {row['commit']})" for row in kept if "stepped" in row]
    title = "Each case, run by run"
    said = f"Stepped: {'; '.join(steps)}." if steps else "No case stepped."
    spec = {**_panels(kept, cases, layers, 130), "params": [], "transform": []}
    runs = len({row["run"] for row in kept})
    caption = "Lines are 95 % intervals; rings are runs at which the gate says that it stepped, with their commits."
    return make_figure("history", title, caption, f"{title}: {len(cases)} cases over {runs} runs. {said}", spec)


def _panels(
    cells: Sequence[Mapping[str, Any]], panels: Sequence[str], layers: Sequence[Spec], height: Any = None
) -> Spec:
    """A panel a setting, each with rows of its own alone."""
    found = facet(panels, layers, columns=2, height=height or {"step": 22})
    if "spec" in found:
        found["resolve"] = {"axis": {"x": "independent"}, "scale": {"y": "independent"}}
    return {"params": [HIDDEN], "data": {"values": [*cells]}, "transform": [SHOWN], **found}


def _settings(rows: Sequence[BenchRow]) -> tuple[list[str], str]:
    """What tells each row's case from those of others, and in a sentence what all share."""
    settings = [row.case.setting | {"device": row.case.device} for row in rows]
    shared = {key for key, value in settings[0].items() if all(s[key] == value for s in settings)}
    words = [" · ".join(_word(k, v) for k, v in s.items() if k not in shared) for s in settings]
    common = ", ".join(_word(key, settings[0][key]) for key in settings[0] if key in shared)
    return words, f"All cases: {common}. " if common else ""


def _word(key: str, value: Any) -> str:
    if key == "threads":
        return "1 thread" if value == 1 else f"{value} threads"
    if key == "compile":
        return "compiled" if value else "not compiled"
    return str(value)


def _called(rival: str) -> str:
    return {"native": "torch", "against": "the other environment"}.get(rival, rival)


def _ends(row: BenchRow) -> tuple[float, float | None, float | None]:
    ratio = row.ratios[row.rival]
    return ratio.value, ratio.low, ratio.high


def _say(rows: Sequence[BenchRow], say: Any) -> str:
    more = f"; and {len(rows) - SAID} more" if len(rows) > SAID else ""
    return "; ".join(f"{row.case.name} {say(row)}" for row in rows[:SAID]) + more + "."
