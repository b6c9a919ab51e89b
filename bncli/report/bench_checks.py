"""What `bncli bench` was asked to check, and how it came out: a gate's judgements and claims, as checks."""

from collections.abc import Mapping
from typing import Literal

from bncli.bench.gate import Judgement, Verdict
from bncli.bench.rows import BenchRecord, Judged
from bncli.findings import Check
from bncli.notation import written_band, written_ratio
from bncli.report.checks import CHECKED, junit

_JUDGED: Mapping[Verdict, Literal["passed", "failed", "undecided"]] = {
    "holds": "passed", "better": "passed", "regression": "failed", "undecided": "undecided",
}  # fmt: skip


def bench_checks(record: BenchRecord) -> list[Check]:
    """One check a case that the gate judged, then one a claim and setting."""
    return [*map(_of_gate, record.gate.judgements if record.gate else ()), *claim_checks(record)]


def claim_checks(record: BenchRecord) -> list[Check]:
    """One check a claim and setting: confirmed passes, refuted fails."""
    return [_of_claim(judged) for judged in record.claims]


def as_junit(record: BenchRecord) -> str:
    """All checks as JUnit's XML."""
    return junit(record.name, bench_checks(record))


def _of_gate(judgement: Judgement) -> Check:
    change, verdict = judgement.change, judgement.verdict
    again = " (measured again)" if judgement.measured_again else ""
    why = f"; {judgement.why}" if judgement.why else ""
    message = f"now against before: {written_ratio(change.value, change.low, change.high)}{again}{why}"
    return Check(
        f"{judgement.case}: {judgement.measure} +{100 * judgement.limit:g}%", _JUDGED[verdict], message, verdict
    )


def _of_claim(judged: Judged) -> Check:
    ratio = judged.ratio
    name = f"time, {judged.of} / {judged.versus} at {judged.at}: {written_band(judged.below, judged.above, 'x')}"
    message = f"measured {written_ratio(ratio.value, ratio.low, ratio.high)}; claimed by {judged.source}"
    return Check(name, CHECKED[judged.outcome], message, judged.outcome)
