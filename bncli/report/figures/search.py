"""What a search found as figures: the best so far by trial, and how much each key explains."""

from collections.abc import Iterator

from bncli.findings import Findings, SearchFindings
from bncli.format import written_arm
from bncli.report.bands import Band
from bncli.report.figures import panels
from bncli.report.figures.panels import Share
from bncli.report.figures.parts import Figure, make_figure


def search_figures(findings: Findings) -> Iterator[Figure]:
    """Those of a study's search; none where it has none."""
    yield from (figure for figure in (best_figure(findings), importance_figure(findings)) if figure)


def best_figure(findings: Findings) -> Figure | None:
    """The best score so far after each trial, at the first rung, where all trials were compared: a line an arm."""
    if not findings.searches:
        return None
    first = findings.searches[0]
    unit = ", %" if first.by == "validation_accuracy" else ""
    title = f"Best trial so far, median over seeds, after {first.rungs[0]:,} steps"
    bands = [_band(search) for search in findings.searches]
    what = f"{first.by.replace('_', ' ')}{unit}"
    caption = "Each line is the best of all trials up to there."
    ends = "; ".join(f"{band.label} {band.middle[-1]:.3g}" for band in bands)
    alt = f"{title}: after the last trial {ends} ({what})."
    return make_figure("search", title, caption, alt, panels.curves(bands, y=what, x="trial"))


def importance_figure(findings: Findings) -> Figure | None:
    """What each key explains by itself of the differences between an arm's trials; None where there are too few."""
    cells = [
        Share(weight.key.rsplit(".", 1)[-1], written_arm(search.variant, search.setting), weight.share, weight.distinct)
        for search in findings.searches
        for weight in search.importances
        if weight.share is not None
    ]
    if not cells:
        return None
    title = "How much each key explains of a trial's rank"
    caption = "By itself, of all differences between trials; pale bars are no more than chance would make."
    alt = f"{title}: " + "; ".join(f"{cell.variant}, {cell.key} {cell.share:.0%}" for cell in cells) + "."
    return make_figure("importance", title, caption, alt, panels.shares(cells))


def _band(search: SearchFindings) -> Band:
    sign = 100 if search.by == "validation_accuracy" else -1
    best = [sign * score for score in search.best_so_far]
    trials = range(1, len(best) + 1)
    return Band(written_arm(search.variant, search.setting), trials, best, best, best, "best so far")
