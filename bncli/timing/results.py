"""What `bncli bench` has found, as plain data: a row a case, and the record behind every table and export."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from bncli.findings import Outcome, Verdict
from bncli.timing.cases import Case, Work

Stopped = Literal["narrow", "time", "blocks"]  # the interval was narrow enough; seconds or blocks ran out


@dataclass(frozen=True)
class Estimate:
    """A median with its 95 % interval; the ends are None where there are too few samples for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class CaseResult:
    """One case as one process timed it, beside its rivals.

    `samples` holds every block's two chunks, in seconds a call, in the order they were taken; nothing is left out. The
    case itself stands under "case", its rivals under their names.
    """

    name: str
    samples: Mapping[str, tuple[tuple[float, float], ...]]
    calls: Mapping[str, int]  # in one chunk
    seconds: Mapping[str, Estimate]  # a call, of the case and of each rival
    ratios: Mapping[str, Estimate]  # case / rival, by rival
    outliers: Mapping[str, int]  # chunks far above the others: counted, and kept in the samples
    stopped: Stopped
    argument_copies: Mapping[str, int]  # that rotated
    cold: bool  # whether those sets are larger than the last-level cache, so that no call finds its own in it
    warnings: tuple[str, ...] = ()


# A ratio to a rival within 1 / 1.03 to 1.03 is called equal: what two processes differ by that run the same code.
MARGIN = 0.03


def judge_ratio(ratio: Estimate, margin: float) -> Verdict:
    """What an interval of case / rival says of the case.

    Better: it takes less time, by however little; worse: it takes more; equivalent: the whole interval lies within
    1 / (1 + margin) to 1 + margin, so that a difference, if any, does not matter; inconclusive: none of these.

    Args:
        ratio: of times, so that above 1 is slower.
        margin: the fraction that does not matter, such as 0.03.
    """
    if ratio.low is None or ratio.high is None:
        return "inconclusive"
    if ratio.high <= 1 + margin and ratio.low >= 1 / (1 + margin):
        return "equivalent"
    return "better" if ratio.high < 1 else "worse" if ratio.low > 1 else "inconclusive"


@dataclass(frozen=True)
class Correctness:
    """How far a case's results are from the truth, and what is wrong with them; a number may be unknown.

    Errors are largest differences in a result over several calls with fresh inputs, in root mean squares of the
    truth's, with what rounding explains (timing/correctness.py); of gradients the one that is furthest off for that.
    """

    truth: str = ""  # "batch in float64"; "" is none: the results are unchecked
    output_error: float | None = None
    output_tolerance: float | None = None
    gradient_error: float | None = None
    gradient_tolerance: float | None = None
    faults: tuple[str, ...] = ()  # what is wrong, each in words

    @property
    def verdict(self) -> Literal["right", "wrong", "unchecked"]:
        """Wrong is what some fault was found in; right is what a truth confirms."""
        return "wrong" if self.faults else "right" if self.truth else "unchecked"

    @property
    def error(self) -> float | None:
        """The larger of the two that are known."""
        return max((e for e in (self.output_error, self.gradient_error) if e is not None), default=None)


@dataclass(frozen=True)
class Facts:
    """What was found out about a case; a number that is None has its reason under its name."""

    # What ran: native, oneDNN, cuDNN, bncli, inductor, triton, composed; "fallback: ..." where it is not what was asked
    implementation: str
    saved_byte: int  # kept from forward to backward: input included, parameters not
    peak_byte: int | None  # allocated by torch at once during the pass, beyond its arguments
    correctness: Correctness
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KernelShare:
    """A kernel of the GPU, or on a processor an operator of torch's, and what it is of a call of a case or a rival."""

    name: str
    count: float  # in a call
    share: float  # of the time of all of them; an operator's without that of those it calls


# raised: an exception; exited or crashed: its process ended itself, or was ended by a signal; timed out: it gave no
# answer; wrong: its results are of a form that nothing can be timed with
FailureStatus = Literal["raised", "exited", "crashed", "timed out", "wrong"]


@dataclass(frozen=True)
class CaseFailure:
    """A case that could not be checked or timed to the end."""

    name: str
    status: FailureStatus
    reason: str  # one line


@dataclass(frozen=True)
class Rates:
    """What this machine can do with so many threads, measured: the ceilings of a roofline."""

    threads: int
    bandwidth: float  # bytes a second, read and written, of a copy larger than the last-level cache
    products: Mapping[str, float]  # dtype -> floating-point operations a second of large matrix products


GateVerdict = Literal["holds", "better", "regression", "undecided"]


class ProcessReading(NamedTuple):
    """What one process says of a case and a rival."""

    ratio: float  # time of the case over that of the rival
    seconds: float  # a call of the rival: what the machine was like at the time


ProcessReadings = Mapping[str, Mapping[str, tuple[ProcessReading, ...]]]  # case -> rival -> one a process


