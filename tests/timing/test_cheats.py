"""Kernels that are fast because they do not do the work."""

import os
import sys

import pytest

from bncli.timing.build import WrongError, build_workload
from bncli.timing.cases import Case
from bncli.timing.clock import ProcessClock
from bncli.timing.correctness import check_results
from bncli.timing.habits import watch_habits
from bncli.timing.process.family import end_descendants
from bncli.timing.results import Correctness
from tests.timing import made_cheats


def of(kernel: str, pass_: str) -> Case:
    return Case(f"{made_cheats.__name__}:{kernel}", (), pass_, (32, 8), "f32", "nc", "cpu")


def check(kernel: str, pass_: str) -> Correctness:
    return check_results(of(kernel, pass_))[0]


def time(kernel: str, pass_: str) -> None:
    """As a measuring process does it."""
    case = of(kernel, pass_)
    workload = build_workload(case)
    with watch_habits(case, workload, ProcessClock(), os.getpid()):
        arguments = workload.make_arguments()
        for _ in range(2_000):
            workload.call(*arguments)


@pytest.mark.parametrize(
    ("kernel", "pass_", "fault"),
    [
        ("CachedBackward", "train-backward", "a second backward pass gives another gradient of x than its own"),
        ("RemembersByAValue", "eval-forward", "its output differs from batch in float64 by "),
        ("Ring", "eval-forward", "it writes into its output of an earlier call"),
        ("KnowsTheTimedInputs", "train-forward", "its gradient of x differs from batch in float64 by "),
        ("HalfOfTheChannels", "train-forward", "its output differs from batch in float64 by "),
        ("StillStatistics", "train-forward", "its running_mean does not move in training"),
        ("StillStatistics", "train-backward", "its running_mean does not move in training"),
        ("NoStatistics", "train-forward", "it keeps no running_mean, as batch does"),
        ("WrongStatistics", "train-forward", "its running_var does not move in training as that of batch does"),
        ("GammaIsIgnored", "train-forward", "its output differs from batch in float64 by "),
    ],
)
def test_a_cheat_has_a_name(kernel: str, pass_: str, fault: str) -> None:
    assert check(kernel, pass_).faults[0].startswith(fault)


@pytest.mark.parametrize(
    "kernel", ["other_momentum", "cumulative", "lazy", "frozen_affine", "no_affine", "OtherNames", "Own"]
)
@pytest.mark.parametrize("pass_", ["train-forward", "train-backward", "train-both", "eval-forward"])
def test_a_right_kernel_is_no_cheat(kernel: str, pass_: str) -> None:
    found = check(kernel, pass_)
    assert (found.verdict, found.truth, found.faults) == ("right", "batch in float64", ())


@pytest.mark.parametrize("pass_", ["train-forward", "train-backward", "train-both", "eval-forward"])
@pytest.mark.parametrize("kernel", ["cumulative", "lazy", "no_affine", "Own"])
def test_what_a_right_kernel_does_while_it_is_timed_is_no_habit(kernel: str, pass_: str) -> None:
    time(kernel, pass_)


@pytest.mark.parametrize(
    ("kernel", "pass_", "habit"),
    [
        (
            "StopsLater",
            "eval-forward",
            "once it has been timed, it gives another output of input 10 for the same input",
        ),
        ("StopsLater", "train-both", "once it has been timed, it gives another output of input 10 for the same input"),
        ("RemembersByAllValues", "eval-forward", "it remembers results"),
    ],
)
def test_what_a_check_does_not_show_shows_where_it_is_timed(kernel: str, pass_: str, habit: str) -> None:
    with pytest.raises(WrongError, match=habit):
        time(kernel, pass_)


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has started is asked of /proc")
def test_a_process_that_does_the_work_is_seen() -> None:
    try:
        with pytest.raises(WrongError, match="processes that it has started worked for"):
            time("HasAServant", "eval-forward")
    finally:
        end_descendants(os.getpid())
