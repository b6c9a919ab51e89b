"""What a session tells while it works: typed events through one `on_event`, which a terminal or a notebook shows."""

from dataclasses import dataclass
from typing import Protocol

from bncli.errors import expect
from bncli.executors.loop import Finished, Progress, WorkerDied
from bncli.plan import Job
from bncli.timing.results import CaseResult


@dataclass(frozen=True)
class Started:
    """Jobs that are about to be trained: those of a study, or of one stage of a search."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Warned:
    """What the user should know while it runs, one line."""

    text: str


@dataclass(frozen=True)
class Measuring:
    """About `total` measurements of `bncli bench` begin: of all cases, or new ones of those its gate suspects."""

    total: int
    cases: tuple[str, ...]
    remeasurement: bool = False


@dataclass(frozen=True)
class Measured:
    """One measurement is done, of those that `Measuring` announced last."""

    done: int
    total: int
    result: CaseResult


@dataclass(frozen=True)
class BaselineSaved:
    """A baseline is kept in this file."""

    place: str


Event = Started | Progress | Finished | WorkerDied | Warned | Measuring | Measured | BaselineSaved


class OnEvent(Protocol):
    """Called with everything that happens, in order and in the caller's thread; what it raises ends the session."""

    def __call__(self, event: Event, /) -> None:
        """Take one event."""


def check_events(on_event: object) -> None:
    """Refuse what is no function."""
    expect("on_event", on_event, callable(on_event), "a function of one event (bncli.session.events)")


def ignore(event: Event) -> None:
    """Show nothing."""
