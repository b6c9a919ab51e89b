"""What a measuring process is asked and answers: JSON lines of plain data, read by any bncli of the
same protocol, also by one in which these modules and functions had other names: what goes over the wire keeps its own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bncli.timing.build import prepare
from bncli.timing.cases import Case
from bncli.timing.documents import OLD_NAMES, read_case
from bncli.timing.results import CaseResult, Facts
from bncli.timing.workloads import Entry

PROTOCOL = 2  # raise it when a message changes its meaning
_WIRE_NAMES = {name: old for old, name in OLD_NAMES.items()}


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


def describe_answer(found: CaseResult | Facts) -> dict[str, Any]:
    """What was found as a measuring process answers it."""
    return {_WIRE_NAMES.get(key, key): value for key, value in asdict(found).items()}


def describe_case(case: Case) -> RemoteCase:
    """A case as a measuring process is told of it."""
    told = asdict(case)
    if case.versus is None:
        del told["versus"]  # of which a bncli from before knows nothing
    return RemoteCase(case.name, told)


def build_entry(document: Mapping[str, Any]) -> Entry:
    """The entry of such a case: what a measuring process calls."""
    return prepare(read_case(document))
