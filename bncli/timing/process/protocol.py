"""What a measuring process is asked and answers: JSON lines of plain data; cases as jobs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bncli.timing.build import prepare
from bncli.timing.cases import Case
from bncli.timing.results import CaseResult, Estimate
from bncli.timing.subjects import Entry

PROTOCOL = 2  # raise it when a message changes its meaning


@dataclass(frozen=True)
class Job:
    """One case to measure in a process of its own, which knows it by data alone.

    Args:
        name: of the case.
        build: "module:function" there, from `case` to an Entry.
        case: plain data.
    """

    name: str
    build: str
    case: Mapping[str, Any]


def result_to_json(result: CaseResult) -> dict[str, Any]:
    """Plain data that JSON takes."""
    return asdict(result)


def result_from_json(document: Mapping[str, Any]) -> CaseResult:
    """The inverse of `result_to_json`, also after JSON has made lists of tuples."""
    changed = {
        "samples": {name: tuple((a, b) for a, b in blocks) for name, blocks in document["samples"].items()},
        "seconds": {name: Estimate(**estimate) for name, estimate in document["seconds"].items()},
        "ratios": {name: Estimate(**estimate) for name, estimate in document["ratios"].items()},
        "warnings": tuple(document["warnings"]),
    }
    return CaseResult(**{**document, **changed})


def job_of(case: Case) -> Job:
    """A case as a job."""
    return Job(case.name, "bncli.timing.process.protocol:entry_of", asdict(case))


def entry_of(document: Mapping[str, Any]) -> Entry:
    """The entry of a case that was a job: what a measuring process calls."""
    return prepare(case_of(document))


def case_of(document: Mapping[str, Any]) -> Case:
    """The inverse of `asdict`, also after JSON has made lists of tuples."""
    options = tuple((key, _frozen(value)) for key, value in document["options"])
    return Case(**{**document, "options": options, "shape": tuple(document["shape"])})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
