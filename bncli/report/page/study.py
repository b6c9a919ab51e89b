"""What a page says of a study: its verdicts, how sure they are, what would decide those that are open."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bncli.findings import Arm, Comparison, Findings, Measure, SearchFindings, Tuning
from bncli.format import (
    written_arm,
    written_change,
    written_claim,
    written_comparison,
    written_detectable,
    written_judgement,
    written_option,
    written_score,
    written_setting,
)
from bncli.report.data import ReportData
from bncli.report.page.parts import PageContent, Section, make_columns, write_table
from bncli.report.study.table import SYMBOLS, columns, sentences

_WORDS = {symbol: verdict for verdict, (symbol, _) in SYMBOLS.items()}
_VERSIONS = {"bncli": "bncli", "torch": "torch", "python": "Python", "numpy": "NumPy"}


def read_study(data: ReportData, findings: Findings) -> PageContent:
    """Everything but charts."""
    return PageContent(
        question=findings.question,
        setup=[findings.setup],
        answer=sentences(findings),
        next_steps=list(_next_steps(data, findings)),
        tables=[
            Section("verdicts", "Verdicts", _verdicts(findings)),
            Section("certainty", "How sure is each verdict?", _certainty(findings)),
            Section("claims", "Claims", _claims(findings)),
        ],
        details=[Section("tuning", "What was tuned", _tunings(findings))],
        warnings=findings.warnings,
        checks=[check for check in data.checks if check.name not in map(written_claim, findings.claims)],
        notes=findings.notes,
        facts=list_facts(data, findings.environment),
    )


def list_facts(data: ReportData, environment: Mapping[str, Any]) -> dict[str, str]:
    """Versions, machine and seeds, in words."""
    versions = [f"{name} {environment[key]}" for key, name in _VERSIONS.items() if environment.get(key)]
    seeds = sorted({run.seed for run in data.runs})
    spans = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    listed = f"{seeds[0]} to {seeds[-1]}" if spans else ", ".join(map(str, seeds))
    others = {key.replace("_", " "): _fact(value) for key, value in environment.items() if key not in _VERSIONS}
    facts = {"software": ", ".join(versions), "seeds": listed, **others}
    return {label: value for label, value in facts.items() if value}


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value))
    return "" if value is None else str(value)


def _verdicts(findings: Findings) -> str:
    if not findings.arms:
        return ""
    first = findings.measures[0].label
    judged = f"; the verdict is on {first}" if any(arm.comparisons for arm in findings.arms) else ""
    return write_table(columns(findings), f"Every variant and its measures{judged}", {"": "reference", **_WORDS})


def _compared(findings: Findings) -> Iterator[tuple[Arm, Measure, Comparison]]:
    measures = {measure.name: measure for measure in findings.measures}
    yield from ((arm, measures[c.measure], c) for arm in findings.arms for c in arm.comparisons)


def _certainty(findings: Findings) -> str:
    rows = list(_compared(findings))
    if not rows:
        return ""
    cells: dict[str, list[str]] = {
        "variant": [written_arm(arm.variant, arm.setting) for arm, _, _ in rows],
        "measure": [measure.label for _, measure, _ in rows],
        "": [SYMBOLS[c.verdict][0] for _, _, c in rows],
        f"against {rows[0][2].reference}": [written_comparison(c, m) for _, m, c in rows],
        "level": [f"{100 * c.level:.4g} %" if c.method else "n/a" for _, _, c in rows],
        "better in": [_better(c) for _, _, c in rows],
        "p of the exact test, corrected": ["n/a" if c.p_holm is None else f"{c.p_holm:.2g}" for _, _, c in rows],
        "by itself, at 95 %": [written_change(c.estimate, c.low, c.high, m) for _, m, c in rows],
        "more seeds to decide": [_more(c) for _, _, c in rows],
        "reason": [c.reason for _, _, c in rows],
    }
    shown = make_columns(cells, right=("better in", "p of the exact test, corrected", "level", "more seeds to decide"))
    caption = "Every comparison, with the interval that its verdict follows from"
    return write_table(shown, caption, _WORDS)


def _better(c: Comparison) -> str:
    """How many of the pairs it was better in; ties count half."""
    share = c.probability_of_improvement
    return "n/a" if share is None else f"{share * c.pairs:g} of {c.pairs} pairs"


def _more(c: Comparison) -> str:
    if c.verdict != "inconclusive":
        return ""
    return f"about {c.more_seeds}" if c.more_seeds else "unknown"


def _claims(findings: Findings) -> str:
    if not findings.claims:
        return ""
    cells: dict[str, list[str]] = {
        "": [each.outcome for each in findings.claims],
        "claim": [written_claim(each) for each in findings.claims],
        "measured": [written_judgement(each) for each in findings.claims],
        "pairs": [str(each.pairs) for each in findings.claims],
        "could have decided": [written_detectable(each) for each in findings.claims],
        "who says so": [each.claim.source for each in findings.claims],
        "remark": [each.reason for each in findings.claims],
    }
    return write_table(make_columns(cells), "What is said to hold, and what the runs say")


def _choices(findings: Findings) -> list[Tuning | SearchFindings]:
    return [*findings.tunings, *findings.searches]


def _tunings(findings: Findings) -> str:
    cells: dict[str, list[str]] = {
        "variant": [], "chosen": [], "its score": [], "chosen by": [], "as good within a point": [], "runs spent": [],
        "steps spent": [],
    }  # fmt: skip
    for each in _choices(findings):
        if isinstance(each, Tuning):
            chosen, score = {each.key: each.chosen}, max(each.medians)
            usable = f"{written_option(each.usable_low)} to {written_option(each.usable_high)}"
        else:
            chosen, score, usable = dict(each.chosen), each.best_so_far[-1], ""
        for title, cell in zip(cells, (
            written_arm(each.variant, each.setting), written_setting(chosen), written_score(score, each.by),
            each.by.replace("_", " "), usable, f"{each.runs:,}", f"{each.steps:,}",
        ), strict=True):  # fmt: skip
            cells[title].append(cell)
    if not cells["variant"]:
        return ""
    shown = make_columns(cells, right=("its score", "runs spent", "steps spent"))
    return write_table(shown, "What was chosen for each variant, before the runs that are reported")


def _next_steps(data: ReportData, findings: Findings) -> Iterator[str]:
    """What would settle what is open; else what could be asked next."""
    opened = [(arm, measure, c) for arm, measure, c in _compared(findings) if c.verdict == "inconclusive"]
    for measure in findings.measures:
        known = [(arm, c) for arm, m, c in opened if m == measure and c.more_seeds]
        if known:
            names = ", ".join(written_arm(arm.variant, arm.setting) for arm, _ in known)
            more = sorted({c.more_seeds or 0 for _, c in known})
            count = " to ".join(map(str, dict.fromkeys((more[0], more[-1]))))
            seeds = max(c.pairs + (c.more_seeds or 0) for _, c in known)
            yield (
                f"{measure.label} is still inconclusive for {names}; about {count} more seeds would decide:"
                f" {more_seeds_of(data)} {seeds}"
            )
    hard = [f"{written_arm(arm.variant, arm.setting)} on {m.label}" for arm, m, c in opened if not c.more_seeds]
    if hard:
        yield (
            f"Inconclusive, and more seeds alone may not decide: {'; '.join(hard)}. Train longer (training.steps) or"
            " evaluate more often (evaluation.every)."
        )
    for arm in findings.arms:
        if arm.reached == 0:
            yield (
                f"{written_arm(arm.variant, arm.setting)} never reached the target: raise training.steps or lower"
                " target.accuracy to compare speed."
            )
    for each in _choices(findings):
        if each.on_edge:
            keys = each.key if isinstance(each, Tuning) else ", ".join(each.on_edge)
            yield (
                f"{written_arm(each.variant, each.setting)}: the best {keys} lies at the end of what was tried; widen"
                " the range in the preset."
            )
    if not opened and findings.arms:
        yield (
            "Every comparison is decided. To learn whether it holds elsewhere, repeat it with other data, another model"
            " or another learning rate: --data, --model, --set training.lr=..."
        )


def more_seeds_of(data: ReportData) -> str:
    """The command with another number of seeds, which is to follow."""
    return f"{re.sub(r' --seeds[ =][^ ]+', '', data.command)} --seeds"
