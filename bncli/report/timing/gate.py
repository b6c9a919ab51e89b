"""What a gate of `bncli bench` says, on a terminal and as checks."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from typing import Literal

from rich.text import Text

from bncli.findings import CHECKED, Check
from bncli.format import written_band, written_ratio
from bncli.report.layout import Column, stacked, table, width, wrapped
from bncli.timing.results import BenchRecord, CaseJudgement, GateResult, GateVerdict, KernelJudgement

_SYMBOLS: Mapping[GateVerdict, tuple[str, str]] = {  # verdict -> symbol, style
    "better": ("+", "bold green"),
    "regression": ("-", "bold red"),
    "holds": ("=", "cyan"),
    "undecided": ("?", "yellow"),
}

_WORDS: Mapping[GateVerdict, str] = {
    "regression": "beyond the limit",
    "undecided": "undecided",
    "better": "better",
    "holds": "within limits",
}


def lay_out_gate(gate: GateResult, room: int) -> Iterator[Text]:
    """An empty line, a verdict, and a table or a list of judgements within `room` characters."""
    yield Text("")
    style = {"regression": "bold red", "undecided": "bold yellow"}.get(gate.verdict, "bold green")
    yield Text(wrapped(write_headline(gate), room, "  "), style=style)
    for line in list_not_compared(gate):
        yield Text(wrapped(line, room, "  "), style="yellow")
    if gate.judgements:
        columns = _build_columns(gate.judgements)
        yield from table(columns) if width(columns) <= room else stacked(columns, 2, room)


def write_headline(gate: GateResult) -> str:
    """All of it in a sentence or two."""
    counts = Counter(judgement.verdict for judgement in gate.judgements)
    parts = ", ".join(f"{counts[verdict]} {said}" for verdict, said in _WORDS.items() if counts[verdict])
    what = "cases" if len({judgement.measure for judgement in gate.judgements}) == 1 else "limits of cases"
    lost = {"new": gate.new, "no longer measured": gate.gone, "left out": gate.left_out}
    others = "".join(f"; {len(names)} {said}, not compared" for said, names in lost.items() if names)
    if not gate.judgements:
        return f"gate: {gate.verdict}: no case could be compared{others}"
    noise = "" if gate.noise_floor is None else f"; noise floor {gate.noise_floor:.1%}"
    return f"gate: {gate.verdict}: of {len(gate.judgements)} {what} {parts}{noise}{others}"


def list_not_compared(gate: GateResult) -> Iterator[str]:
    """Which cases the gate could not compare, and what to do, a sentence a kind."""
    if gate.new:
        yield f"new: the baseline has no measurements of {', '.join(gate.new)}; save one anew with --save-baseline"
    if gate.gone:
        yield (
            f"no longer measured, though in the baseline: {', '.join(gate.gone)}; put it back into the preset,"
            " leave it out by --skip, or save a baseline anew with --save-baseline"
        )
    if gate.unchecked:
        yield f"unchecked, and so not passed: {', '.join(gate.unchecked)}; --truth says what is right"
    if gate.left_out:
        yield f"in the baseline, and left out by --only or --skip: {', '.join(gate.left_out)}"


def write_gate(gate: GateResult) -> Iterator[str]:
    """The same for a step summary."""
    yield f"**{write_headline(gate)}**"
    yield ""
    yield from (f"- {line}" for line in list_not_compared(gate))
    yield ""
    yield "|  | case | measured | limit | verdict |"
    yield "| --- | --- | --- | --- | --- |"
    for judgement in gate.judgements:
        symbol, case, change, limit, verdict = (cell.plain for cell in _build_cells(judgement))
        yield f"| `{symbol}` | `{case}` | {change} | {limit} | {verdict} |"


def _build_columns(judgements: tuple[CaseJudgement, ...]) -> list[Column]:
    cells = list(zip(*(_build_cells(judgement) for judgement in judgements), strict=True))
    titles = ("", "case", "measured", "limit", "verdict")
    return [
        Column(title, column, right=title in ("measured", "limit"), gap=1 if not title else 3)
        for title, column in zip(titles, cells, strict=True)
    ]


def _build_cells(judgement: CaseJudgement) -> list[Text]:
    symbol, style = _SYMBOLS[judgement.verdict]
    change = Text(_write_change(judgement), style=style)
    return [
        Text(symbol, style),
        Text(judgement.case),
        change,
        Text(_write_limit(judgement)),
        Text(_write_verdict(judgement)),
    ]


def _write_change(judgement: CaseJudgement) -> str:
    """A factor with its interval; of an error what it is."""
    change = judgement.change
    if change is None:
        return "not known"
    return f"{change.value:.1e} rms" if judgement.measure == "error" else written_ratio(*astuple(change))


def _write_limit(judgement: CaseJudgement) -> str:
    return f"{judgement.measure}: {judgement.limit_text}"


def _write_verdict(judgement: CaseJudgement) -> str:
    again = " (measured again)" if judgement.remeasured else ""
    return judgement.verdict + again + (f": {judgement.why}" if judgement.why else "")


_OUTCOMES: Mapping[GateVerdict, Literal["passed", "failed", "undecided"]] = {
    "holds": "passed", "better": "passed", "regression": "failed", "undecided": "undecided",
}  # fmt: skip


def list_checks(record: BenchRecord) -> list[Check]:
    """What must not be wrong, then one check a case that the gate judged, then one a claim and setting."""
    gate = record.gate
    compared, right = "is compared with the baseline", "is known to be right"
    lost = [] if gate is None else [
        Check(f"{name}: {what}", "undecided", said, said) for what, said, names in (
            (compared, "new", gate.new), (compared, "no longer measured", gate.gone),
            (right, "unchecked", gate.unchecked),
        ) for name in names
    ]  # fmt: skip
    judged = map(_check_case, gate.judgements if gate else ())
    return [*list_result_checks(record), *judged, *lost, *list_claim_checks(record)]


def list_result_checks(record: BenchRecord) -> Iterator[Check]:
    """One failed check a case that could not be measured, or whose results are wrong."""
    for failure in record.failures:
        yield Check(f"measurement of {failure.name}", "failed", failure.reason, failure.status)
    found = {row.case.name: (row.facts, "") for row in record.rows}
    for row in record.rows:
        if row.case.rival and row.rival_facts:
            found.setdefault(row.case.rival.name, (row.rival_facts, ", the rival of --vs"))
    for name, (facts, what) in found.items():
        if faults := facts.correctness.faults:
            yield Check(f"results of {name}{what}", "failed", "; ".join(faults), "wrong")


def list_claim_checks(record: BenchRecord) -> list[Check]:
    """One check a claim and setting: confirmed passes, refuted fails."""
    return [_check_claim(claim) for claim in record.claims]


def _check_case(judgement: CaseJudgement) -> Check:
    verdict = judgement.verdict
    again = " (measured again)" if judgement.remeasured else ""
    why = f"; {judgement.why}" if judgement.why else ""
    message = f"measured {_write_change(judgement)}{again}{why}"
    name = f"{judgement.case}: {judgement.measure}, limit {judgement.limit_text}"
    return Check(name, _OUTCOMES[verdict], message, verdict)


def _check_claim(claim: KernelJudgement) -> Check:
    ratio = claim.ratio
    name = f"time, {claim.of} / {claim.versus} at {claim.at}: {written_band(claim.below, claim.above, 'x')}"
    effect = (
        f", could have decided a factor of {written_ratio(claim.detectable).rstrip('x')}" if claim.detectable else ""
    )
    message = f"measured {written_ratio(ratio.value, ratio.low, ratio.high)}{effect}; claimed by {claim.source}"
    return Check(name, CHECKED[claim.outcome], message, claim.outcome)
