"""`bncli doctor` on a terminal and as JSON: what is known of the machine, and what to change."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bncli.bench.rows import Condition
from bncli.notation import written_seconds
from bncli.report.document import plain

_UNKNOWN = {
    "governor": "this system does not tell",
    "load": "this system has no load average",
    "busy": "this system does not tell without further tools",
    "stolen": "this system does not tell",
}


def lines(condition: Condition, environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Label and value, in words."""
    yield "processor", f"{environment['processor']}, {environment['system']}"
    yield "software", f"bncli {environment['bncli']}, torch {environment['torch']}, Python {environment['python']}"
    yield "cores", f"{condition.cores} for this process; torch would use {condition.threads} threads"
    yield "governor", condition.governor or f"unknown ({_UNKNOWN['governor']})"
    load, busy = condition.load, condition.busy
    yield "load", f"unknown ({_UNKNOWN['load']})" if load is None else f"{load:.2f} over the last minute"
    if busy is None:
        yield "other programs", f"unknown ({_UNKNOWN['busy']})"
    else:
        names = ", ".join(f"{name} {cores:.2f} cores" for name, cores in sorted(busy.items(), key=lambda x: -x[1]))
        yield "other programs", names or "idle"
    if condition.stolen is not None:
        yield "stolen", f"{condition.stolen:.1%} of the time, by the host of a virtual machine"
    yield "timer", f"{written_seconds(condition.timer_seconds)} between two readings"
    yield "noise floor", f"{condition.noise:.1%} (half the middle half of 200 times of the same copy of 4 MB)"
    for rates in condition.rates:
        threads = f"{rates.threads} thread{'s' * (rates.threads > 1)}"
        products = ", ".join(f"{rate / 1e9:.3g} GFLOP/s in {dtype}" for dtype, rate in rates.products.items())
        yield threads, f"{rates.bandwidth / 1e9:.3g} GB/s copied, {products} of matrix products"


def document(condition: Condition, environment: Mapping[str, Any], advice: Sequence[str]) -> dict[str, Any]:
    """All of it in types that JSON knows."""
    fields = asdict(condition)
    reasons = {f"{key}_reason": why for key, why in _UNKNOWN.items() if fields[key] is None}
    whole = {"schema": "bncli/doctor/1", **fields, **reasons, "advice": list(advice), "environment": environment}
    made: dict[str, Any] = plain(whole)
    return made
