"""Which cases a claim about kernels is about."""

from collections.abc import Iterator, Sequence

from bncli.bench.cases import Case
from bncli.config.bench import YARDSTICKS, KernelClaim


def pairs_of(claim: KernelClaim, cases: Sequence[Case]) -> Iterator[tuple[Case, Case | None]]:
    """The cases that a claim is of, each with the one that it is held against; None is a yardstick."""
    for case in cases:
        if case.label == claim.of and claim.at.items() <= case.setting.items():
            if claim.versus in YARDSTICKS:
                yield case, None
            for other in cases:
                if other.label == claim.versus and other.setting == case.setting:
                    yield case, other
