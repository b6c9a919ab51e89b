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

    def document(self) -> dict[str, Any]:
        """All of it in types that JSON knows (docs/schema.json)."""
        from bncli.report.study.json import document, shift_document

        study = self.study.model_dump(mode="json")
        if isinstance(self.findings, ShiftFindings):
            return shift_document(self.findings, study, self.runs)
        if isinstance(self.findings, Findings):
            return document(self.findings, study, self.runs)
        if self.findings is None:
            raise BncliError("a training without a comparison has no document; its runs are in `.runs`")
        from bncli.report.timing.exports import build_document

        assert isinstance(self.findings, BenchRecord)
        return build_document(self.findings)

    def to_json(self) -> str:
        """All of it as one JSON document (docs/schema.json)."""
        from bncli.report.study.json import dumps

        return dumps(self.document())

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
        """The table, as notebooks show it."""
        from bncli.report.study.table import page_part

        return page_part(self.findings) if isinstance(self.findings, Findings) else f"<pre>{self!r}</pre>"

    def __repr__(self) -> str:
        trained = sum(run.result is not None and run.result.info.has_numbers for run in self.runs)
        said = getattr(self.findings, "headlines", ())
        return "\n".join([f"<{self.name}: {trained} of {len(self.runs)} runs, in {self.store}>", *said])
