"""Cases as jobs: what a measuring process needs to know of a case, and how it makes an entry of that."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bncli.bench.cases import Case
from bncli.bench.contenders import Entry
from bncli.bench.entries import prepare
from bncli.bench.protocol import Job


def job_of(case: Case) -> Job:
    """A case as a job."""
    return Job(case.name, "bncli.bench.jobs:entry_of", asdict(case))


def entry_of(document: Mapping[str, Any]) -> Entry:
    """The entry of a case that was a job: what a measuring process calls."""
    return prepare(case_of(document))


def case_of(document: Mapping[str, Any]) -> Case:
    """The inverse of `asdict`, also after JSON has made lists of tuples."""
    options = tuple((key, _frozen(value)) for key, value in document["options"])
    return Case(**{**document, "options": options, "shape": tuple(document["shape"])})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
