"""What a page says of a study: its verdicts, how sure they are, what would decide those that are open."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from bncli.findings import Arm, Comparison, Findings, Measure, SearchFindings, Tuning
from bncli.format import (
    written_arm,
    written_claim,
    written_comparison,
    written_judgement,
    written_option,
    written_score,
)
from bncli.report.data import ReportData
from bncli.report.layout import Column
from bncli.report.page.parts import PageContent, Section, write_table
from bncli.report.study.table import SYMBOLS, columns

_WORDS = {symbol: verdict for verdict, (symbol, _) in SYMBOLS.items()}
_VERSIONS = {"bncli": "bncli", "torch": "torch", "python": "Python", "numpy": "NumPy"}


def read_study(data: ReportData, findings: Findings) -> PageContent:
    """Everything but charts."""
    answer = [findings.answer] if findings.answer else []
    return PageContent(
        question=findings.question,
        setup=[findings.setup],
        answer=[*answer, *(line for line in findings.headlines if line != findings.answer)],
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


def list_facts(data: ReportData, environment: Any) -> dict[str, str]:
    """Versions, machine and seeds, in words."""
    versions = [f"{name} {environment[key]}" for key, name in _VERSIONS.items() if environment.get(key)]
    seeds = sorted({run.seed for run in data.runs})
    others = {key.replace("_", " "): value for key, value in environment.items() if key not in _VERSIONS}
    spans = seeds == list(range(seeds[0], seeds[-1] + 1)) if seeds else False
    return {
        **({"software": ", ".join(versions)} if versions else {}),
        **({"seeds": f"{seeds[0]} to {seeds[-1]}" if spans and len(seeds) > 2 else ", ".join(map(str, seeds))} if seeds else {}),
        **{key: _fact(value) for key, value in others.items() if value not in (None, "", [], {})},
    }  # fmt: skip


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value))
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


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
        "better in": [_better(c) for _, _, c in rows],
        "p, corrected": ["n/a" if c.p_holm is None else f"{c.p_holm:.2g}" for _, _, c in rows],
        "interval of the verdict": [written_comparison(c, m, corrected=True) for _, m, c in rows],
        "at": [f"{100 * c.level:.4g} %" if c.method else "n/a" for _, _, c in rows],
        "more seeds to decide": [_more(c) for _, _, c in rows],
        "reason": [c.reason for _, _, c in rows],
    }
    right = ("better in", "p, corrected", "at", "more seeds to decide")
    shown = [Column(title, tuple(map(Text, column)), right=title in right)
             for title, column in cells.items() if any(column)]  # fmt: skip
    return write_table(shown, "Every comparison: estimate, interval and test", _WORDS)


def _better(c: Comparison) -> str:
    """How many of the pairs it was better in; ties count half."""
    share = c.probability_of_improvement
    return "n/a" if share is None else f"{share * c.pairs:g} of {c.pairs} pairs"


def _more(c: Comparison) -> str:
    if c.verdict != "inconclusive":
        return "none"
    return f"about {c.more_seeds}" if c.more_seeds else "unknown"


def _claims(findings: Findings) -> str:
    if not findings.claims:
        return ""
    cells: dict[str, list[str]] = {
        "": [each.outcome for each in findings.claims],
        "claim": [written_claim(each) for each in findings.claims],
        "measured": [written_judgement(each) for each in findings.claims],
        "pairs": [str(each.pairs) for each in findings.claims],
        "who says so": [each.claim.source for each in findings.claims],
        "remark": [each.reason for each in findings.claims],
    }
    shown = [Column(title, tuple(map(Text, column))) for title, column in cells.items() if any(column)]
    return write_table(shown, "What is said to hold, and what the runs say")


def _tunings(findings: Findings) -> str:
    found: list[Tuning | SearchFindings] = [*findings.tunings, *findings.searches]
    if not found:
        return ""
    cells: dict[str, list[str]] = {
        "variant": [written_arm(each.variant, each.setting) for each in found],
        "chosen": [f"{t.key.rsplit('.', 1)[-1]} {written_option(t.chosen)}" for t in findings.tunings]
        + [", ".join(f"{key.rsplit('.', 1)[-1]} {written_option(value)}" for key, value in s.chosen.items())
           for s in findings.searches],
        "chosen by": [each.by.replace("_", " ") for each in found],
        "its score": [written_score(max(t.medians), t.by) for t in findings.tunings]
        + [written_score(s.best_so_far[-1], s.by) for s in findings.searches],
        "as good within a point": [f"{written_option(t.usable_low)} to {written_option(t.usable_high)}" for t in findings.tunings]
        + ["" for _ in findings.searches],
        "runs spent": [f"{each.runs:,}" for each in found],
        "steps spent": [f"{each.steps:,}" for each in found],
    }  # fmt: skip
    shown = [Column(title, tuple(map(Text, column)), right=title in ("its score", "runs spent", "steps spent"))
             for title, column in cells.items() if any(column)]  # fmt: skip
    return write_table(shown, "Values that were chosen for each variant before it was reported on")


def _next_steps(data: ReportData, findings: Findings) -> Iterator[str]:
    """What would settle what is open; else what could be asked next."""
    opened = [(arm, measure, c) for arm, measure, c in _compared(findings) if c.verdict == "inconclusive"]
    yield from _decide(opened, more_seeds_of(data))
    for arm in findings.arms:
        if arm.reached == 0:
            yield (
                f"{written_arm(arm.variant, arm.setting)} never reached the target: raise training.steps or lower"
                " target.accuracy to compare speed."
            )
    chosen: list[Tuning | SearchFindings] = [*findings.tunings, *findings.searches]
    for each in chosen:
        if each.on_edge:
            keys = each.key if isinstance(each, Tuning) else ", ".join(each.on_edge)
            yield (
                f"{written_arm(each.variant, each.setting)}: the best value of {keys} lies at the end of what was tried;"
                " widen the range in the preset."
            )
    for judgement in findings.claims:
        if judgement.outcome == "undecided":
            yield f"The claim “{written_claim(judgement)}” is undecided: more seeds narrow its interval."
    if not opened and findings.arms:
        yield (
            "Every comparison is decided. To learn whether it holds elsewhere, repeat it with other data, another model"
            " or another learning rate: --set training.lr=..., --data, --model."
        )


def more_seeds_of(data: ReportData) -> str:
    """The command with another number of seeds, which is to follow."""
    return f"{re.sub(r' --seeds[ =][^ ]+', '', data.command) or f'bncli compare {data.name}'} --seeds"


def _decide(opened: Sequence[tuple[Arm, Measure, Comparison]], command: str) -> Iterator[str]:
    known = [(arm, measure, c) for arm, measure, c in opened if c.more_seeds]
    for arm, measure, c in known:
        assert c.more_seeds is not None
        yield (
            f"{written_arm(arm.variant, arm.setting)}, {measure.label}: still inconclusive; about {c.more_seeds} more seeds"
            f" would decide: {command} {c.pairs + c.more_seeds}"
        )
    if others := [f"{written_arm(arm.variant, arm.setting)} on {measure.label}" for arm, measure, c in opened if not c.more_seeds]:  # fmt: skip
        yield (
            f"Inconclusive, and more seeds alone may not decide: {'; '.join(others)}. Train longer (training.steps) or"
            " evaluate more often (evaluation.every)."
        )
