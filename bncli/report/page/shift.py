"""What a page says of shift: the sentences, each definition against the reference, and every number by layer."""

from collections.abc import Iterator

from bncli.findings.shift import ShiftComparison, ShiftFindings
from bncli.format import written_arm, written_estimate
from bncli.report.data import ReportData
from bncli.report.figures.shift import layer_names
from bncli.report.page.parts import PageContent, Section, bullets, fold, make_columns, write_table
from bncli.report.page.study import list_facts, more_seeds_of
from bncli.report.shift.table import written_cell

_WORDS = {
    "less": "less",
    "more": "more",
    "same": "the same",
    "open": "inconclusive",
    "not comparable": "not comparable",
}


def read_shift(data: ReportData, findings: ShiftFindings) -> PageContent:
    """Everything but charts."""
    return PageContent(
        question=findings.question,
        setup=[findings.setup, findings.probes],
        answer=findings.sentences,
        next_steps=list(_next_steps(data, findings)),
        tables=[
            Section("verdicts", "Verdicts, by each definition of shift", _compared(findings, over_all=True)),
        ],
        details=[
            Section("definitions", "What each definition measures", bullets(
                f"{d.label}: {d.summary}" for d in findings.definitions if d.summary
            )),
            Section("layers", "Each definition at each layer", fold("Verdicts", _compared(findings, over_all=False))),
            Section("numbers", "Every number by layer", fold("Numbers", _numbers(findings))),
        ],
        warnings=findings.warnings,
        checks=data.checks,
        notes=list(findings.notes),
        facts=list_facts(data, findings.environment),
    )  # fmt: skip


def _compared(findings: ShiftFindings, *, over_all: bool) -> str:
    rows = [c for c in findings.comparisons if (c.layer == "") == over_all]
    if not rows:
        return ""
    known, names = {d.name: d for d in findings.definitions}, layer_names(findings)
    cells = {
        "definition": [known[c.metric].label for c in rows],
        **({} if over_all else {"layer": [names[c.layer, c.place] for c in rows]}),
        "variant": [written_arm(c.variant, c.setting) for c in rows],
        "": [_WORDS[c.side] for c in rows],
        f"against {rows[0].reference}": [_estimate(c, known[c.metric].scale == "ratio") for c in rows],
        "pairs": [str(c.pairs) for c in rows],
        "within noise": ["yes" if c.within_noise else "" for c in rows],
        "reason": [c.reason for c in rows],
    }
    where = "over all layers" if over_all else "layer by layer"
    caption = f"How much of each there is, {where}: times {rows[0].reference}, or the difference from it"
    return write_table(make_columns(cells, right=("pairs",)), caption)


def _estimate(c: ShiftComparison, ratio: bool) -> str:
    return "n/a" if c.estimate is None else written_estimate(c.estimate, c.low, c.high, ratio=ratio)


def _numbers(findings: ShiftFindings) -> str:
    names = layer_names(findings)
    found = {
        (written_arm(arm.variant, arm.setting), names[cell.layer, cell.place], cell.metric): cell
        for arm in findings.arms
        for cell in arm.cells
    }
    rows = list(dict.fromkeys(key[:2] for key in found))
    if not rows:
        return ""
    cells = {d.label: [written_cell(found.get((*row, d.name))) for row in rows] for d in findings.definitions}
    heads = {"variant": [variant for variant, _ in rows], "layer": [layer for _, layer in rows]}
    return write_table(
        make_columns({**heads, **cells}, right=cells), "Mean over training, ± standard deviation over seeds"
    )


def _next_steps(data: ReportData, findings: ShiftFindings) -> Iterator[str]:
    opened = [c for c in findings.comparisons if c.side == "open" and c.layer == ""]
    seeds = max((c.pairs for c in findings.comparisons), default=0)
    if opened:
        labels = {d.name: d.label for d in findings.definitions}
        which = ", ".join(dict.fromkeys(labels[c.metric] for c in opened))
        more = f"{more_seeds_of(data)} {2 * max(seeds, 5)}"
        yield f"Still inconclusive: {which}. More seeds narrow the intervals: {more}"
    elif findings.comparisons and seeds < 10:
        yield f"{seeds} paired seeds are few: {more_seeds_of(data)} 10 makes the intervals narrower and surer."
    if findings.comparisons:
        yield "Whether less shift means faster training is another question: bncli compare asks it of the same network."
