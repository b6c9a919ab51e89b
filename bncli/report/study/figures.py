"""What a search found as figures: the best so far by trial, and how much each key explains."""

from pathlib import Path

from bncli.findings import Findings, SearchFindings
from bncli.format import written_arm
from bncli.report import figures
from bncli.report.bands import Band
from bncli.report.figures import Share, Spec, draw


def write_search_plots(findings: Findings, folder: Path) -> list[Path]:
    """Write the figures of a study's search, as SVG and PNG; none where it has none.

    Raises:
        BncliError: without the extra `report`, or where the files cannot be written.
    """
    made = {"search": best_figure(findings), "importance": importance_figure(findings)}
    return [file for name, spec in made.items() if spec for file in draw(spec, folder / f"{findings.name}-{name}")]


def best_figure(findings: Findings) -> Spec | None:
    """The best score so far after each trial, at the first rung, where all trials were compared: a line an arm."""
    if not findings.searches:
        return None
    first = findings.searches[0]
    unit = ", %" if first.by == "validation_accuracy" else ""
    title = f"Best trial so far, median over seeds, after {first.rungs[0]:,} steps"
    bands = [_band(search) for search in findings.searches]
    what = f"{first.by.replace('_', ' ')}{unit}"
    return figures.curves(bands, title=title, subtitle=findings.setup, y=what, x="trial")


def importance_figure(findings: Findings) -> Spec | None:
    """What each key explains by itself of the differences between an arm's trials; None where there are too few."""
    cells = [
        Share(weight.key.rsplit(".", 1)[-1], written_arm(search.variant, search.setting), weight.share, weight.distinct)
        for search in findings.searches
        for weight in search.importances
        if weight.share is not None
    ]
    title = "What each key explains of a trial's rank; pale: no more than chance would"
    return figures.shares(cells, title=title, subtitle=findings.setup) if cells else None


def _band(search: SearchFindings) -> Band:
    sign = 100 if search.by == "validation_accuracy" else -1
    best = [sign * score for score in search.best_so_far]
    trials = range(1, len(best) + 1)
    return Band(written_arm(search.variant, search.setting), trials, best, best, best, "best so far")
