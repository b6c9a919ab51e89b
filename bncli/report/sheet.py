"""What a report says, laid out for any markup: sentences, tables, notes, warnings, checks."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text

from bncli.findings import Check, Findings
from bncli.findings.shift import ShiftArm, ShiftFindings
from bncli.format import written_arm
from bncli.report.data import ReportData
from bncli.report.figures.shift import SiteNames, layer_names
from bncli.report.layout import Column
from bncli.report.shift.table import written_cell
from bncli.report.study.runs import build_run_columns
from bncli.report.study.table import columns, legend, list_search_tables, sentences
from bncli.report.timing.gate import write_headline
from bncli.report.timing.table import build_bench_columns, list_warnings, name_group


@dataclass(frozen=True)
class Sheet:
    """A report without its markup; numbers are written as on a terminal."""

    title: str
    setup: tuple[str, ...]
    sentences: tuple[str, ...]  # the answer first
    tables: tuple[tuple[str, Sequence[Column]], ...]  # each with its heading; "" is none
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    figures: tuple[Any, ...] = ()  # of a history; those of findings are listed by `bncli.report.figures`
    command: str = ""

    @property
    def name(self) -> str:
        """What files of it are called."""
        return "-".join(re.findall(r"\w+", self.title))[:60]


def lay_out(data: ReportData | Sheet) -> Sheet:
    """Lay out whatever was found; a sheet is laid out."""
    return data if isinstance(data, Sheet) else replace(_lay_out(data), command=data.command)


def _lay_out(data: ReportData) -> Sheet:
    found, checks = data.findings, tuple(data.checks)
    if isinstance(found, Findings):
        return Sheet(
            f"{found.name}: {found.question}", (found.setup,),
            tuple(sentences(found)),
            ((("", columns(found)),) if found.arms else ()) + tuple(list_search_tables(found)),
            (*legend(found), *(note.text for note in found.notes)), found.warnings, checks,
        )  # fmt: skip
    if isinstance(found, ShiftFindings):
        tables = tuple(_lay_out_shift(found))
        setup = (found.setup, found.probes)
        return Sheet(
            f"{found.name}: {found.question}",
            setup,
            found.sentences,
            tables,
            tuple(note.text for note in found.notes),
            found.warnings,
            checks,
        )
    if found is None:
        return Sheet(data.name, (), (), (("", build_run_columns(data.runs)),) if data.runs else (), checks=checks)
    groups = dict.fromkeys(map(name_group, found.rows))
    rows = {group: [row for row in found.rows if name_group(row) == group] for group in groups}
    said = (write_headline(found.gate),) if found.gate else ()
    tables = tuple((group, list(build_bench_columns(of_group))) for group, of_group in rows.items())
    note = f"[ ] is a 95 % interval over {found.processes} processes"
    title = f"{found.name}: {found.question}"
    return Sheet(title, (), said, tables, (note,), tuple(list_warnings(found)), checks)


def _lay_out_shift(findings: ShiftFindings) -> Iterator[tuple[str, Sequence[Column]]]:
    names = layer_names(findings)
    for arm in findings.arms:
        reference = " (ref)" if arm.is_reference else ""
        if arm.cells:
            yield written_arm(arm.variant, arm.setting) + reference, _build_shift_columns(arm, findings, names)


def _build_shift_columns(arm: ShiftArm, findings: ShiftFindings, names: SiteNames) -> list[Column]:
    layers = list(dict.fromkeys(names[cell.layer, cell.place] for cell in arm.cells))
    cells = {(cell.metric, names[cell.layer, cell.place]): cell for cell in arm.cells}
    measured = [d.name for d in findings.definitions if any(cell.metric == d.name for cell in arm.cells)]
    found = [Column("layer", tuple(map(Text, layers)))]
    for metric in measured:
        texts = (Text(written_cell(cells.get((metric, layer))).strip()) for layer in layers)
        found.append(Column(metric, tuple(texts), right=True))
    return found
