"""What a page says of kernels: which are faster than what they were timed against, and whether they are right."""

from collections import Counter
from collections.abc import Iterator

from bncli.findings import Note, Verdict
from bncli.format import written_ratio
from bncli.report.data import ReportData
from bncli.report.page.parts import PageContent, Section, write_table
from bncli.report.page.study import list_facts
from bncli.report.study.table import SYMBOLS
from bncli.report.timing.gate import list_checks, list_not_compared, write_headline
from bncli.report.timing.table import list_parts, list_warnings, name_group
from bncli.timing.results import BenchRecord, BenchRow

_WORDS: dict[Verdict, str] = {
    "better": "faster", "worse": "slower", "equivalent": "equal", "inconclusive": "inconclusive",
    "not comparable": "wrong results",
}  # fmt: skip
_RIVALS = {"native": "torch's own batch norm", "against": "the other environment"}


def read_timing(data: ReportData, record: BenchRecord) -> PageContent:
    """Everything but charts."""
    columns, setup, notes = list_parts(record)
    words = {SYMBOLS[verdict][0]: word for verdict, word in _WORDS.items()}
    table = write_table(columns, f"Every case against {_name_rival(record)}", words) if record.rows else ""
    gate = [write_headline(record.gate), *list_not_compared(record.gate)] if record.gate else []
    return PageContent(
        question=record.question,
        setup=[setup],
        answer=[*gate, *_answer(record)],
        next_steps=list(_next_steps(data, record)),
        tables=[Section("verdicts", "Verdicts", table)],
        details=[],
        warnings=list(list_warnings(record)),
        checks=list_checks(record),
        notes=[Note(note) for note in notes],
        facts=list_facts(data, record.environment) | {"measured": f"{record.started}, for {record.seconds:.0f} s"},
    )


def _answer(record: BenchRecord) -> Iterator[str]:
    """How many cases are faster and slower; then the fastest and the slowest of those that are."""
    if not record.rows:
        yield "no case could be measured"
        return
    counts = Counter(row.verdict for row in record.rows)
    parts = [f"{counts[verdict]} {word}" for verdict, word in _WORDS.items() if counts[verdict]]
    yield f"Of {len(record.rows)} cases on this machine, against {_name_rival(record)}: {', '.join(parts)}."
    if busy := [warning for warning in list_warnings(record) if "other programs take" in warning]:
        yield f"These figures are provisional: {busy[0]}"
    rows = sorted(record.rows, key=lambda row: row.ratios[row.rival].value)
    if faster := [row for row in rows if row.verdict == "better"]:
        yield f"The fastest: {_describe(faster[0], record)}."
    if slower := [row for row in rows if row.verdict == "worse"]:
        yield f"The slowest: {_describe(slower[-1], record)}."


def _describe(row: BenchRow, record: BenchRecord) -> str:
    ratio = row.ratios[row.rival]
    norm, times = row.case.name.partition("/")[0], written_ratio(ratio.value, ratio.low, ratio.high)
    return f"{norm} takes {times} the time of {_name_rival(record)} ({name_group(row)})"


def _name_rival(record: BenchRecord) -> str:
    rival = record.rows[0].rival if record.rows else "native"
    return _RIVALS.get(rival, rival)


def _next_steps(data: ReportData, record: BenchRecord) -> Iterator[str]:
    if opened := [row.case.name for row in record.rows if row.verdict == "inconclusive"]:
        yield (
            f"{len(opened)} of {len(record.rows)} cases are inconclusive. Measure longer, on an idle machine (bncli"
            f" doctor says whether it is), as by"
            f" --budget {2 * max(60, round(record.seconds))} (seconds): {data.command}"
        )
    if wrong := [row.case.name for row in record.rows if row.verdict == "not comparable"]:
        yield f"Wrong results come before speed: mend {', '.join(wrong)} first."
    if record.failures:
        yield f"{len(record.failures)} cases could not be measured; the table of what had to hold says why."
    if record.gate is None:
        yield f"To notice when this changes: {data.command} --save-baseline NAME now, and --baseline NAME later."
