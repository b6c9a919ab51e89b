"""Errors, memory and what really ran, on cases where the answer is known; and user kernels, good and bad."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bncli.errors import BncliError, ConfigError
from bncli.timing.build import find_kernel, prepare, quote_error
from bncli.timing.cases import Case
from bncli.timing.inspection import inspect, name_implementation
from bncli.timing.results import Facts

SHAPE = (8, 16, 16, 64)  # 2^17 values: enough for bncli's own kernel of batch norm
X = 2**19  # bytes


class Plus(nn.Module):
    """x + 1, and no use of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Halves(nn.Module):
    """Gives half of its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x[:4]


def refuses(channels: int) -> nn.Module:
    raise RuntimeError("needs a GPU\nand more")


def facts(norm: str = "batch", pass_: str = "train-forward", **changes: object) -> Facts:
    given: dict[str, object] = {"shape": SHAPE, "dtype": "f32", "layout": "nchw", "options": ()} | changes
    case = Case(norm=norm, pass_=pass_, device="cpu", **given)  # type: ignore[arg-type]
    return inspect(case)


def test_the_error_is_of_the_arithmetic_and_not_of_what_a_norm_remembers() -> None:
    error = facts("online").correctness.error
    assert error is not None
    assert error < 1e-5


def test_peak_memory_is_what_the_pass_allocates() -> None:
    assert facts(f"{__name__}:Plus", "eval-forward").peak_byte == pytest.approx(X, abs=64)


def test_what_autograd_saves_is_counted_once_and_evaluation_saves_nothing() -> None:
    assert X < facts("batch").saved_byte < 1.01 * X
    assert X < facts("batch", "train-backward").saved_byte < 1.01 * X
    assert facts("batch", "eval-forward").saved_byte == 0


@pytest.mark.parametrize(
    ("norm", "changes", "implementation"),
    [
        ("batch", {}, "bncli"),
        ("batch", {"options": (("impl", "plain"),)}, "native"),
        ("batch", {"layout": "channels_last"}, "native"),
        ("batch", {"pass_": "train-backward"}, "bncli"),
        ("dyt", {}, "composed"),
    ],
)
def test_what_ran_is_what_the_profiler_saw(norm: str, changes: dict[str, object], implementation: str) -> None:
    assert facts(norm, **changes).implementation == implementation


@pytest.mark.parametrize(
    ("names", "options", "compiled", "implementation"),
    [
        ({"aten::batch_norm", "aten::cudnn_batch_norm", "aten::native_layer_norm"}, (), False, "cuDNN"),
        ({"aten::mkldnn_linear"}, (), False, "oneDNN"),
        ({"aten::bmm", "aten::mul"}, (("impl", "fast"),), False, "fallback: composed"),
        ({"_Planes", "aten::bmm"}, (("impl", "fast"),), False, "bncli"),
        ({"Torch-Compiled Region: 0/0"}, (), True, "inductor"),
        ({"Torch-Compiled Region: 0/0", "triton_red_fused_0"}, (), True, "triton"),
        ({"aten::native_batch_norm"}, (), True, "fallback: native"),
    ],
)
def test_what_ran_has_a_name(
    names: set[str], options: tuple[tuple[str, str], ...], compiled: bool, implementation: str
) -> None:
    case = Case("batch", options, "train-both", SHAPE, "f32", "nchw", "cuda", 1, compiled)
    assert name_implementation(case, names) == implementation


@pytest.mark.parametrize("pass_", ["train-forward", "train-backward", "eval-forward"])
def test_what_a_kernels_author_has_compiled_is_said_and_timed_in_every_pass(pass_: str) -> None:
    found = facts(f"{__name__}:compiled", pass_, shape=(8, 4), layout="nc")
    assert (found.implementation, found.correctness.verdict) == ("inductor", "right")


def compiled(channels: int) -> Callable[[Tensor], Tensor]:
    return torch.compile(nn.BatchNorm1d(channels), backend="aot_eager")


def test_of_a_compilers_report_the_lines_that_name_an_error_are_quoted() -> None:
    report = (
        "Error building extension 'mine': [1/2] c++ -O3 -o mine.o\nFAILED: mine.o\n  mine.cpp:5:10: error: expected ';'\n"
        "  frame #0: main\nninja: build stopped.\n"
    )
    assert quote_error(RuntimeError(report)) == (
        "RuntimeError: Error building extension 'mine': [1/2] c++ -O3 -o mine.o | mine.cpp:5:10: error: expected ';' |"
        " ninja: build stopped."
    )
    assert quote_error(RuntimeError("x" * 1000)) == f"RuntimeError: {'x' * 300}"
    assert quote_error(ValueError()) == "ValueError"


def test_the_error_is_unknown_with_a_reason_where_nothing_is_to_compare() -> None:
    assert facts("noisy-batch").reasons["error"] == "it draws noise, and other numbers in float64"
    assert facts("batch", dtype="f64").reasons["error"] == "it is float64 itself"


def test_the_profiler_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    facts("batch")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("norm", "error", "line"),
    [
        ("Halves", BncliError, "expected an output of the input's shape (8, 16, 16, 64), got (4, 16, 16, 64)"),
        ("refuses", BncliError, f"--kernel {__name__}:refuses: {__name__}:refuses(16) raised RuntimeError: needs a GPU | and more"),
        ("SHAPE", ConfigError, f"--kernel {__name__}:SHAPE: must be a function of the number of channels, got {SHAPE}"),
        ("Pluss", ConfigError, f"--kernel {__name__}:Pluss: {__name__} has no 'Pluss'; did you mean 'Plus'?"),
    ],
)  # fmt: skip
def test_a_kernel_that_cannot_be_timed_is_a_line(norm: str, error: type[Exception], line: str) -> None:
    with pytest.raises(error) as caught:
        facts(f"{__name__}:{norm}")
    assert str(caught.value).endswith(line)


def test_a_kernel_is_looked_for_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kernels_of_mine.py").write_text("import torch.nn\nNorm = torch.nn.BatchNorm2d\n")
    assert find_kernel("kernels_of_mine:Norm") is nn.BatchNorm2d
    with pytest.raises(ConfigError, match=r"no module 'kernels_of_yours' is installed, nor is it in "):
        find_kernel("kernels_of_yours:Norm")


def test_an_input_that_a_norm_cannot_take_is_a_line() -> None:
    with pytest.raises(
        BncliError, match=r": expected an output with a gradient, as a norm in training has it, got none"
    ):
        prepare(Case(f"{__name__}:constant", (), "train-both", (4, 4), "f32", "nc", "cpu"))


def constant(channels: int) -> nn.Module:
    """A norm that gives no gradient."""
    return _Constant()


class _Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)
