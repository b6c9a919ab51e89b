"""Claims about kernels: what measured ratios of times say of them."""

import math
from collections.abc import Iterator, Sequence

from bncli.config.bench import RIVALS, KernelClaim
from bncli.findings import outcome_of
from bncli.timing.cases import pair_cases
from bncli.timing.results import BenchRow, Estimate, KernelJudgement
from bncli.timing.stats import Prior, contrast, fit_prior


def judge_claims(claims: Sequence[KernelClaim], rows: Sequence[BenchRow]) -> Iterator[KernelJudgement]:
    """Judge every claim at every setting that was timed, by whether its whole 95 % interval agrees.

    Two norms are compared by their ratios to torch's batch norm, with which each was interleaved.
    """
    rows_by_case = {row.case: row for row in rows}
    for claim in claims:
        common = fit_prior([_take_logs(row) for row in rows])
        for case, other in pair_cases(claim, list(rows_by_case)):
            row = rows_by_case[case]
            ratio = row.ratios[RIVALS[claim.versus]] if other is None else _compare(row, rows_by_case[other], common)
            yield _judge_claim(claim, row, ratio)


def _judge_claim(claim: KernelClaim, row: BenchRow, ratio: Estimate) -> KernelJudgement:
    low = -math.inf if ratio.low is None else ratio.low
    high = math.inf if ratio.high is None else ratio.high
    outcome = outcome_of(low, high, claim.ratio.below, claim.ratio.above)
    at = row.case.name.partition("/")[2]
    return KernelJudgement(
        claim.of, claim.versus, at, claim.ratio.below, claim.ratio.above, claim.source, outcome, ratio
    )


def _compare(row: BenchRow, other: BenchRow, common: Prior) -> Estimate:
    """Time of a row over that of another norm at the same setting, each by its ratio to torch's batch norm."""
    both = _take_logs(row), _take_logs(other)
    if min(map(len, both)) < 2:
        return Estimate(math.exp(both[0][0] - both[1][0]))
    return contrast(both[0], common, both[1], common).estimate()


def _take_logs(row: BenchRow) -> list[float]:
    return [math.log(result.ratios["native"].value) for result in row.results]
