"""Findings on a terminal: what was asked, the answer, one table, footnotes and warnings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, groupby

from rich.console import Console
from rich.text import Text

from bncli.findings import Arm, Comparison, Findings, Measure, Tuning, Verdict
from bncli.format import written_arm, written_comparison, written_option, written_score, written_summary
from bncli.report.layout import Column, say, show_notes, stacked, table, width, wrapped
from bncli.report.study.curves import show_curves


def search_lines(findings: Findings, room: int) -> Iterator[Text]:
    """The tables of tuned keys, each with the best so far of every variant, value by value."""
    for title, columns, tunings in _tuned(findings):
        yield from _titled(title, columns, room)
        for tuning in tunings:
            yield Text(wrapped(f" {_name(tuning)}, best so far in that order: {_so_far(tuning)}", room, "   "), "dim")


def trial_lines(findings: Findings, room: int) -> Iterator[Text]:
    """The tables of searched spaces."""
    for title, columns in _searched(findings):
        yield from _titled(title, columns, room)


def list_search_tables(findings: Findings) -> list[tuple[str, Sequence[Column]]]:
    """What was tried before the report, each table with its title."""
    return [*((title, columns) for title, columns, _ in _tuned(findings)), *_searched(findings)]


def _titled(title: str, columns: Sequence[Column], room: int) -> Iterator[Text]:
    yield from (Text(""), Text(wrapped(title, room), style="bold"))
    yield from table(columns) if width(columns) <= room else stacked(columns, 1, room)


def _tuned(findings: Findings) -> Iterator[tuple[str, Sequence[Column], Sequence[Tuning]]]:
    """One table for each tuned key: variants by values, the chosen one marked."""
    for (key, by), group in groupby(findings.tunings, lambda tuning: (tuning.key, tuning.by)):
        tunings = list(group)
        columns = [Column("variant", tuple(Text(_name(t)) for t in tunings))]
        for value in sorted({value for t in tunings for value in t.values}):
            columns.append(Column(written_option(value), tuple(_cell(t, value) for t in tunings), right=True, gap=2))
        unit = ", %" if by == "validation_accuracy" else ""
        yield (
            f"{by.replace('_', ' ')}{unit}, median over tuning seeds, by {key.rsplit('.', 1)[-1]}; * is chosen",
            columns,
            tunings,
        )


def _searched(findings: Findings) -> Iterator[tuple[str, Sequence[Column]]]:
    """For each space: variants by how many trials, with the best so far; at the first rung, where all were compared."""
    for (steps, by), group in groupby(findings.searches, lambda search: (search.rungs[0], search.by)):
        searches = list(group)
        columns = [Column("variant", tuple(Text(written_arm(s.variant, s.setting)) for s in searches))]
        most = max(len(s.trials) for s in searches)
        for count in sorted({min(most, count) for count in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, most)}):
            cells = (written_score(s.best_so_far[min(count, len(s.trials)) - 1], by) for s in searches)
            columns.append(Column(f"{count:,}", tuple(map(Text, cells)), right=True, gap=2))
        unit = ", %" if by == "validation_accuracy" else ""
        yield f"best {by.replace('_', ' ')}{unit}, median over seeds, after so many trials of {steps:,} steps", columns


def _so_far(tuning: Tuning) -> str:
    """Of the values that were tried on as many seeds as the chosen one; others were raced off."""
    most = max(map(len, tuning.scores))
    kept = [median for median, scores in zip(tuning.medians, tuning.scores, strict=True) if len(scores) == most]
    return " ".join(written_score(score, tuning.by) for score in accumulate(kept, max))


def _cell(tuning: Tuning, value: float) -> Text:
    if value not in tuning.values:
        return Text("")
    score = written_score(tuning.medians[tuning.values.index(value)], tuning.by)
    return Text(f"{score}*", style="bold green") if value == tuning.chosen else Text(score + " ")


def _name(tuning: Tuning) -> str:
    return written_arm(tuning.variant, tuning.setting)


SYMBOLS: Mapping[Verdict, tuple[str, str]] = {  # verdict -> symbol, style
    "better": ("+", "bold green"),
    "worse": ("-", "bold red"),
    "equivalent": ("=", "cyan"),
    "inconclusive": ("?", "yellow"),
    "not comparable": ("n/a", "dim"),
}


def show(findings: Findings, console: Console, *, explain: bool = False) -> None:
    """Print findings at the console's width: one table, or one a measure, or a list where that is too wide too.

    Args:
        findings: of a comparison.
        console: where they go.
        explain: say also what the table says already, and all footnotes, each with a paragraph.
    """
    room = console.width
    say(console, wrapped(f"{findings.name}: {findings.question}", room), "bold")
    say(console, wrapped(findings.setup, room), "dim")
    if said := sentences(findings, explain=explain):
        say(console, "")
    for sentence in said:
        say(console, wrapped(sentence, room, "" if sentence == findings.answer else "  "))
    for lines in (parts := tables(findings, room)):
        say(console, "")
        for line in lines:
            say(console, line)
    for line in (*search_lines(findings, room), *trial_lines(findings, room)):
        say(console, line)
    show_curves(findings, console)
    say(console, "")
    for key in legend(findings, len(parts)):
        say(console, wrapped(key, room, "  "), "dim")
    show_notes(findings.notes, console, explain=explain)
    if findings.warnings:
        say(console, "")
    for warning in findings.warnings:
        say(console, wrapped(f"warning: {warning}", room, "  "), "yellow")


def sentences(findings: Findings, *, explain: bool = False) -> list[str]:
    """The answer, then headlines: all with `explain`, else those that say what neither answer nor table does."""
    if not findings.answer:
        return list(findings.headlines)
    compared = [c for arm in findings.arms if (c := _comparison(arm, findings.measures[0]))]
    if explain or len(compared) != len(findings.headlines):
        return [findings.answer, *(findings.headlines if explain else ())]
    told = [c.verdict not in ("inconclusive", "not comparable") or len(compared) == 1 for c in compared]
    return [findings.answer, *(line for line, known in zip(findings.headlines, told, strict=True) if not known)]


def tables(findings: Findings, room: int) -> list[list[Text]]:
    """Lines of the table or tables; the first layout that fits into `room` characters, else a list."""
    whole = columns(findings)
    for one in (whole, [replace(column, gap=min(column.gap, 2)) for column in whole]):
        if width(one) <= room:
            return [table(one)]
    parts = [_columns(findings, [measure]) for measure in findings.measures]
    if len(parts) > 1 and all(width(part) <= room for part in parts):
        return [table(part) for part in parts]
    return [stacked(whole, 2 if _versus(findings.arms) else 1, room)]


def columns(findings: Findings) -> list[Column]:
    """All columns of the one wide table."""
    return _columns(findings, findings.measures)


def _columns(findings: Findings, measures: Sequence[Measure]) -> list[Column]:
    """Columns that say which arm, then those of each measure, then the time; the symbol judges the first measure."""
    arms = findings.arms
    columns = [Column("", _cells(arms, lambda a: _symbol(_comparison(a, measures[0]))), gap=1)] if _versus(arms) else []
    columns.append(Column("variant", _cells(arms, lambda a: a.variant + (" (ref)" if a.is_reference else ""))))
    for key in _swept(arms):
        cells = tuple(Text(written_option({**arm.setting, **arm.chosen}[key])) for arm in arms)
        columns.append(Column(key.rsplit(".", 1)[-1], cells, right=True))
    for measure in measures:
        columns += _measure_columns(arms, measure)
    if measures[-1] is findings.measures[-1] and any(a.ms_per_step is not None for a in arms):
        columns.append(Column("ms/step", _cells(arms, _time), right=True))
    return columns


def _measure_columns(arms: Sequence[Arm], measure: Measure) -> Iterator[Column]:
    if measure.name.endswith("_to_target") and any(a.reached is not None for a in arms):
        yield Column("reached", _cells(arms, _reached), right=True)
    yield Column(measure.label, _cells(arms, lambda a: _value(a, measure)), right=True)
    if versus := _versus(arms):
        yield Column(_versus_title(measure, versus), _cells(arms, lambda a: _against(a, measure)))


def _cells(arms: Sequence[Arm], write: Callable[[Arm], str | Text]) -> tuple[Text, ...]:
    return tuple(cell if isinstance(cell, Text) else Text(cell) for cell in map(write, arms))


def _swept(arms: Sequence[Arm]) -> list[str]:
    """Swept and tuned keys that every arm has a value for."""
    keys = [{**arm.setting, **arm.chosen} for arm in arms]
    return [key for key in keys[0] if all(key in other for other in keys)] if arms else []


def _versus(arms: Sequence[Arm]) -> str:
    """The reference; empty where nothing is compared."""
    return next((c.reference for a in arms for c in a.comparisons), "")


_DIFFERENCES = {"fraction": "points", "share": "points", "nats": "nats"}  # what a column of differences counts


def _versus_title(measure: Measure, reference: str) -> str:
    """`steps relative to none`, `points against none`."""
    if measure.scale == "ratio":
        unit = f"{measure.unit} " if measure.name.endswith("_to_target") else ""
        return f"{unit}relative to {reference}"
    return f"{_DIFFERENCES.get(measure.unit, 'difference')} against {reference}"


def _comparison(arm: Arm, measure: Measure) -> Comparison | None:
    return next((c for c in arm.comparisons if c.measure == measure.name), None)


def _symbol(comparison: Comparison | None) -> Text:
    return Text(*SYMBOLS[comparison.verdict]) if comparison else Text("")


def _value(arm: Arm, measure: Measure) -> str:
    return next((written_summary(s, measure.unit) for s in arm.summaries if s.measure == measure.name), "n/a")


def _against(arm: Arm, measure: Measure) -> Text:
    comparison = _comparison(arm, measure)
    if comparison is None:
        return Text(("1" if measure.scale == "ratio" else "-") if arm.is_reference else "n/a")
    return Text(written_comparison(comparison, measure), style=SYMBOLS[comparison.verdict][1])


def _reached(arm: Arm) -> str:
    return "-" if arm.reached is None else f"{arm.reached}/{arm.seeds}"


def _time(arm: Arm) -> str:
    return "n/a" if arm.ms_per_step is None else f"{arm.ms_per_step:.2f}"


def legend(findings: Findings, parts: int = 1) -> Iterator[str]:
    """Which signs occur, and what they judge: with several tables the measure of each."""
    judged = {m.name for m in (findings.measures if parts > 1 else findings.measures[:1])}
    found = {c.verdict for arm in findings.arms for c in arm.comparisons if c.measure in judged}
    if found:
        symbols = ", ".join(f"{symbol} {verdict}" for verdict, (symbol, _) in SYMBOLS.items() if verdict in found)
        yield f"sign: verdict on {'what its table is about' if parts > 1 else findings.measures[0].label} ({symbols})"
