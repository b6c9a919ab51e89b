"""What a gate says, on a terminal and in Markdown: each case's change, and whether it stays within its limit."""

from collections import Counter
from collections.abc import Iterator, Mapping

from rich.text import Text

from bncli.bench.gate import GateResult, Judgement, Verdict
from bncli.notation import written_ratio
from bncli.report.layout import Column, stacked, table, width, wrapped

_SYMBOLS: Mapping[Verdict, tuple[str, str]] = {  # verdict -> symbol, style
    "better": ("+", "bold green"),
    "regression": ("-", "bold red"),
    "holds": ("=", "cyan"),
    "undecided": ("?", "yellow"),
}

_WORDS: Mapping[Verdict, str] = {
    "regression": "slower than allowed",
    "undecided": "undecided",
    "better": "faster",
    "holds": "within limits",
}


def gate_lines(gate: GateResult, room: int) -> Iterator[Text]:
    """An empty line, a verdict, and a table or a list of judgements within `room` characters."""
    yield Text("")
    style = {"regression": "bold red", "undecided": "bold yellow"}.get(gate.verdict, "bold green")
    yield Text(wrapped(headline(gate), room, "  "), style=style)
    columns = _columns(gate.judgements)
    yield from table(columns) if width(columns) <= room else stacked(columns, 2, room)


def headline(gate: GateResult) -> str:
    """All of it in a sentence or two."""
    counts = Counter(judgement.verdict for judgement in gate.judgements)
    parts = ", ".join(f"{counts[verdict]} {said}" for verdict, said in _WORDS.items() if counts[verdict])
    what = "cases" if len({judgement.measure for judgement in gate.judgements}) == 1 else "limits of cases"
    return f"gate: {gate.verdict}: of {len(gate.judgements)} {what} {parts}; noise floor {gate.noise_floor:.1%}"


def gate_markdown(gate: GateResult) -> Iterator[str]:
    """The same for a step summary."""
    yield f"**{headline(gate)}**"
    yield ""
    yield "|  | case | change | limit | verdict |"
    yield "| --- | --- | --- | --- | --- |"
    for judgement in gate.judgements:
        symbol = _SYMBOLS[judgement.verdict][0]
        yield f"| `{symbol}` | `{judgement.case}` | {_change(judgement)} | {_limit(judgement)} | {_said(judgement)} |"


def _columns(judgements: tuple[Judgement, ...]) -> list[Column]:
    cells = list(zip(*(_cells(judgement) for judgement in judgements), strict=True))
    titles = ("", "case", "change", "limit", "verdict")
    return [
        Column(title, column, right=title in ("change", "limit"), gap=1 if not title else 3)
        for title, column in zip(titles, cells, strict=True)
    ]


def _cells(judgement: Judgement) -> list[Text]:
    symbol, style = _SYMBOLS[judgement.verdict]
    change = Text(_change(judgement), style=style)
    return [Text(symbol, style), Text(judgement.case), change, Text(_limit(judgement)), Text(_said(judgement))]


def _change(judgement: Judgement) -> str:
    return written_ratio(judgement.change.value, judgement.change.low, judgement.change.high)


def _limit(judgement: Judgement) -> str:
    return f"{judgement.measure} +{100 * judgement.limit:g}%"


def _said(judgement: Judgement) -> str:
    again = " (measured again)" if judgement.measured_again else ""
    return judgement.verdict + again + (f": {judgement.why}" if judgement.why else "")
