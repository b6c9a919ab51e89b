"""What the functions of bncli return: findings with every run behind them, as data, JSON, a frame, a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from bncli.config import Bench, Study
from bncli.config.observed import ObservedStudy
from bncli.errors import BncliError
from bncli.findings import Check, Findings
from bncli.findings.shift import ShiftFindings
from bncli.records import StudyRun
from bncli.report.data import ReportData
from bncli.timing.results import BenchRecord

F = TypeVar("F", covariant=True)


@dataclass(frozen=True)
class Result(Generic[F]):
    """What a function of bncli returns: what was asked, what was found, every run behind it, and what was checked."""

    name: str
    study: Study | Bench | ObservedStudy
    findings: F
    runs: tuple[StudyRun, ...]
    store: Path  # folder that the runs are kept in
    checks: tuple[Check, ...] = ()
    command: str = ""  # that makes it again; empty where no command line can say it

    def data(self) -> ReportData:
        """All that a renderer takes (`bncli.report.exports.render`)."""
        study = self.study.model_dump(mode="json")
        found = self.findings
        assert found is None or isinstance(found, Findings | ShiftFindings | BenchRecord)
        return ReportData(self.name, found, study, self.runs, self.checks, self.command)

    def document(self) -> dict[str, Any]:
        """All of it in types that JSON knows (docs/schema.json)."""
        from bncli.report.documents import build_document

        return build_document(self.data())

    def to_json(self) -> str:
        """All of it as one JSON document (docs/schema.json)."""
        from bncli.report.study.json import dumps

        return dumps(self.document())

    def to_markdown(self) -> str:
        """Answer, tables, warnings and checks, for a pull request or an issue."""
        return self._render("markdown")

    def to_latex(self) -> str:
        """The tables for a paper, with the lines of booktabs."""
        return self._render("latex")

    def _render(self, form: str) -> str:
        from bncli.report.exports import render

        return str(render(self.data(), form))

    def to_frame(self) -> Any:
        """Every number of every run as a pandas.DataFrame: variant, setting, seed, id, and a record's fields."""
        try:
            import pandas
        except ImportError as error:
            raise BncliError(f"to_frame: needs pandas ({error}); pip install pandas, or take .to_json()") from None
        return pandas.DataFrame(
            {"variant": run.variant, **run.setting, "seed": run.seed, "id": run.id, **record._asdict()}
            for run in self.runs
            if run.result
            for record in run.result.records
        )

    def _repr_html_(self) -> str:
        """The tables, as notebooks show them."""
        from bncli.report.markup import write_fragment

        return write_fragment(self.data())

    def __repr__(self) -> str:
        trained = sum(run.result is not None and run.result.info.has_numbers for run in self.runs)
        said = getattr(self.findings, "headlines", ())
        return "\n".join([f"<{self.name}: {trained} of {len(self.runs)} runs, in {self.store}>", *said])
