"""Is a kernel right? Kernels that are known to be, and kernels that are wrong in a way that has a name."""

import re

import pytest
from torch import Tensor, nn

from bncli.config.bench import misfits
from bncli.config.parts import Part
from bncli.errors import ConfigError
from bncli.norms import NORMS
from bncli.timing.build import WrongError, draw_fresh_inputs, draw_inputs
from bncli.timing.cases import Case, find_truth
from bncli.timing.correctness import check_results
from bncli.timing.results import Correctness
from tests.timing import made_kernels

KERNELS = made_kernels.__name__


def make_case(norm: str, pass_: str = "train-both", shape: tuple[int, ...] = (32, 8), **changes: object) -> Case:
    given: dict[str, object] = {"dtype": "f32", "layout": "nc" if len(shape) == 2 else "nchw", "device": "cpu"}
    kernel = norm if norm in NORMS or ":" in norm else f"{KERNELS}:{norm}"
    return Case(kernel, (), pass_, shape, **(given | changes))  # type: ignore[arg-type]


def check(norm: str, pass_: str = "train-both", truth: str = "", **changes: object) -> Correctness:
    return check_results(make_case(norm, pass_, **changes), (truth, ()) if truth else None)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kernel", "pass_", "fault"),
    [
        ("Nan", "eval-forward", "its output is not finite"),
        ("NanInOneGradient", "train-both", "its gradient of bias is not finite"),
        ("Empty", "eval-forward", "its output is not finite"),
        ("Zeros", "train-forward", "it gives zeros, whatever its input"),
        ("Nothing", "train-forward", "it gives its input back"),
        ("Nothing", "eval-forward", "it gives its input back"),
        ("Remembers", "eval-forward", "it gives the result of its first call again, whatever its input"),
        ("RemembersThePlace", "eval-forward", "it gives the result of its first call again, whatever its input"),
        ("WritesItsInput", "train-both", "it writes into its input"),
        ("WritesItsInput", "eval-forward", "it writes into its input"),
        ("OneOutputForAll", "eval-forward", "it writes into its output of an earlier call"),
        ("NoGradientOfItsWeight", "train-forward", "it gives no gradient of weight"),
    ],
)
def test_what_is_wrong_has_a_name(kernel: str, pass_: str, fault: str) -> None:
    assert check(kernel, pass_).faults[0] == fault


@pytest.mark.parametrize(
    ("kernel", "pass_", "fault"),
    [
        ("Affine", "train-forward", r"its output differs from batch in float64 by \S+, and rounding explains \S+"),
        ("SecondCall", "train-forward", r"its output differs from batch .*, in call 2 of 4"),
        ("HalfGradient", "train-forward", r"its gradient of bias differs from batch in float64 by .*"),
        ("ForgetsItsWeight", "eval-forward", r"its output differs from batch in float64 by .*"),
        (f"{KERNELS}:layer", "train-both", r"its output differs from layer in float64 by .*"),
    ],
)
def test_what_is_off_is_measured(kernel: str, pass_: str, fault: str) -> None:
    found = check(kernel, pass_)
    assert found.verdict == "wrong"
    assert re.fullmatch(fault, found.faults[0])


@pytest.mark.parametrize(
    ("kernel", "line"),
    [
        ("NoGradient", "expected an output with a gradient, as a norm in training has it, got none"),
        ("Doubles", "expected an output of the input's dtype torch.float32, got torch.float64"),
        ("Flattens", "expected an output of the input's shape (32, 8), got (256,)"),
        ("Meta", "expected an output of the input's device cpu, got meta"),
        ("Two", "expected an output that is a tensor, got tuple"),
    ],
)
def test_an_output_of_another_form_is_a_line(kernel: str, line: str) -> None:
    with pytest.raises(WrongError) as caught:
        check(kernel)
    assert str(caught.value) == f"{KERNELS}:{kernel}/train-both/N32C8/f32/nc/cpu: {line}"


@pytest.mark.parametrize("pass_", ["train-forward", "train-backward", "train-both", "eval-forward"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"dtype": "bf16"}, {"dtype": "f64"}, {"shape": (8, 8, 4, 4), "layout": "channels_last"}],
    ids=["f32", "bf16", "f64", "channels_last"],
)
def test_a_right_kernel_is_taken_for_batch_norm_and_found_right(pass_: str, changes: dict[str, object]) -> None:
    found = check("Batch", pass_, **changes)
    assert (found.verdict, found.truth, found.faults) == ("right", "batch in float64", ())
    assert found.output_error is not None
    assert found.output_tolerance is not None
    assert found.output_error < found.output_tolerance
    assert (found.gradient_error is None) == (pass_ == "eval-forward")


