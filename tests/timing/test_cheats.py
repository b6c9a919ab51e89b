"""Kernels that are fast because they do not do the work."""

import pytest

from bncli.timing.cases import Case
from bncli.timing.correctness import check_results
from bncli.timing.results import Correctness
from tests.timing import made_cheats


def check(kernel: str, pass_: str) -> Correctness:
    case = Case(f"{made_cheats.__name__}:{kernel}", (), pass_, (32, 8), "f32", "nc", "cpu")
    return check_results(case)[0]


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
