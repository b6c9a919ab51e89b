"""What is rendered, in whatever format: findings, with the runs and the question behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bncli.findings import Check, Findings
from bncli.findings.shift import ShiftFindings
from bncli.records import StudyRun
from bncli.timing.results import BenchRecord


@dataclass(frozen=True)
class ReportData:
    """All that a table, a page, a figure or a document is made from."""

    name: str  # of the preset
    findings: Findings | ShiftFindings | BenchRecord | None  # None: runs that nobody compared
    study: Mapping[str, Any] | None = None  # the configuration; None where it is not at hand
    runs: Sequence[StudyRun] = ()
    checks: Sequence[Check] = ()
    command: str = ""  # that makes it again
