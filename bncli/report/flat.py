"""Findings as CSV with raw numbers: a line an arm, a cell of shift, or a run and step; an empty cell is unknown."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bncli.findings import Arm, Findings
from bncli.findings.shift import ShiftFindings
from bncli.format import written_option
from bncli.report.data import ReportData
from bncli.report.sheet import Sheet
from bncli.report.study.tidy import write_tidy


def export_arms(data: ReportData) -> str:
    """A line an arm: swept and chosen values, then every measure's numbers, in its own unit, and the verdict."""
    assert isinstance(data.findings, Findings)
    return write_csv([_flatten_arm(arm, data.findings) for arm in data.findings.arms])


def export_cells(data: ReportData) -> str:
    """A line a metric, layer and arm: over the seeds, then against the reference."""
    assert isinstance(data.findings, ShiftFindings)
    return write_csv(list(_flatten_cells(data.findings)))


def export_runs(data: ReportData) -> str:
    """The tidy table, a line a run and step."""
    return write_tidy(data.runs, ".csv")


def export_sheet(sheet: Sheet) -> str:
    """The tables of a sheet, one below the other, as they are written."""
    rows = []
    for heading, columns in sheet.tables:
        titles = [column.title or "what" for column in columns]
        for cells in zip(*(column.cells for column in columns), strict=True):
            rows.append({"table": heading, **{t: cell.plain.strip() for t, cell in zip(titles, cells, strict=True)}})
    return write_csv(rows)


def list_sheet_figures(sheet: Sheet) -> Sequence[Any]:
    """The figures that a sheet has."""
    return sheet.figures


def write_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under the titles of all of them; a number is written as Python writes it, so that none is rounded."""
    out = io.StringIO()
    titles = list(dict.fromkeys(key for row in rows for key in row)) or ["variant"]
    table = csv.DictWriter(out, titles, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()


def _flatten_arm(arm: Arm, findings: Findings) -> dict[str, Any]:
    row: dict[str, Any] = {
        "variant": arm.variant, **_written({**arm.setting, **arm.chosen}), "is_reference": arm.is_reference,
        "seeds": arm.seeds, "reached": arm.reached,
    }  # fmt: skip
    for measure in findings.measures:
        for summary in (s for s in arm.summaries if s.measure == measure.name):
            row |= {f"{measure.name}_{key}": getattr(summary, key) for key in ("mean", "std", "median")}
        for c in (c for c in arm.comparisons if c.measure == measure.name):
            keys = (
                "reference", "pairs", "estimate", "low", "high", "corrected_low", "corrected_high", "verdict", "p",
                "p_holm", "probability_of_improvement",
            )  # fmt: skip
            row |= {f"{measure.name}_{key}": getattr(c, key) for key in keys}
    return row | {"ms_per_step": arm.ms_per_step, "parameters": arm.parameters}


def _flatten_cells(findings: ShiftFindings) -> Iterator[dict[str, Any]]:
    compared = {(c.metric, c.layer, c.place, c.variant, repr(c.setting)): c for c in findings.comparisons}
    for arm in findings.arms:
        for cell in arm.cells:
            c = compared.get((cell.metric, cell.layer, cell.place, arm.variant, repr(arm.setting)))
            numbers = ("mean", "std", "first", "last", "trend", "null", "within_noise")
            yield {
                "variant": arm.variant, **_written(arm.setting), "is_reference": arm.is_reference, "seeds": arm.seeds,
                "metric": cell.metric, "layer": cell.layer, "place": cell.place,
                **{key: getattr(cell, key) for key in numbers},
                **{key: getattr(c, key, None) for key in ("reference", "pairs", "estimate", "low", "high", "side")},
            }  # fmt: skip


def _written(setting: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value if isinstance(value, int | float | str) else written_option(value) for key, value in setting.items()
    }