@dataclass(frozen=True)
class CaseJudgement:
    """What is said of one case under one rule."""

    case: str
    measure: str  # ratio, copy or time; peak, of memory; error, of results
    limit: float  # the fraction that is allowed; of an error the highest value
    verdict: GateVerdict
    # As a factor since the baseline, above 1 is slower, or more memory; of an error what it is. None: not known.
    change: Estimate | None
    noise: float | None  # half of that interval's width as a fraction: what could not have been seen; None: no noise
    remeasured: bool
    why: str = ""  # it is undecided

    @property
    def limit_text(self) -> str:
        """With its unit: `+5 %`, and of an error `1e-05 rms`, in root mean squares of the truth."""
        return f"{self.limit:g} rms" if self.measure == "error" else f"{100 * self.limit:+g} %"


@dataclass(frozen=True)
class GateResult:
    """What a gate says: of all, and of each; and which cases it could not compare."""

    verdict: GateVerdict  # the worst: regression, undecided, or holds
    judgements: tuple[CaseJudgement, ...]
    new: tuple[str, ...] = ()  # measured, and not in the baseline, or not by all that its limits ask for
    gone: tuple[str, ...] = ()  # in the baseline, and no longer measured
    left_out: tuple[str, ...] = ()  # in the baseline, and left out by --only or --skip
    unchecked: tuple[str, ...] = ()  # kernels of which nobody has said what is right

    @property
    def noise_floor(self) -> float | None:
        """The smallest limit, as a fraction, at which every case could have been judged by what was measured."""
        return max((each.noise for each in self.judgements if each.noise is not None), default=None)


@dataclass(frozen=True)
class BenchRow:
    """One case: what was timed and what was inspected."""

    case: Case
    results: tuple[CaseResult, ...]  # one a process
    seconds: Estimate  # of one call, over processes
    ratios: Mapping[str, Estimate]  # case / rival, over processes; the first rival is the one that judges
    work: Work
    facts: Facts
    rates: Rates
    rival_facts: Facts | None = None  # of what --vs names
    # What ran, of the case under "case" and of each rival; empty where nobody asked for it.
    profiles: Mapping[str, tuple[KernelShare, ...]] = field(default_factory=dict)

    @property
    def rival(self) -> str:
        """The first: "native", "against" for another environment, or the label of what --vs names."""
        return next(iter(self.ratios))

    @property
    def verdict(self) -> Verdict:
        """Better, worse, equivalent or inconclusive in time, against the first rival; wrong results have no speed."""
        if any(facts.correctness.verdict == "wrong" for facts in (self.facts, self.rival_facts) if facts):
            return "not comparable"
        return judge_ratio(self.ratios[self.rival], MARGIN)

    @property
    def least_bandwidth(self) -> float:
        """Bytes a second, counting every tensor once; what can be compared between implementations."""
        return self.work.least_byte / self.seconds.value

    @property
    def algorithmic_bandwidth(self) -> float:
        """Bytes a second, counting what the algorithm must read; what can be compared with the machine's."""
        return self.work.algorithmic_byte / self.seconds.value

    @property
    def product_rate(self) -> float | None:
        """Floating-point operations a second in matrix products; None for what does not decorrelate."""
        return None if self.work.products is None else self.work.products / self.seconds.value


@dataclass(frozen=True)
class KernelJudgement:
    """What the measurements say of a claim at one setting."""

    of: str
    versus: str
    at: str  # the case's name without its norm
    below: float | None
    above: float | None
    source: str
    outcome: Outcome
    ratio: Estimate  # time of `of` over that of `versus`
    # the true ratio's least factor from the bound that such measurements decide in 80 % of runs; None without interval
    detectable: float | None = None


@dataclass(frozen=True)
class BenchRecord:
    """One run of `bncli bench`: what every table, document and export is made from."""

    name: str  # of the preset
    question: str
    rows: tuple[BenchRow, ...]
    cases: int  # that were asked for
    warm: bool  # arguments in the cache, or rotated so that they are not
    processes: int  # that each case was timed in
    environment: Mapping[str, object]
    started: str  # ISO 8601, UTC
    seconds: float  # that it took
    warnings: tuple[str, ...] = ()
    gate: GateResult | None = None  # None where none was asked for
    complete: bool = True  # every case was timed in every process; not so after an interruption
    graph: bool = False  # on a GPU, by replayed CUDA graphs
    claims: tuple[KernelJudgement, ...] = ()
    # Of the processor or the GPU, before and after each measurement; empty where the system does not tell.
    clock_hertz: tuple[float, ...] = ()
    remeasurements: tuple[CaseResult, ...] = ()  # of a gate's suspects, one a case and process
    failures: tuple[CaseFailure, ...] = ()  # cases that could not be checked or timed; nothing of them is judged


@dataclass(frozen=True)
class Condition:
    """A machine's state, as far as it is known."""

    cores: int  # that this process may use
    threads: int  # that torch would use
    governor: str | None  # of the processor's clock
    load: float | None  # processes that want to run, over the last minute
    busy: Mapping[str, float] | None  # program -> cores that its processes take together, ours left out
    steal_time: float | None  # share of time that the host of this virtual machine gave to others
    timer_seconds: float  # the clock's resolution
    noise: float  # half the middle half of the times of the same work, as a fraction
    rates: tuple[Rates, ...]  # by threads: one, and all
