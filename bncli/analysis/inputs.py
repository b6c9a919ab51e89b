"""What the analysis is given: the runs of each arm, and what is asked of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bncli.findings import Claim
from bncli.records import RunResult


@dataclass(frozen=True)
class ArmRuns:
    """The finished runs of one variant at one setting of the sweep."""

    variant: str
    setting: Mapping[str, Any]  # swept keys and their values; empty without a sweep
    runs: Mapping[int, RunResult]  # by seed; a seed whose run failed or is missing is absent
    # by seed: the runs that were tried beforehand to tune or to bisect, with the value tried, in order of values
    search: Mapping[int, Sequence[tuple[float, RunResult]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """What a study wants to know."""

    name: str  # of the preset
    question: str
    setup: str  # one line that says what was trained
    reference: str  # the variant that the others are compared with
    measures: tuple[str, ...]  # names in `bncli.analysis.measures.MEASURES`; the headlines are about the first
    target_accuracy: float | None  # a fixed level, as a fraction
    target_final_of: str | None  # or the median final accuracy of this variant at the same setting
    margins: Mapping[str, float]  # too small to matter: ratio, accuracy, loss, bias_growth
    split: str  # that the network is evaluated on, for words: "test" or "validation"
    warnings: tuple[str, ...]  # doubts that arose before the analysis
    environment: Mapping[str, Any]
    claims: tuple[Claim, ...] = ()
    searched: str = ""  # the key that was tuned or bisected
    chosen_by: str = ""  # by what it was tuned; empty where nothing was chosen