@pytest.mark.parametrize("kernel", ["Affine", "Shifted", "Scaled", "LargeEps", "ForgetsItsBias"])
@pytest.mark.parametrize("pass_", ["train-both", "eval-forward"])
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_a_wrong_kernel_is_found_in_half_precision_too(kernel: str, pass_: str, dtype: str) -> None:
    assert check(kernel, pass_, "batch", shape=(16, 32, 14, 14), dtype=dtype).verdict == "wrong"


@pytest.mark.parametrize(
    ("kernel", "truth", "changes"),
    [
        ("RoundsItsScale", "batch", {"dtype": "bf16", "shape": (16, 32, 14, 14)}),
        ("group", "group", {"layout": "channels_last", "shape": (16, 32, 14, 14)}),
        ("group", "group", {"layout": "channels_last", "shape": (8, 64, 56, 56)}),
    ],
)
@pytest.mark.parametrize("pass_", ["train-both", "eval-forward"])
def test_what_rounding_explains_is_right(kernel: str, truth: str, changes: dict[str, object], pass_: str) -> None:
    assert check(kernel, pass_, truth, **changes).verdict == "right"


def test_what_no_truth_is_known_of_is_unchecked_until_it_is_told() -> None:
    assert check("plain_layer", shape=(8, 8, 4, 4)) == Correctness()
    told = check("plain_layer", truth="layer", shape=(8, 8, 4, 4))
    assert (told.verdict, told.truth) == ("right", "layer in float64")
    other = check("plain_layer", truth="batch", shape=(8, 8, 4, 4))
    assert other.verdict == "wrong"
    code = check(f"{KERNELS}:layer", truth=f"{KERNELS}:Batch")
    assert (code.verdict, code.truth) == ("right", f"{KERNELS}:Batch in float64")


def test_the_error_is_the_largest_difference_in_root_mean_squares() -> None:
    found = check("OffByABit", "eval-forward", truth=f"{__name__}:Plus", shape=(4, 6))
    case = make_case("OffByABit", "eval-forward", (4, 6))
    drawn = [*(draw_fresh_inputs(case, number)[0] for number in range(3)), draw_inputs(case)[0]]
    sizes = [float((x + 1).square().mean().sqrt()) for x in drawn]
    assert found.output_error == pytest.approx(0.01 / min(sizes), rel=1e-3)


class Plus(nn.Module):
    """x + 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def test_a_truth_that_cannot_be_had_is_a_line() -> None:
    with pytest.raises(ConfigError, match=r"^--truth .*:Pluss: .* has no 'Pluss'; did you mean 'Plus'\?$"):
        check("Batch", truth=f"{__name__}:Pluss")
    with pytest.raises(ConfigError, match=r"^--truth .*:Fails: on the input of .*: RuntimeError: planted \| and more$"):
        check("Batch", truth=f"{KERNELS}:Fails")


# Batch norm's output within a correlation of .99 on these inputs; others must be told, or have the norm's name.
LIKE_BATCH = {"batch", "batch-l1", "ghost", "sync", "renorm", "detached"}


@pytest.mark.parametrize("norm", [name for name, row in NORMS.items() if row.side == "activation"])
def test_every_norm_is_right_and_few_are_taken_for_batch_norm(norm: str) -> None:
    for shape in ((32, 8), (8, 8, 4, 4)):
        case = make_case(norm, shape=shape)
        if any(misfits(Part(name=norm, options=NORMS.options(norm, {})), [case.setting["shape"]])):
            continue
        for pass_ in ("train-both", "eval-forward"):
            for dtype in ("f32", "bf16"):
                found, reasons = check_results(make_case(norm, pass_, shape, dtype=dtype))
                assert found.faults == ()
                assert found.verdict == "right" or reasons["error"] == "it draws noise, and other numbers in float64"
        mine, _ = check_results(make_case(f"as_{norm.replace('-', '_')}", shape=shape))
        assert mine.truth == ("batch in float64" if norm in LIKE_BATCH else "")


def test_catalogue_norms_are_held_against_their_plain_version() -> None:
    truth = find_truth(make_case("batch"))
    assert truth is not None
    assert (truth.label, truth.dtype) == ("batch,impl=plain", "f64")
