"""Bytes and products, counted by hand for small inputs."""

import pytest

from bncli.timing.build import pair_arguments, prepare
from bncli.timing.cases import Case, count_tensors, count_work
from bncli.timing.workloads import Workload


def case(norm: str = "batch", pass_: str = "train-forward", **changes: object) -> Case:
    given: dict[str, object] = {"shape": (4, 6, 2, 5), "dtype": "f32", "layout": "nchw", "options": ()} | changes
    return Case(norm=norm, pass_=pass_, device="cpu", **given)  # type: ignore[arg-type]


X = 4 * 6 * 2 * 5 * 4  # bytes of an input


@pytest.mark.parametrize(
    ("norm", "pass_", "least", "algorithmic"),
    [
        ("batch", "train-forward", 2, 3),
        ("batch", "train-backward", 3, 5),
        ("batch", "train-both", 5, 8),
        ("batch", "eval-forward", 2, 2),
        ("layer", "train-forward", 2, 2),
        ("dyt", "train-both", 5, 5),
        ("zca", "train-backward", 3, 5),
        ("mine:Norm", "train-forward", 2, 3),
    ],
)
def test_a_norm_over_the_batch_reads_its_inputs_twice_in_training(
    norm: str, pass_: str, least: int, algorithmic: int
) -> None:
    work = count_work(case(norm, pass_))
    assert (work.least_byte, work.algorithmic_byte) == (least * X, algorithmic * X)


@pytest.mark.parametrize("pass_", ["train-forward", "train-backward", "train-both", "eval-forward"])
@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
def test_the_copy_moves_the_bytes_of_the_speed_of_light(pass_: str, dtype: str) -> None:
    asked = case("batch", pass_, dtype=dtype)
    target, source = dict(prepare(asked).rivals)["copy"].make_arguments()
    assert target.nbytes + source.nbytes == count_work(asked).least_byte == count_tensors(pass_) * asked.size_byte


def test_argument_sets_of_case_and_rival_are_made_in_pairs_whose_order_alternates() -> None:
    made: list[str] = []

    def workload(name: str) -> Workload:
        return Workload(print, lambda: (made.append(name), len(made))[1:], 1)

    case, rival = pair_arguments(workload("case"), workload("rival"))
    assert [case.make_arguments() for _ in range(3)] == [(1,), (4,), (5,)]
    assert [rival.make_arguments() for _ in range(4)] == [(2,), (3,), (6,), (7,)]
    assert made == ["case", "rival", "rival", "case", "case", "rival", "rival", "case"]


def test_products_are_those_of_planes_and_of_newton_schulz_steps() -> None:
    asked = case("iternorm", "train-both", options=(("group_size", 3), ("T", 4)))
    planes = 5 * 2 * (4 * 2 * 5) * 6 * 3  # five products of (3, 3) and (3, 40) in two groups
    steps = 9 * 3 * 2 * 2 * 3**3
    assert count_work(asked).products == planes + steps
    assert count_work(case("batch")).products is None
    assert count_work(case("zca", "eval-forward")).products == 2 * 40 * 6 * 6
