"""What `bncli bench` has found, as plain data: a row a case, and the record behind every table and export."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bncli.bench.cases import Case
from bncli.bench.estimates import Symbol, symbol
from bncli.bench.gate import GateResult
from bncli.bench.results import CaseResult, Estimate
from bncli.bench.work import Work
from bncli.findings import Outcome

# A ratio to a yardstick within 1 / 1.03 to 1.03 is called equal: what two processes differ by that run the same code.
MARGIN = 0.03
Verdict = Literal["better", "worse", "equivalent", "inconclusive"]
_VERDICTS: dict[Symbol, Verdict] = {"-": "better", "+": "worse", "=": "equivalent", "?": "inconclusive"}


@dataclass(frozen=True)
class Facts:
    """What was found out about a case; a number that is None has its reason under its name."""

    ran: str  # native, oneDNN, cuDNN, bncli, inductor, triton, composed; "fallback: ..." where it is not what was asked
    saved_byte: int  # kept from forward to backward: input included, parameters not
    peak_byte: int | None  # allocated by torch at once during the pass, beyond its arguments
    error: float | None  # largest difference from float64 in a result, in root mean squares of that result
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rates:
    """What this machine can do with so many threads, measured: the ceilings of a roofline."""

    threads: int
    bandwidth: float  # bytes a second, read and written, of a copy larger than the last-level cache
    products: Mapping[str, float]  # dtype -> floating-point operations a second of large matrix products


@dataclass(frozen=True)
class Row:
    """One case, timed and looked at."""

    case: Case
    results: tuple[CaseResult, ...]  # one a process
    seconds: Estimate  # of one call, over processes
    ratios: Mapping[str, Estimate]  # case / yardstick, over processes; the first yardstick is the one that judges
    work: Work
    facts: Facts
    rates: Rates

    @property
    def yardstick(self) -> str:
        """The first: "native", or "against" for another environment."""
        return next(iter(self.ratios))

    @property
    def verdict(self) -> Verdict:
        """Better, worse, equivalent or inconclusive in time, against the first yardstick."""
        return _VERDICTS[symbol(self.ratios[self.yardstick], MARGIN)]

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
class Judged:
    """What the measurements say of a claim at one setting."""

    of: str
    versus: str
    at: str  # the case's name without its norm
    below: float | None
    above: float | None
    source: str
    outcome: Outcome
    ratio: Estimate  # time of `of` over that of `versus`


@dataclass(frozen=True)
class BenchRecord:
    """One run of `bncli bench`: what every table, document and export is made from."""

    name: str  # of the preset
    question: str
    rows: tuple[Row, ...]
    cases: int  # that were asked for
    warm: bool  # arguments in the cache, or rotated so that they are not
    processes: int  # that each case was timed in
    environment: Mapping[str, object]
    started: str  # ISO 8601, UTC
    seconds: float  # that it took
    warnings: tuple[str, ...] = ()
    gate: GateResult | None = None  # None where none was asked for
    whole: bool = True  # every case was timed in every process; not so after an interruption
    graph: bool = False  # on a GPU, by replayed CUDA graphs
    claims: tuple[Judged, ...] = ()
    # Of the processor or the GPU, before and after each measurement; empty where the system does not tell.
    clock_hertz: tuple[float, ...] = ()
    again: tuple[CaseResult, ...] = ()  # a gate's further looks at suspects, one a case and process


@dataclass(frozen=True)
class Condition:
    """A machine's state, as far as it is known."""

    cores: int  # that this process may use
    threads: int  # that torch would use
    governor: str | None  # of the processor's clock
    load: float | None  # processes that want to run, over the last minute
    busy: Mapping[str, float] | None  # program -> cores that its processes take together, ours left out
    stolen: float | None  # share of time that the host of this virtual machine gave to others
    timer_seconds: float  # the clock's resolution
    noise: float  # half the middle half of the times of the same work, as a fraction
    rates: tuple[Rates, ...]  # by threads: one, and all
