"""Where Triton's kernels are tested: on a GPU, or on the processor by Triton's interpreter in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
HAS_TRITON = importlib.util.find_spec("triton") is not None
# Of ||found - true|| / ||true||: sums in float32, and the rounding of what is written.
TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 5e-3, torch.float16: 5e-4}

starts_the_interpreter = pytest.mark.skipif(
    not HAS_TRITON or INTERPRETED or torch.cuda.is_available(),
    reason="Triton is not installed" if not HAS_TRITON else "the tests run in this very process",
)
runs_here = pytest.mark.skipif(
    not HAS_TRITON or not (INTERPRETED or torch.cuda.is_available()),
    reason="Triton is not installed" if not HAS_TRITON else "runs in the interpreter's process",
)


# of Triton 3.2, with which torch 2.6 comes, in its own interpreter
of_old_triton = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")


def check_in_the_interpreter(file: str) -> None:
    """All tests of a file pass in the interpreter, which is chosen when Triton is imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", file]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def drawn(shape, dtype=torch.float32, last=False, mean=1.0, std=3.0) -> Tensor:
    x = (torch.randn(shape, dtype=torch.float64) * std + mean).to(dtype).to(DEVICE)
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x


def parameters(channels, affine=True, dtype=torch.float32) -> list[Tensor | None]:
    ends = [(0.5, 2.0), (-1.0, 1.0)]
    return [torch.linspace(*end, channels, dtype=dtype, device=DEVICE) if affine else None for end in ends]


def in_float64(*tensors: Tensor | None) -> list[Tensor | None]:
    return [t if t is None else t.detach().double().requires_grad_() for t in tensors]


def passed(y: Tensor, inputs, gy: Tensor) -> list[Tensor]:
    """An output and its gradients, of those inputs that are there."""
    return [y.detach(), *torch.autograd.grad(y, [t for t in inputs if t is not None], gy)]


def assert_close(found, expected, dtype, factor=1.0) -> None:
    for k, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape, f"tensor {k}: {tuple(one.shape)}"
        error = float((one.detach().double() - other).norm() / other.norm())
        assert error <= TOLERANCES[dtype] * factor, f"tensor {k}: {error}"
