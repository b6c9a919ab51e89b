"""Norms, lanes and the engine on a GPU, against the processor in float64; and that these checks can be passed at all."""

import subprocess
import sys
from pathlib import Path

import checks
import pytest
import torch

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
ON_THE_PROCESSOR = (
    "batch NCHW bf16",
    "iternorm long f32",
    "zca in lanes beside NaN",
    "batch, lanes",
    "mixed precision",
)


def named(group: str, device: str) -> list[object]:
    return [pytest.param(check, id=name) for name, check in checks.GROUPS[group](device)]


@on_cuda
@pytest.mark.parametrize("check", [one for group in checks.GROUPS for one in named(group, "cuda")])
def test_on_a_gpu_as_on_the_processor(check):
    check()


@pytest.mark.parametrize(
    "check", [one for group in checks.GROUPS for one in named(group, "cpu") if one.id.startswith(ON_THE_PROCESSOR)]
)
def test_the_checks_hold_on_the_processor(check):
    check()


def test_a_wrong_number_is_noticed():
    with pytest.raises(AssertionError, match=r"training: y: relative error 1.0e-01 > 2.0e-04"):
        checks.compared({"y": torch.tensor([1.1])}, {"y": torch.tensor([1.0])}, 2e-4, "training")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a CUDA device")
def test_the_smoke_script_says_why_it_is_skipped():
    script = Path(__file__).parent / "smoke"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == f"skipped: torch {torch.__version__} sees no CUDA device here\n"
