"""The Triton Newton-Schulz against its reference in float64."""

import pytest
import torch
from interpreter import DEVICE, check_in_the_interpreter, of_old_triton, runs_here, starts_the_interpreter

from bncli.kernels import newton_schulz

TOLERANCES = {"root": 2e-6, "gradient": 2e-5, "second": 1e-4}  # of ||found - true|| / ||true||

pytestmark = of_old_triton


@starts_the_interpreter
@pytest.mark.timeout(600)
def test_all_of_this_file_passes_in_the_interpreter():
    check_in_the_interpreter(__file__)


def covariances(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    *lanes, d = shape
    x = torch.randn(*lanes, 4 * d, d, device=DEVICE)
    return x.mT @ x / (4 * d) + 1e-3 * torch.eye(d, device=DEVICE)


def symmetric(matrices: torch.Tensor) -> torch.Tensor:
    return (matrices + matrices.mT) / 2


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm())


@runs_here
@pytest.mark.parametrize("T", [1, 2, 5])
@pytest.mark.parametrize("d", [1, 5, 8, 16, 24, 64])
def test_roots_and_gradients_equal_the_reference(d, T):
    from bncli.kernels import triton_newton_schulz

    S = covariances(2, d).requires_grad_()
    true = S.detach().double().requires_grad_()
    g = torch.randn_like(S)
    W, expected = triton_newton_schulz.fast(S, T), newton_schulz.plain(true, T)
    assert error(W, expected) < TOLERANCES["root"]
    (found,), (gradient,) = torch.autograd.grad(W, S, g), torch.autograd.grad(expected, true, g.double())
    gradient = symmetric(gradient)  # what remains of it where S is
    scale = max(1.0, float(g.norm() / S.detach().norm() / gradient.norm()))  # d = 1: what is left of a cancellation
    assert error(found, gradient) < TOLERANCES["gradient"] * scale


@runs_here
def test_iterates_are_those_of_the_reference():
    from bncli.kernels import triton_newton_schulz

    S = covariances(3, 8)
    found, expected = triton_newton_schulz.forward(S, 4), newton_schulz.forward(S.double(), 4)
    assert max(error(a, b) for a, b in zip(found, expected, strict=True)) < TOLERANCES["root"]


@runs_here
def test_lanes_equal_one_at_a_time():
    from bncli.kernels import triton_newton_schulz

    S = covariances(2, 3, 8)
    g = torch.randn_like(S)

    def loss(kernel, S, g):
        return (kernel(S, 3) * g).sum()

    found = torch.func.vmap(torch.func.grad(lambda S, g: loss(triton_newton_schulz.fast, S, g)))(S, g)
    true = S.double().requires_grad_()
    (expected,) = torch.autograd.grad(loss(newton_schulz.plain, true, g.double()), true)
    assert error(found, symmetric(expected)) < TOLERANCES["gradient"]


@runs_here
def test_the_gradient_can_be_differentiated():
    from bncli.kernels import triton_newton_schulz

    def twice(kernel, S):
        W = kernel(symmetric(S), 3)
        (g,) = torch.autograd.grad((W * W.detach().sin()).sum(), S, create_graph=True)
        return torch.autograd.grad(g.square().sum(), S)[0]

    S = covariances(2, 8)
    found = twice(triton_newton_schulz.fast, S.clone().requires_grad_())
    assert error(found, twice(newton_schulz.plain, S.double().requires_grad_())) < TOLERANCES["second"]


@runs_here
def test_the_operations_pass_the_checks_of_torch():
    from bncli.kernels import triton_newton_schulz

    S = covariances(2, 8)
    torch.library.opcheck(torch.ops.bncli.triton_newton_schulz, (S, 3))
    W, kept = triton_newton_schulz.forward(S, 3)
    torch.library.opcheck(torch.ops.bncli.triton_newton_schulz_gradient, (W, S, W, kept))
