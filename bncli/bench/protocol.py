"""What a measuring process is asked and answers: JSON lines of plain data, read by any bncli of the same protocol."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bncli.bench.results import CaseResult, Estimate

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
