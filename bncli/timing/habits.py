"""What anybody's norm does while it is timed, which a few calls before do not show: it becomes wrong, remembers results
by their input, or has other processes do the work."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from time import process_time

import torch
from torch import Tensor

from bncli.errors import BncliError
from bncli.timing.build import Norm, WrongError, draw_fresh_inputs, quote_error
from bncli.timing.calls import call_norm, is_off, list_asked
from bncli.timing.cases import Case, is_foreign
from bncli.timing.clock import Clock
from bncli.timing.process.family import measure_others
from bncli.timing.state import list_state
from bncli.timing.workloads import Workload

_NUMBERS = (10, 11)  # of the inputs of the calls before and after
_PAIRS, _TRIES = 9, 3
_FASTER = 0.6  # of the time on new values, on those of the call before: slower is chance
_SHARE = 0.1  # of this process's time, in others


@contextmanager
def watch_habits(case: Case, workload: Workload, clock: Clock, family: int) -> Iterator[None]:
    """Hold what a norm gives before it is timed, in the body, against what it gives afterwards.

    Args:
        case: what is timed.
        workload: the same, ready.
        clock: tells the time of single calls.
        family: the process whose descendants are watched, this one among them.

    Raises:
        WrongError: on leaving, that says what it does; nothing where the body has raised.
    """
    norm = workload.norm
    assert norm is not None
    with _named(case):
        first = _call(case, norm)
    others, own = measure_others(family), process_time()
    yield
    others, own = measure_others(family) - others, process_time() - own
    if others > _SHARE * own:
        who = "it or its rival" if case.rival and is_foreign(case.rival.norm) else "it"
        raise WrongError(f"{case.name}: processes that {who} has started worked for {others:.2g} s while it was timed")
    with _named(case):
        now = _call(case, norm)
    for name, value in first.items():
        if name not in now or is_off(value, now[name], value):
            raise WrongError(f"{case.name}: once it has been timed, it gives another {name} for the same input")
    ratios = []
    for _ in range(_TRIES):
        with _named(case):
            ratios.append(_compare_seen(workload, clock))
        if ratios[-1] > _FASTER:
            return
    raise WrongError(
        f"{case.name}: on the values of the call before it takes {statistics.median(ratios):.0%} of its time on new"
        " ones: it remembers results"
    )


@contextmanager
def _named(case: Case) -> Iterator[None]:
    """What raises here was right in the check, with fewer calls."""
    try:
        yield
    except Exception as error:
        if isinstance(error, BncliError):
            raise
        why = quote_error(error)
        raise WrongError(f"{case.name}: called again with other values in the same memory, it raises {why}") from None


def _call(case: Case, norm: Norm) -> dict[str, Tensor]:
    """What it gives for two inputs in the same memory; its state and the random numbers end as they were."""
    found, state = dict[str, Tensor](), list_state(norm)
    kept = {name: value.clone() for name, value in state.items()}
    x, g = draw_fresh_inputs(case, 0)
    with torch.random.fork_rng(), torch.no_grad():
        for number in _NUMBERS:
            torch.manual_seed(number)
            for held, fresh in zip((x, g), draw_fresh_inputs(case, number), strict=True):
                held.data.copy_(fresh)
            results = call_norm(case, norm, list_asked(norm, {}), x, g)
            found |= {f"{name} of input {number}": value.clone() for name, value in results.items()}
            for name, value in state.items():
                value.data.copy_(kept[name])  # in autograd's eyes nothing has changed
    return found


def _compare_seen(workload: Workload, clock: Clock) -> float:
    """The time of a call on the values of the one before, relative to that: the median of some pairs."""
    arguments, ratios = workload.make_arguments(), list[float]()
    held = [each.data for each in arguments if each.is_leaf]  # of a graph the gradient of y, and what it has saved
    for _ in range(_PAIRS):
        seconds, fresh = list[float](), [torch.randn_like(each) for each in held]
        for _ in range(2):
            for each, values in zip(held, fresh, strict=True):
                each.copy_(values)
            seconds.append(clock.time_chunk(workload.call, [arguments]))
        ratios.append(seconds[1] / seconds[0])
    return statistics.median(ratios)
