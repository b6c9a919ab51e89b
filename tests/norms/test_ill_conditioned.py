"""Gradients in float32 are those of float64, also of ill-conditioned batches; alone, in lanes, traced and compiled.

Batches have 2 to 2 d examples for groups of d channels, of full rank, of rank 3, or with channels from 1e-3 to 1e3 of
each other, all of it scaled by 1e-3, 1 and 1e3: condition numbers of covariances up to 1e18.

The error is |found - exact| over |exact| + |g| |y| / |x - mean|, the size of the terms that the gradient is the sum of (with
two examples of a channel they cancel, down to eps, in float64 too); of each channel by itself, and where a norm mixes
channels over all of them.
"""

import pytest
import torch
from torch.func import functional_call, grad, stack_module_state, vmap

from bncli.engine.trace import trace
from bncli.norms import NORMS, norm

pytestmark = pytest.mark.filterwarnings("ignore:whitening. the covariance:RuntimeWarning")  # it is so on purpose
CHANNELS = 8
TOLERANCE = 5e-6  # but for the following
LOOSER = {
    "frn": 2e-4,  # its gradient cancels for channels of one value, with no mean to take off first
    "dyt": 5e-5,  # 1 - tanh(x)^2 where that is almost 0
    "iternorm-30": 5e-2,  # in lanes; alone 1e-6: what vmap differentiates is the steps as written
    "iternorm-paper": 2e-4,  # rounding errors grow with each step of the published recursion
}
OPTIONS = {"groups": 2, "n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0, "differentiate": True}
VARIANTS = {
    **{name: (name, {}) for name, row in NORMS.items() if row.side == "activation"},
    "batch-scale": ("batch", {"affine": "scale"}),
    "batch-shift": ("batch", {"affine": "shift"}),
    "iternorm-paper": ("iternorm", {"form": "paper"}),
    "iternorm-30": ("iternorm", {"T": 30}),
    "detached-whitening": ("detached", {"by": "whitening"}),
    "instance-whitening-zca": ("instance-whitening", {"by": "zca"}),
    "group-whitening-zca": ("group-whitening", {"by": "zca", "groups": 4}),
}
# where eigenvalues are equal as far as float32 values can tell, no axes exist, and no gradient
HOWS = {"pca": ("of full rank",)}
EXAMPLES = {"pca": (16,)}
every_variant = pytest.mark.parametrize("variant", VARIANTS)
lanes_variant = pytest.mark.parametrize("variant", [key for key, (name, _) in VARIANTS.items() if NORMS[name].lanes])


def build(variant):
    name, options = VARIANTS[variant]
    return norm(
        name, CHANNELS, **{key: value for key, value in OPTIONS.items() if key in NORMS[name].options} | options
    )


def batches(variant, scales=(1e-3, 1.0, 1e3), sizes=(2, 8, 16)):
    """Inputs and what their outputs are weighted with."""
    locations = (4,) if NORMS[VARIANTS[variant][0]].needs_locations else ()
    for examples in EXAMPLES.get(variant, sizes):
        for how in HOWS.get(variant, ("of full rank", "of rank 3", "graded")):
            x, g = torch.randn(2, examples, CHANNELS, *locations)
            if how == "of rank 3":
                mix = torch.randn(CHANNELS, 3) @ torch.randn(3, CHANNELS)
                x = torch.einsum("ij,nj...->ni...", mix, x)
            elif how == "graded":
                x = x * torch.logspace(-3, 3, CHANNELS).view(CHANNELS, *[1] * len(locations))
            for scale in scales:
                yield f"{examples} examples {how} times {scale}", x * scale, g


def gradient(run, x, g):
    torch.manual_seed(0)  # of norms that draw
    leaf = x.clone().requires_grad_()
    y = run(leaf)
    return y.detach(), *torch.autograd.grad((y * g).sum(), leaf)


def assert_exact(variant, what, found, x, g):
    name, options = VARIANTS[variant]
    y, exact = gradient(build(variant).double(), x.double(), g.double())
    mixes = NORMS[name].family == "whitening" or "by" in options

    def size(values):
        return values.double().norm() if mixes else values.double().transpose(0, 1).flatten(1).norm(dim=1)

    spread = x.double() - x.double().mean([0, *range(2, x.ndim)], keepdim=True)
    terms = size(exact) + size(g) * size(y) / size(spread)
    error = (size(found - exact) / terms.clamp_min(1e-300)).max()
    assert error < LOOSER.get(variant, TOLERANCE), f"{what}: {error:.1e}"


@every_variant
def test_a_gradient_alone_is_exact(variant):
    for what, x, g in batches(variant):
        assert_exact(variant, what, gradient(build(variant), x, g)[1], x, g)


@lanes_variant
def test_a_gradient_in_lanes_is_exact(variant):
    for what, x, g in batches(variant, scales=(1e-3, 1e3), sizes=(2, 16)):
        modules = [build(variant) for _ in range(2)]
        parameters, buffers = stack_module_state(modules)

        def loss(x, parameters, buffers, g, module=modules[0]):
            return (functional_call(module, (parameters, buffers), (x,)) * g).sum()

        found = vmap(grad(loss))(torch.stack([x, 2 * x]), parameters, buffers, torch.stack([g, -g]))
        assert_exact(variant, what, found[0], x, g)
        assert_exact(variant, f"2 times {what}", found[1], 2 * x, -g)


@lanes_variant
def test_a_gradient_as_the_engine_traces_it_is_exact(variant):
    for what, x, g in batches(variant, scales=(1e3,), sizes=(2, 16)):
        module = build(variant)
        buffers = dict(module.named_buffers())

        def step(x, g, *values, module=module, names=tuple(buffers)):
            leaf = x.detach().requires_grad_()
            y = functional_call(module, dict(zip(names, values, strict=True)), (leaf,))
            return torch.autograd.grad((y * g).sum(), leaf)[0]

        traced = trace(step, [torch.randn_like(x), g, *buffers.values()])
        with torch.no_grad():
            found = traced(x, g, *(value.clone() for value in buffers.values()))
        assert_exact(variant, what, found, x, g)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, tracing a Function
@every_variant
def test_a_compiled_gradient_is_exact(variant):
    for what, x, g in batches(variant, scales=(1e3,), sizes=(2, 16)):
        torch.compiler.reset()
        run = torch.compile(build(variant), backend="aot_eager")
        assert_exact(variant, what, gradient(run, x, g)[1], x, g)


def test_a_gradient_of_a_large_batch_is_as_exact_as_its_condition_number_allows():
    """Where products with the root stay in float32: off by at most sqrt(k) times its resolution."""
    for name in ("zca", "zca-cor", "cholesky"):
        x, g = torch.randn(2, 16, CHANNELS, 8, 8)
        for scale in (1.0, 1e3):
            for other, k in ((x[:, :1] + 0.01 * x[:, 1:2], 4e4), (x[:, :1], 4e3 * scale**2)):
                twins = scale * torch.cat([x[:, :1], other, x[:, 2:]], 1)
                _, exact = gradient(norm(name, CHANNELS).double(), twins.double(), g.double())
                _, found = gradient(norm(name, CHANNELS), twins, g)
                assert (found - exact).norm() / exact.norm() < 1.2e-7 * k**0.5


@pytest.mark.parametrize("locations", [(), (4,)])
@pytest.mark.parametrize("affine", [True, "scale", "shift"])
def test_what_batch_norm_learns_counts_in_lanes_as_it_does_alone(affine, locations):
    modules, (x, g) = (
        [norm("batch", CHANNELS, affine=affine) for _ in range(2)],
        torch.randn(2, 2, 6, CHANNELS, *locations),
    )
    for parameter in [p for module in modules for p in module.parameters()]:
        torch.nn.init.normal_(parameter)
    parameters, buffers = stack_module_state(modules)
    names, at_rest = tuple(parameters), tuple(buffers)

    def step(x, g, *values):
        leaves = dict(zip(names, values, strict=False))

        def loss(parameters, x, rest):
            y = functional_call(modules[0], (parameters, rest), (x,))
            return (y * g).sum(), y

        rest = dict(zip(at_rest, values[len(names) :], strict=True))
        (of_parameters, of_x), y = grad(loss, (0, 1), has_aux=True)(leaves, x, rest)
        return torch.cat([each.flatten() for each in (y, of_x, *of_parameters.values())])  # a trace gives one tensor

    alone = [
        (
            y := module(leaf := xx.clone().requires_grad_()),
            *torch.autograd.grad((y * gg).sum(), [leaf, *module.parameters()]),
        )
        for module, xx, gg in zip(modules, x, g, strict=True)
    ]
    values = [*parameters.values(), *buffers.values()]
    traced = trace(vmap(step), [x, g, *(value.detach().clone() for value in values)])
    for run in (vmap(step), traced):
        found = run(x, g, *(value.detach().clone() for value in values))
        for one, expected in zip(found, alone, strict=True):
            torch.testing.assert_close(one, torch.cat([e.flatten() for e in expected]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", ["zca", "zca-cor", "pca", "cholesky", "detached"])
def test_in_evaluation_a_covariance_without_full_rank_whitens_after_long_training(name, double):
    """Of the batch that it was trained on, whose outputs have variance 1 at most; rounding had made hundreds of that."""
    generator = torch.Generator().manual_seed(1)
    x = 30 * torch.randn(64, 8, generator=generator) @ torch.randn(8, 16, generator=generator)
    module = norm(name, 16, momentum=0.01, **({"by": "whitening"} if name == "detached" else {}))
    with torch.no_grad():
        for _ in range(1500):
            module(x)
        y = module.eval().double()(x.double()) if double else module.eval()(x)
    assert y.square().mean(0).max() < 1.001
