"""What a search tried, on a terminal: the score of every value for every variant, and what fewer trials would give."""

from collections.abc import Iterator
from itertools import accumulate, groupby

from rich.text import Text

from bncli.findings import Findings, Tuning
from bncli.notation import written_arm, written_option, written_score
from bncli.report.layout import Column, stacked, table, width, wrapped


def search_lines(findings: Findings, room: int) -> Iterator[Text]:
    """One table for each tuned key: variants by values, the chosen one marked; then the best so far, value by value."""
    for (key, by), group in groupby(findings.tunings, lambda tuning: (tuning.key, tuning.by)):
        tunings = list(group)
        columns = [Column("variant", tuple(Text(_name(t)) for t in tunings))]
        for value in sorted({value for t in tunings for value in t.values}):
            columns.append(Column(written_option(value), tuple(_cell(t, value) for t in tunings), right=True, gap=2))
        unit = ", %" if by == "validation_accuracy" else ""
        title = f"{by.replace('_', ' ')}{unit}, median over tuning seeds, by {key.rsplit('.', 1)[-1]}; * is chosen"
        yield from (Text(""), Text(wrapped(title, room), style="bold"))
        yield from table(columns) if width(columns) <= room else stacked(columns, 1, room)
        for tuning in tunings:
            yield Text(wrapped(f" {_name(tuning)}, best so far in that order: {_so_far(tuning)}", room, "   "), "dim")


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
