"""What the analysis says, as plain data: renderers read this and decide nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "not comparable"]
Direction = Literal["lower", "higher"]  # which side is better
Outcome = Literal["confirmed", "refuted", "undecided"]  # of a claim
Scale = Literal["ratio", "difference"]  # how two variants are compared
Method = Literal["exact test", "t-interval, rests on normality", "e-value", "e-value, rests on normality"]


@dataclass(frozen=True)
class Measure:
    """What one column of the table measures."""

    name: str  # "steps_to_target"
    label: str  # "steps to 95 %"
    unit: str  # "steps", "seconds", "examples", "fraction", "share", "nats", "squared error", "decades", "rate", ...
    direction: Direction
    scale: Scale
    noun: str = ""  # in a sentence: "final test accuracy"
    margin: str = "ratio"  # what counts as too small to matter: its key in a study's margins


@dataclass(frozen=True)
class Looks:
    """With how many seeds a study is reported: what its verdicts must allow for."""

    planned: tuple[int, ...] = ()  # fixed beforehand, while something is open; none: once
    unplanned: tuple[int, ...] = ()  # reported before, at part of these seeds, by no such plan


@dataclass(frozen=True)
class Value:
    """One run's value of one measure; `low` and `high` bracket what is left open.

    An exact value has low = value = high. A crossing on the evaluation grid lies in (low, high] and value = high. A run
    that did not reach the target has value None, low = its budget, high None (unbounded), and a reason. Where nothing
    is known all three are None, with a reason.
    """

    seed: int
    value: float | None
    low: float | None
    high: float | None
    reason: str = ""  # why the value is None, in words


@dataclass(frozen=True)
class Summary:
    """One measure over the seeds of one arm."""

    measure: str
    values: tuple[Value, ...]  # by seed
    mean: float | None  # over seeds; None with a reason where a run has no value
    std: float | None  # standard deviation over seeds (n - 1); None with a reason
    reason: str = ""
    median: float | None = None  # where some run has no value: of all, a missing one counted as the worst


@dataclass(frozen=True)
class Crossing:
    """How the runs of one arm got to the target, in steps; those that did not are never left out."""

    runs: int
    reached: int
    budget: float
    median: float | None  # Kaplan-Meier; None: fewer than half got there
    restricted_mean: float  # mean of the steps, each counted up to the budget
    running_time: float | None  # all steps spent over the number of successes; None: there was none


@dataclass(frozen=True)
class Comparison:
    """One arm against the reference on one measure, paired by seed."""

    measure: str
    variant: str
    reference: str
    setting: Mapping[str, Any]
    pairs: int
    estimate: float | None  # ratio of geometric means, or mean difference
    low: float | None  # ends of the 95 % interval of this comparison alone, looked at once
    high: float | None  # None is unbounded or unknown, and `reason` says which
    probability_of_improvement: (
        float | None
    )  # P(A > B): share of pairs in which the variant is better, ties counted half
    verdict: Verdict
    reason: str = ""
    probability_of_improvement_low: float | None = None  # ends of the exact 95 % interval of P(A > B)
    probability_of_improvement_high: float | None = None
    p: float | None = None  # two-sided, of the exact paired test; None where nothing could be tested
    p_holm: float | None = None  # the same, corrected for all comparisons on this measure
    more_seeds: int | None = None  # pairs that would decide an open comparison, about; None: none needed, or none known
    corrected_low: float | None = None  # ends of the interval that the verdict follows from, as `low` and `high`
    corrected_high: float | None = None
    level: float = 0.95  # how often that one holds, so that all verdicts on the measure, at all looks, do in 95 %
    family: int = 1  # comparisons still undecided when this one was: what its level allows for (Holm)
    method: Method | None = None  # what that interval rests on; None where there is none

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """Ends of the interval that the verdict follows from; where none does, of that of this comparison alone."""
        return (self.low, self.high) if self.method is None else (self.corrected_low, self.corrected_high)


@dataclass(frozen=True)
class Arm:
    """One row of the table: one variant at one setting of the sweep."""

    variant: str
    setting: Mapping[str, Any]  # swept keys and their values; empty without a sweep
    is_reference: bool
    seeds: int
    target: float | None  # the accuracy whose first crossing is timed here; None without a target
    reached: int | None  # how many runs reached the target; None without a target
    statuses: Mapping[str, int]  # "done": 4, "diverged": 1
    summaries: tuple[Summary, ...]  # in the order of Findings.measures
    comparisons: tuple[Comparison, ...]  # in the order of Findings.measures; empty for the reference
    ms_per_step: float | None  # training time of one run, milliseconds a step
    parameters: int | None
    crossing: Crossing | None = None  # None without a target
    chosen: Mapping[str, Any] = field(default_factory=dict)  # tuned keys and the values selected for this arm


@dataclass(frozen=True)
class Tuning:
    """How one key was chosen for one arm."""

    variant: str
    setting: Mapping[str, Any]
    key: str
    by: str  # "validation_accuracy" or "validation_loss"
    values: tuple[float, ...]  # the grid as far as it was tried
    scores: tuple[Mapping[int, float], ...]  # by value, then by seed; higher is better
    medians: tuple[float, ...]
    chosen: float
    on_edge: bool  # the best is the least or the greatest value that was tried: it may lie beyond
    usable_low: float  # least and greatest value around the best whose median is within a point of the best
    usable_high: float
    expected_best: tuple[float, ...]  # score to be expected of the best of 1, 2, ... values drawn from the grid
    runs: int  # spent on the search
    saved: int  # runs that racing did without
    steps: int  # training steps spent on the search


@dataclass(frozen=True)
class Trial:
    """One point of a search; scores are higher where they are better."""

    values: Mapping[str, Any]  # by searched key
    first: float  # median at the first rung, to which every trial was trained: what can be compared
    steps: int  # to which it was trained at last
    scores: Mapping[int, float]  # by seed, there
    median: float


@dataclass(frozen=True)
class Importance:
    """How much of the differences between trials one key explains by itself."""

    key: str
    share: float | None  # eta squared of the scores' ranks, 0 to 1; None with a reason
    p: float | None  # that so much comes by chance (Kruskal & Wallis)
    distinct: bool = False  # p is below 5 %, allowing for all keys of the arm (Bonferroni)
    reason: str = ""


@dataclass(frozen=True)
class SearchFindings:
    """How several keys were chosen for one arm."""

    variant: str
    setting: Mapping[str, Any]
    by: str  # "validation_accuracy" or "validation_loss"
    sampler: str
    space: Mapping[str, Any]  # as the preset has it: {log: [low, high]}, {linear: [low, high]} or a list
    rungs: tuple[int, ...]  # steps after which trials were compared, and the worse ones left; the last is the end
    trials: tuple[Trial, ...]  # in the order in which they were tried
    chosen: Mapping[str, Any]
    best_so_far: tuple[float, ...]  # after each trial, at the first rung
    importances: tuple[Importance, ...]
    on_edge: tuple[str, ...]  # keys whose chosen value lies at an end of what was tried: it may be better beyond
    runs: int  # spent on the search
    steps: int  # training steps spent on it, where rungs went on from their checkpoints


@dataclass(frozen=True)
class Claim:
    """A result that is said to hold: where one number of the runs lies."""

    measure: str
    of: str  # a variant
    versus: str | None  # None: the number is `of`'s alone
    at: Mapping[str, Any]  # swept keys and values; what is not named: at each of them
    kind: Literal["ratio", "difference", "level"]
    below: float | None
    above: float | None
    source: str


@dataclass(frozen=True)
class Judgement:
    """What the runs say of a claim at one setting."""

    claim: Claim
    measure: Measure
    setting: Mapping[str, Any]
    outcome: Outcome
    pairs: int  # pairs of runs, or runs
    estimate: float | None
    low: float | None  # ends of the interval; None is unbounded or unknown
    high: float | None
    reason: str = ""  # why a number is missing, or what weakens the outcome
    level: float = 0.95  # how often the interval holds: more than 95 % where a study is looked at several times
    method: Method | None = None  # what the interval rests on; None where there is none
    # the true number's least distance from the bound that so many pairs decide in 80 % of studies, in the measure's
    # unit; of a ratio the factor, above 1; None with a reason, as of documents written before there was one
    detectable: float | None = None
    detectable_reason: str = ""


def outcome_of(low: float, high: float, below: float | None, above: float | None) -> Outcome:
    """What an interval says of a claimed band: confirmed if all of it is inside, refuted if all of it is outside."""
    inside = (above is None or low > above) and (below is None or high < below)
    outside = (above is not None and high <= above) or (below is not None and low >= below)
    return "confirmed" if inside else "refuted" if outside else "undecided"


CHECKED: Mapping[Outcome, Literal["passed", "failed", "undecided"]] = {
    "confirmed": "passed", "refuted": "failed", "undecided": "undecided",
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """Something that had to hold, and whether it did."""

    name: str
    outcome: Literal["passed", "failed", "undecided"]
    message: str  # what was measured
    word: str  # the outcome in the words of who asked: "confirmed", "regressed"


@dataclass(frozen=True)
class Note:
    """How numbers are to be read: a footnote."""

    text: str  # one line
    explanation: str = ""  # a paragraph for who has never heard of it; "" where the line says all


@dataclass(frozen=True)
class ArmCurve:
    """One metric of one arm over training, at the steps at which it was measured: over the seeds."""

    variant: str
    setting: Mapping[str, Any]
    metric: str  # "accuracy"
    unit: str
    steps: tuple[int, ...]
    mean: tuple[float, ...]  # over the runs that were measured there
    low: tuple[float | None, ...]  # ends of the 95 % t-interval of that mean; None of one run
    high: tuple[float | None, ...]
    seconds: tuple[float | None, ...]  # of training up to there, mean over runs; None where it was not recorded


@dataclass(frozen=True)
class Findings:
    """Everything that a study says."""

    name: str  # of the preset
    question: str
    setup: str  # "mnist · mlp 784-100-10 sigmoid · batch 60 · sgd lr 0.1 · 2,000 steps · 3 paired seeds · cpu"
    headlines: tuple[str, ...]  # one sentence a comparison on the first measure
    measures: tuple[Measure, ...]
    arms: tuple[Arm, ...]
    notes: tuple[Note, ...]  # how the numbers are to be read, what matters most first
    warnings: tuple[str, ...]
    environment: Mapping[str, Any]
    claims: tuple[Judgement, ...] = ()
    tunings: tuple[Tuning, ...] = ()
    searches: tuple[SearchFindings, ...] = ()
    looks: Looks = Looks()
    answer: str = ""  # to the question, in one sentence, with what to do where there is none yet
    curves: tuple[ArmCurve, ...] = ()
