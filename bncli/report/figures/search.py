"""What a search found as figures: the best so far by trial, and how much each key explains."""

from collections.abc import Iterator

from bncli.findings import Findings
from bncli.format import written_arm, written_score
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
    short,
    unique,
)


def search_figures(findings: Findings) -> Iterator[Figure]:
    """Those of a study's search; none where it has none."""
    yield from (figure for figure in (best_figure(findings), importance_figure(findings)) if figure)


def best_figure(findings: Findings) -> Figure | None:
    """The best score so far after each trial, at the first rung, where all trials were compared: a line an arm."""
    if not findings.searches:
        return None
    first, order = findings.searches[0], order_variants(findings.arms)
    accuracy = first.by == "validation_accuracy"
    sign = 1 if accuracy else -1
    rows = [
        {
            "variant": search.variant, "at": written_arm(search.variant, search.setting),
            "trial": [*range(1, len(search.best_so_far) + 1)], "best": [short(sign * s) for s in search.best_so_far],
        }
        for search in findings.searches
    ]  # fmt: skip
    what = first.by.replace("_", " ")
    form = ".3~%" if accuracy else ".3~g"
    axis = {"format": form, "tickCount": 5}
    x = {
        "field": "trial",
        "type": "quantitative",
        "title": "trial",
        "axis": {"tickMinStep": 1},
        "scale": {"nice": False},
    }
    y = {"field": "best", "type": "quantitative", "title": what, "axis": axis, "scale": {"zero": False}}
    tooltip = [
        {"field": "at", "title": "variant"}, {"field": "trial", "type": "quantitative"},
        {"field": "best", "type": "quantitative", "format": form.replace("3", "4")},
    ]  # fmt: skip
    line: Spec = {
        "mark": {"type": "line", "interpolate": "step-after"},
        "encoding": {
            "x": x, "y": y, "color": colour(order), "strokeDash": dash(order), "detail": {"field": "at"},
            "tooltip": tooltip,
        },
    }  # fmt: skip
    title = f"Best trial so far, after {first.rungs[0]:,} steps"
    ends = "; ".join(
        f"{written_arm(each.variant, each.setting)} {written_score(each.best_so_far[-1], first.by)}"
        for each in findings.searches
    )
    spec = {
        "params": [HIDDEN], "data": {"values": rows}, "transform": [{"flatten": ["trial", "best"]}, SHOWN],
        **facet([], [line]),
    }  # fmt: skip
    alt = f"{title}: after the last trial {ends} ({what}{', %' if accuracy else ''})."
    return make_figure("search", title, "Median over seeds of the best of all trials up to there.", alt, spec)


def importance_figure(findings: Findings) -> Figure | None:
    """What each key explains by itself of the differences between an arm's trials; None where there are too few."""
    rows = [
        {
            "at": written_arm(search.variant, search.setting), "variant": search.variant,
            "key": weight.key.rsplit(".", 1)[-1], "share": short(weight.share),
            **({"distinct": 1} if weight.distinct else {}),
        }
        for search in findings.searches
        for weight in search.importances
        if weight.share is not None
    ]  # fmt: skip
    if not rows:
        return None
    x = {"field": "share", "type": "quantitative", "title": None, "scale": {"domain": [0, 1]}}
    y = {"field": "key", "type": "nominal", "sort": None, "title": None, "axis": {"domain": False, "ticks": False}}
    bar: Spec = {
        "mark": {"type": "bar"},
        "encoding": {
            "x": x | {"axis": {"format": ".0%", "tickCount": 4}}, "y": y,
            "color": colour(order_variants(findings.arms), legend=False),
            "opacity": {"condition": {"test": "datum.distinct", "value": 1}, "value": 0.3},
            "tooltip": [{"field": "at", "title": "variant"}, {"field": "key"},
                        {"field": "share", "type": "quantitative", "format": ".1%"}],
        },
    }  # fmt: skip
    title = "How much each key explains of a trial's rank"
    caption = "By itself, of all differences between trials; pale bars are no more than chance would make."
    alt = f"{title}: " + "; ".join(f"{row['at']}, {row['key']} {row['share']:.0%}" for row in rows) + "."
    panels = facet(unique(str(row["at"]) for row in rows), [bar], height={"step": 24})
    spec = {"params": [HIDDEN], "data": {"values": rows}, "transform": [SHOWN], **panels}
    return make_figure("importance", title, caption, alt, spec)
