"""What every norm of activations keeps, whichever it is; those of weights are in test_weight_contract.py."""

import copy
import inspect

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, stack_module_state, vmap

from bncli.norms import NORMS, norm

SMALL = {
    "group_size": 4,  # of 6 channels: an uneven last group
    "groups": 2,  # groups that divide them
    "differentiate": True,  # a gradient that is the output's
    **{"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0},  # an output that can be had twice
}
SHAPES = [(12, 6), (5, 6, 4), (4, 6, 3, 2), (3, 6, 2, 3, 2)]

ACTIVATION = {name: row for name, row in NORMS.items() if row.side == "activation"}
NEED_LOCATIONS = [name for name, row in ACTIVATION.items() if row.needs_locations]
AVERAGING = [name for name, row in ACTIVATION.items() if "momentum" in row.options and row.buffers != "0"]

every_norm = pytest.mark.parametrize("name", ACTIVATION)
lanes_norm = pytest.mark.parametrize("name", [name for name, row in ACTIVATION.items() if row.lanes])
averaging_norm = pytest.mark.parametrize("name", AVERAGING)


def build(name, **options):
    small = {key: value for key, value in SMALL.items() if key in NORMS[name].options}
    return norm(name, 6, **small | options).double()


def data(*shape):
    """Correlated channels, away from mean 0 and variance 1."""
    x = torch.randn(*shape, dtype=torch.float64)
    return x + 0.5 * x.roll(1, 1) + torch.arange(shape[1]).view(-1, *[1] * (len(shape) - 2))


def example(name, examples=12):
    """Data of the fewest dimensions that the norm takes."""
    return data(examples, 6, 5) if name in NEED_LOCATIONS else data(examples, 6)


def trained(name):
    """A norm after two batches, with parameters that are not the initial ones."""
    module = build(name)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    for _ in range(2):
        module(example(name))
    return module


@every_norm
def test_options_of_the_row_are_keywords_of_the_constructor_with_the_same_defaults(name):
    channels, *options, _, _ = inspect.signature(NORMS.load(name)).parameters.values()  # device, dtype: test_state.py
    assert channels.name == "channels"
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)
    assert {o.name: o.default for o in options} == {key: o.default for key, o in NORMS[name].options.items()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in ACTIVATION for shape in SHAPES if len(shape) > 2 or name not in NEED_LOCATIONS],
)
def test_output_has_the_shape_of_the_input(name, shape, training):
    assert build(name).train(training)(data(*shape)).shape == shape


@pytest.mark.parametrize("name", NEED_LOCATIONS)
def test_a_single_location_is_refused_where_statistics_are_taken_over_locations(name):
    with pytest.raises(ValueError, match="expected more than 1 location per channel"):
        build(name)(data(12, 6))


@pytest.mark.parametrize(
    "name", [name for name, row in ACTIVATION.items() if row.over in ("", "examples and locations")]
)
def test_locations_count_as_examples(name):
    x = data(4, 6, 3, 2)
    rows = x.movedim(1, -1).reshape(-1, 6)
    y = build(name)(x).movedim(1, -1).reshape(-1, 6)
    torch.testing.assert_close(y, build(name)(rows))


@every_norm
def test_evaluation_changes_no_buffer(name):
    module = trained(name).eval()
    before = copy.deepcopy(dict(module.named_buffers()))
    module(example(name))
    assert all(torch.equal(buffer, before[key]) for key, buffer in module.named_buffers())


@averaging_norm
def test_training_averages_running_statistics_exponentially(name):
    x = example(name)
    module, newest = build(name, momentum=0.25), build(name, momentum=1.0)
    old = copy.deepcopy(dict(module.named_buffers()))
    module(x)
    newest(x)
    new = dict(newest.named_buffers())
    running = [key for key in new if key.startswith("running_")]
    assert running
    for key in running:
        torch.testing.assert_close(module.get_buffer(key), 0.75 * old[key] + 0.25 * new[key])


@pytest.mark.parametrize("name", [name for name in AVERAGING if "running_mean" in build(name).state_dict()])
def test_running_mean_with_momentum_one_is_that_of_the_batch(name):
    x = example(name)
    module = build(name, momentum=1.0)
    module(x)
    torch.testing.assert_close(module.running_mean, x.transpose(0, 1).flatten(1).mean(1))


@lanes_norm
@pytest.mark.parametrize("training", [True, False])
def test_lanes_equal_runs_one_at_a_time(name, training):
    modules = [trained(name).train(training) for _ in range(3)]
    x, weights = torch.stack([example(name) for _ in modules]), torch.randn_like(example(name))
    parameters, buffers = stack_module_state(copy.deepcopy(modules))

    def loss(parameters, x, buffers):
        y = functional_call(modules[0], (parameters, buffers), (x,))
        return (y * weights).sum(), y

    (gradients, gx), y = vmap(grad(loss, argnums=(0, 1), has_aux=True))(parameters, x, buffers)
    for lane, module in enumerate(modules):
        alone = x[lane].clone().requires_grad_()
        expected = module(alone)
        (expected * weights).sum().backward()
        torch.testing.assert_close(y[lane], expected)
        torch.testing.assert_close(gx[lane], alone.grad)
        for key, parameter in module.named_parameters():
            torch.testing.assert_close(gradients[key][lane], parameter.grad)
        for key, buffer in module.named_buffers():
            torch.testing.assert_close(buffers[key][lane], buffer)


