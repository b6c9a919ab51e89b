"""What a file of many runs says, as plain data: how each case or arm has developed, and where it stepped."""

from dataclasses import dataclass
from typing import Literal

# suspected: by the newest run alone; what is run next will say
Step = Literal["", "worse", "better", "suspected"]


@dataclass(frozen=True)
class HistoryPoint:
    """One run's value."""

    time: str  # ISO 8601, UTC
    commit: str  # of the code that ran; "" is unknown
    dirty: bool  # there were changes that no commit had
    value: float | None
    low: float | None  # ends of its 95 % interval
    high: float | None
    step: Step = ""  # against the runs before


@dataclass(frozen=True)
class CaseTrend:
    """One measure of one case or arm on one kind of machine, oldest first."""

    name: str  # of the preset
    machine: str  # in a line
    what: str  # "batch/train-forward/N32C64/f32/nchw/cpu"; "batch (lr 0.5)"
    measure: str  # "time / native"; "steps to 95 %, / none"
    is_ratio: bool
    points: tuple[HistoryPoint, ...]
