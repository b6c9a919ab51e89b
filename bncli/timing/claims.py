"""Claims about kernels: what measured ratios of times say of them."""

import math
from collections.abc import Iterator, Sequence

from bncli.config.bench import YARDSTICKS, KernelClaim
from bncli.findings import outcome_of
from bncli.timing.cases import pairs_of
from bncli.timing.results import Estimate, Judged, Row
from bncli.timing.stats import Prior, contrast, prior


def judged(claims: Sequence[KernelClaim], rows: Sequence[Row]) -> Iterator[Judged]:
    """Judge every claim at every setting that was timed, by whether its whole 95 % interval agrees.

    Two norms are compared by their ratios to torch's batch norm, which each was timed in turn with.
    """
    rows_by_case = {row.case: row for row in rows}
    for claim in claims:
        common = prior([_logs(row) for row in rows])
        for case, other in pairs_of(claim, list(rows_by_case)):
            row = rows_by_case[case]
            ratio = row.ratios[YARDSTICKS[claim.versus]] if other is None else _ratio(row, rows_by_case[other], common)
            yield _judged(claim, row, ratio)


def _judged(claim: KernelClaim, row: Row, ratio: Estimate) -> Judged:
    low = -math.inf if ratio.low is None else ratio.low
    high = math.inf if ratio.high is None else ratio.high
    outcome = outcome_of(low, high, claim.ratio.below, claim.ratio.above)
    at = row.case.name.partition("/")[2]
    return Judged(claim.of, claim.versus, at, claim.ratio.below, claim.ratio.above, claim.source, outcome, ratio)


def _ratio(row: Row, other: Row, common: Prior) -> Estimate:
    """Time of a row over that of another norm at the same setting, each by its ratio to torch's batch norm."""
    both = _logs(row), _logs(other)
    if min(map(len, both)) < 2:
        return Estimate(math.exp(both[0][0] - both[1][0]))
    return contrast(both[0], common, both[1], common).estimate()


def _logs(row: Row) -> list[float]:
    return [math.log(result.ratios["native"].value) for result in row.results]