@lanes_norm
def test_lanes_can_be_differentiated_from_outside(name):
    modules = [trained(name) for _ in range(3)]
    x = torch.stack([example(name) for _ in modules]).requires_grad_()
    weights = torch.randn_like(example(name))
    state = stack_module_state(copy.deepcopy(modules))
    y = vmap(lambda state, x: functional_call(modules[0], state, (x,)))(state, x)
    (y * weights).sum().backward()
    for lane, module in enumerate(modules):
        alone = x[lane].detach().clone().requires_grad_()
        (module(alone) * weights).sum().backward()
        torch.testing.assert_close(x.grad[lane], alone.grad)


@lanes_norm
@pytest.mark.parametrize("training", [True, False])
def test_a_lane_that_is_not_finite_leaves_the_others_alone(name, training):
    modules = [trained(name).train(training) for _ in range(3)]
    x, weights = torch.stack([example(name) for _ in modules]), torch.randn_like(example(name))
    found = []
    for entry in (0.0, torch.nan):
        x[1, 3, 2] = entry
        leaf = x.clone().requires_grad_()
        state = stack_module_state(copy.deepcopy(modules))
        y = vmap(lambda state, x: functional_call(modules[0], state, (x,)))(state, leaf)
        (y * weights).sum().backward()
        found.append(torch.stack([y, leaf.grad]))
    torch.testing.assert_close(found[0][:, [0, 2]], found[1][:, [0, 2]])
    assert not found[1][0, 1].isfinite().all()


@every_norm
@pytest.mark.parametrize("training", [True, False])
def test_gradient_is_that_of_finite_differences(name, training):
    module = trained(name).train(training)
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())

    def output(x, *values):  # from the same buffers each time
        state = {**copy.deepcopy(buffers), **dict(zip(parameters, values, strict=True))}
        return functional_call(module, state, (x,))

    torch.autograd.gradcheck(output, (example(name, 8).requires_grad_(), *parameters.values()))


SCALED = [  # of the others, some take no statistics, and some leave a part of x unscaled on purpose
    name
    for name, row in ACTIVATION.items()
    if "eps" in row.options and name not in ("frozen", "online", "evonorm-b0", "evonorm-s0")
]


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("scale", [1e-2, 3.0, 1e3])
def test_scaling_the_input_changes_nothing_but_for_eps(name, scale):
    x = data(12, 6, 5)
    torch.testing.assert_close(build(name, eps=1e-20)(scale * x), build(name, eps=1e-20)(x))


DEGENERATE = {
    "two equal channels": lambda x: x[:, [0, 0, 2, 3, 4, 5]],
    "a constant channel": lambda x: torch.cat([0 * x[:, :1] + 2, x[:, 1:]], 1),
    "a batch of two": lambda x: x[:2],
}
NO_GRADIENT = {
    ("batch-l1", "a constant channel"): "the absolute value has a kink at 0",
    ("pca", "two equal channels"): "the sign of an axis jumps where two of its entries are the largest",
}


def output_of(name):
    """A norm's output as a function of x and its parameters, from the same buffers each time; and the parameters."""
    module = trained(name)
    parameters, buffers = dict(module.named_parameters()), copy.deepcopy(dict(module.named_buffers()))

    def output(x, *values):
        state = {**copy.deepcopy(buffers), **dict(zip(parameters, values, strict=True))}
        return functional_call(module, state, (x,))

    return output, parameters.values()


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize(
    ("name", "degenerate"), [(name, how) for name in ACTIVATION for how in DEGENERATE if (name, how) not in NO_GRADIENT]
)
def test_gradients_of_a_degenerate_batch_are_those_of_finite_differences(name, degenerate, check):
    x = DEGENERATE[degenerate](example(name, 6)).requires_grad_()
    output, parameters = output_of(name)
    check(output, (x, *parameters), fast_mode=True)


@every_norm
def test_second_gradient_is_that_of_finite_differences(name):
    output, parameters = output_of(name)
    gradgradcheck(output, (example(name, 6).requires_grad_(), *parameters), fast_mode=True)


@pytest.mark.parametrize(("name", "degenerate"), NO_GRADIENT)
def test_where_no_gradient_exists_it_is_finite(name, degenerate):
    x = DEGENERATE[degenerate](example(name)).requires_grad_()
    build(name)(x).square().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name, row in ACTIVATION.items() if not row.ordered])
def test_permuting_the_examples_permutes_the_output(name):
    x, order = example(name), torch.randperm(12)
    torch.testing.assert_close(build(name)(x[order]), build(name)(x)[order])


@pytest.mark.parametrize("name", [name for name, row in ACTIVATION.items() if row.evaluation == "the same"])
def test_evaluation_said_to_be_the_same_is_so_to_the_last_bit(name):
    module, x = trained(name), example(name)
    assert torch.equal(module.train()(x), module.eval()(x))


@pytest.mark.parametrize("name", [name for name, row in ACTIVATION.items() if row.evaluation == "the same"])
def test_an_example_alone_is_normalised_as_in_a_batch(name):
    module, x = trained(name), example(name)
    torch.testing.assert_close(module(x[:1]), module(x)[:1])


@every_norm
def test_state_dict_carries_all_that_evaluation_needs(name):
    module, other, x = trained(name).eval(), build(name).eval(), example(name)
    other(x)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), module(x))


@every_norm
def test_training_a_copy_leaves_the_original_alone(name):
    module, x = trained(name).eval(), example(name)
    expected = module(x)
    twin = copy.deepcopy(module).train()
    twin(example(name))
    assert torch.equal(module(x), expected)


@every_norm
def test_a_copy_evaluates_alike(name):
    module, x = trained(name).eval(), example(name)
    assert torch.equal(copy.deepcopy(module)(x), module(x))


@every_norm
def test_repr_names_the_options(name):
    shown = repr(norm(name, 64))
    assert shown.startswith(NORMS.load(name).__name__ + "(64")
    for key, option in NORMS[name].options.items():
        assert f"{key}={option.default}" in shown
