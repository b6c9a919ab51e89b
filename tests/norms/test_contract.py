"""What every norm of activations keeps, whichever it is; those of weights are in test_weight_contract.py."""

import copy
import inspect

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from bncli.norms import NORMS, norm
from bncli.norms.contract import conduct
from bncli.norms.contract.candidates import Candidate

SMALL = {
    "group_size": 4,  # of 6 channels: an uneven last group
    "groups": 2,  # groups that divide them
    "differentiate": True,  # a gradient that is the output's
    **{"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0},  # an output that can be had twice
}

ACTIVATION = {name: row for name, row in NORMS.items() if row.side == "activation"}
NEED_LOCATIONS = [name for name, row in ACTIVATION.items() if row.needs_locations]
AVERAGING = [name for name, row in ACTIVATION.items() if "momentum" in row.options and row.buffers != "0"]

every_norm = pytest.mark.parametrize("name", ACTIVATION)
lanes_norm = pytest.mark.parametrize("name", [name for name, row in ACTIVATION.items() if row.lanes])
averaging_norm = pytest.mark.parametrize("name", AVERAGING)


def build(name, **options):
    small = {key: value for key, value in SMALL.items() if key in NORMS[name].options}
    return norm(name, 6, **small | options).double()


def candidate(name):
    locations = ((5,), (3, 2), (2, 3, 2)) if name in NEED_LOCATIONS else ((), (4,), (3, 2), (2, 3, 2))
    return Candidate(lambda device=None: build(name), 6, locations)


def data(*shape):
    """Correlated channels, away from mean 0 and variance 1."""
    x = torch.randn(*shape, dtype=torch.float64)
    return x + 0.5 * x.roll(1, 1) + torch.arange(shape[1]).view(-1, *[1] * (len(shape) - 2))


def example(name, examples=12):
    """Data of the fewest dimensions that the norm takes."""
    return data(examples, 6, 5) if name in NEED_LOCATIONS else data(examples, 6)


def trained(name):
    return candidate(name).trained()


@every_norm
def test_options_of_the_row_are_keywords_of_the_constructor_with_the_same_defaults(name):
    channels, *options, _, _ = inspect.signature(NORMS.load(name)).parameters.values()  # device, dtype: test_state.py
    assert channels.name == "channels"
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)
    assert {o.name: o.default for o in options} == {key: o.default for key, o in NORMS[name].options.items()}


@every_norm
def test_output_has_the_shape_and_type_of_the_input(name):
    conduct.keeps_shape_and_type(candidate(name))


@every_norm
def test_input_and_gradient_stay_what_they_were(name):
    conduct.leaves_its_input_alone(candidate(name))


@every_norm
def test_the_same_channels_go_together_in_every_example(name):
    conduct.keeps_channels_in_groups(candidate(name))


@every_norm
def test_every_parameter_changes_the_output(name):
    conduct.uses_every_parameter(candidate(name))


@every_norm
def test_training_changes_buffers_alone(name):
    conduct.trains_its_buffers_alone(candidate(name))


@every_norm
def test_parameters_given_from_outside_are_used(name):
    conduct.uses_the_parameters_it_is_given(candidate(name))


@every_norm
def test_a_saved_module_evaluates_alike(name):
    conduct.is_pickled_whole(candidate(name))


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
def test_evaluation_repeats_itself_and_changes_nothing(name):
    conduct.evaluates_without_a_trace(candidate(name))


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
    conduct.equals_runs_one_at_a_time_in_lanes(candidate(name), training=training)


@lanes_norm
def test_lanes_can_be_differentiated_from_outside(name):
    conduct.is_differentiated_from_outside_the_lanes(candidate(name))


@lanes_norm
@pytest.mark.parametrize("training", [True, False])
def test_a_lane_that_is_not_finite_leaves_the_others_alone(name, training):
    conduct.keeps_what_is_not_finite_in_its_lane(candidate(name), training=training)


@every_norm
def test_gradient_is_that_of_finite_differences(name):
    conduct.has_the_gradient_of_finite_differences(candidate(name))


SCALED = [  # of the others, some take no statistics of the batch, and some leave a part of x unscaled on purpose
    name
    for name, row in ACTIVATION.items()
    if "eps" in row.options and name not in ("frozen", "online", "power", "evonorm-b0", "evonorm-s0")
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


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize(
    ("name", "degenerate"), [(name, how) for name in ACTIVATION for how in DEGENERATE if (name, how) not in NO_GRADIENT]
)
def test_gradients_of_a_degenerate_batch_are_those_of_finite_differences(name, degenerate, check):
    x = DEGENERATE[degenerate](example(name, 6)).requires_grad_()
    output, parameters = conduct.output_of(candidate(name))
    check(output, (x, *parameters), fast_mode=True)


@every_norm
def test_second_gradient_is_that_of_finite_differences(name):
    conduct.has_the_second_gradient_of_finite_differences(candidate(name))


@pytest.mark.parametrize(("name", "degenerate"), NO_GRADIENT)
def test_where_no_gradient_exists_it_is_finite(name, degenerate):
    x = DEGENERATE[degenerate](example(name)).requires_grad_()
    build(name)(x).square().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name, row in ACTIVATION.items() if not row.ordered])
def test_permuting_the_examples_permutes_the_output(name):
    conduct.permutes_with_its_examples(candidate(name))


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
    conduct.saves_all_that_evaluation_needs(candidate(name))


@every_norm
def test_a_copy_evaluates_alike_and_trains_by_itself(name):
    conduct.is_copied_whole(candidate(name))


@every_norm
def test_repr_names_the_options(name):
    shown = repr(norm(name, 64))
    assert shown.startswith(NORMS.load(name).__name__ + "(64")
    for key, option in NORMS[name].options.items():
        assert f"{key}={option.default}" in shown
