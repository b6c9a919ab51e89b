"""What a measuring process is asked and answers: JSON lines of plain data, read by any bncli of the
same protocol, also by one in which these modules and functions had other names: what goes over the wire keeps its own.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bncli.timing.build import prepare
from bncli.timing.cases import Case
from bncli.timing.results import CaseResult, Correctness, Estimate, Facts
from bncli.timing.workloads import Entry

PROTOCOL = 2  # raise it when a message changes its meaning


@dataclass(frozen=True)
class RemoteCase:
    """A case as a measuring process is told of it: by data alone.

    Args:
        name: of the case.
        case: plain data.
        build: "module:function" there, from `case` to an Entry; empty is `build_entry`, or what that was called there.
    """

    name: str
    case: Mapping[str, Any]
    build: str = ""


def read_result(document: Mapping[str, Any]) -> CaseResult:
    """The inverse of `asdict`, also after JSON has made lists of tuples.

    Raises:
        ValueError: for times that are none.
    """
    seconds = [s for blocks in document["samples"].values() for block in blocks for s in block]
    if not all(0 < each < math.inf for each in seconds):
        raise ValueError("a time that is not above 0")
    changed = {
        "samples": {name: tuple((a, b) for a, b in blocks) for name, blocks in document["samples"].items()},
        "seconds": {name: Estimate(**estimate) for name, estimate in document["seconds"].items()},
        "ratios": {name: Estimate(**estimate) for name, estimate in document["ratios"].items()},
        "warnings": tuple(document["warnings"]),
    }
    return CaseResult(**{**document, **changed})


def read_facts(document: Mapping[str, Any]) -> Facts:
    """The inverse of `asdict`, also after JSON has made lists of tuples."""
    found = document["correctness"]
    return Facts(**{**document, "correctness": Correctness(**{**found, "faults": tuple(found["faults"])})})


def describe_case(case: Case) -> RemoteCase:
    """A case as a measuring process is told of it."""
    return RemoteCase(case.name, asdict(case))


def build_entry(document: Mapping[str, Any]) -> Entry:
    """The entry of such a case: what a measuring process calls."""
    return prepare(read_case(document))


def read_case(document: Mapping[str, Any]) -> Case:
    """The inverse of `asdict`, also after JSON has made lists of tuples."""
    options = tuple((key, freeze(value)) for key, value in document["options"])
    return Case(**{**document, "options": options, "shape": tuple(document["shape"])})


def freeze(value: Any) -> Any:
    """Lists, in lists too, as the tuples that they were."""
    return tuple(map(freeze, value)) if isinstance(value, list) else value
