"""Shift of gradients and the landscape along the step, on losses whose gradients are known."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from bncli.shift.gradients import (
    Walk,
    cosine,
    effective_smoothness,
    gradient_predictiveness,
    gradient_shift,
    l2_norm,
    loss_range,
    relative_shift,
    shift_norm,
    walk,
)


def product(p):
    """L = a b c of three layers of one number: each gradient is the product of the others."""
    return p["a"] * p["b"] * p["c"]


LAYERS = {"first": ["a"], "second": ["b"], "third": ["c"]}


def numbers(**values):
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def shifts(before, after, loss=product, layers=LAYERS):
    return {found.layer: found for found in gradient_shift(loss, before, after, layers)}


def test_only_the_preceding_layers_move():
    found = shifts(numbers(a=2.0, b=3.0, c=5.0), numbers(a=7.0, b=11.0, c=13.0))
    assert {name: (f.gradient.tolist(), f.moved.tolist()) for name, f in found.items()} == {
        "first": ([15], [15]),  # 3 * 5
        "second": ([10], [35]),  # 2 * 5, then 7 * 5: c stays
        "third": ([6], [77]),  # 2 * 3, then 7 * 11
    }


def test_the_first_layer_does_not_shift_by_construction():
    first = shifts(numbers(a=2.0, b=3.0, c=5.0), numbers(a=7.0, b=11.0, c=13.0))["first"]
    assert shift_norm(first.gradient, first.moved).item() == 0
    assert cosine(first.gradient, first.moved).item() == 1


def test_the_order_of_the_layers_is_the_callers():
    reverse = dict(reversed(LAYERS.items()))
    found = shifts(numbers(a=2.0, b=3.0, c=5.0), numbers(a=7.0, b=11.0, c=13.0), layers=reverse)
    assert found["first"].moved.item() == 11 * 13


def test_parameters_of_a_layer_move_together():
    found = shifts(
        numbers(a=2.0, b=3.0, c=5.0), numbers(a=7.0, b=11.0, c=13.0), layers={"one": ["a", "b"], "two": ["c"]}
    )
    assert found["one"].gradient.tolist() == found["one"].moved.tolist() == [15, 10]
    assert found["two"].moved.item() == 77


def test_lanes_shift_each_by_its_own():
    before = {"a": torch.tensor([2.0, 1.0]), "b": torch.tensor([3.0, 1.0]), "c": torch.tensor([5.0, 1.0])}
    after = {"a": torch.tensor([7.0, 1.0]), "b": torch.tensor([11.0, 4.0]), "c": torch.tensor([13.0, 9.0])}
    assert shifts(before, after)["third"].moved.tolist() == [[77], [4]]
    assert shifts(before, after)["third"].gradient.tolist() == [[6], [1]]


def test_a_network_with_a_norm_shifts_by_what_the_layers_before_did():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sigmoid(), nn.Linear(4, 2))
    x, y = torch.randn(8, 3), torch.randint(2, (8,))
    buffers = dict(model.named_buffers())

    def loss(p):
        return nn.functional.cross_entropy(
            functional_call(model, ({**p}, {n: b.clone() for n, b in buffers.items()}), x), y
        )

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    after = {name: p + 0.1 for name, p in before.items()}
    layers = {"first": ["0.weight", "0.bias", "1.weight", "1.bias"], "last": ["3.weight", "3.bias"]}
    kept = {name: b.clone() for name, b in buffers.items()}
    found = shifts(before, after, loss, layers)
    assert all(torch.equal(kept[name], buffers[name]) for name in buffers)

    mixed = {name: (after if name in layers["first"] else before)[name].requires_grad_() for name in before}
    wanted = torch.autograd.grad(loss(mixed), [mixed[name] for name in layers["last"]])
    torch.testing.assert_close(found["last"].moved, torch.cat([g.flatten() for g in wanted]))


def test_a_parameter_without_influence_has_gradient_0():
    found = shifts(numbers(a=2.0, b=1.0), numbers(a=3.0, b=2.0), lambda p: p["a"] ** 2, {"one": ["a"], "two": ["b"]})
    assert found["two"].gradient.item() == 0


def test_a_name_that_is_no_parameter_is_refused():
    with pytest.raises(ValueError, match="layer 'one': expected names of parameters, got 'z'"):
        shifts(numbers(a=1.0), numbers(a=1.0), layers={"one": ["z"]})


def test_a_parameter_in_two_layers_is_refused():
    with pytest.raises(ValueError, match="parameter 'a': expected in one layer, got in 'one' and 'two'"):
        shifts(numbers(a=1.0), numbers(a=1.0), layers={"one": ["a"], "two": ["a"]})


def test_shift_is_the_distance_and_relative_shift_in_lengths_of_the_gradient():
    G, moved = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 14.0])
    assert shift_norm(G, moved).item() == 10
    assert relative_shift(G, moved).item() == 2


@pytest.mark.parametrize(
    ("moved", "expected"), [([2.0, 0.0], 1), ([0.0, 3.0], 0), ([-5.0, 0.0], -1), ([1.0, 1.0], 0.5**0.5)]
)
def test_cosine_is_that_of_the_angle(moved, expected):
    assert cosine(torch.tensor([1.0, 0.0]), torch.tensor(moved)).item() == pytest.approx(expected)


def test_cosine_keeps_small_angles():
    turned = torch.tensor([1.0, 1e-5], dtype=torch.float64)
    assert 1 - cosine(torch.tensor([1.0, 0.0]).double(), turned).item() == pytest.approx(5e-11, rel=1e-4)


def test_cosine_of_two_zeros_is_1_and_of_one_is_0():
    zero, one = torch.zeros(2), torch.ones(2)
    assert cosine(zero, zero).item() == 1
    assert cosine(zero, one).item() == 0


def bowl(curvature):
    """L = c |p|^2 / 2: the gradient is c p, and its change along any step is c times the step."""
    return lambda p: curvature * p["p"].square().sum(-1) / 2


def sizes(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


START = {"p": torch.tensor([3.0, 4.0], dtype=torch.float64)}


def test_a_walk_down_a_bowl_meets_the_known_losses_changes_and_lengths():
    found = walk(bowl(2.0), START, sizes(0.25, 0.5, 1.0))
    assert found.losses.tolist() == [6.25, 0, 25]
    assert found.changes.tolist() == [5, 10, 20]
    assert found.lengths.tolist() == [2.5, 5, 10]


def test_metrics_of_a_walk_down_a_bowl():
    found = walk(bowl(2.0), START, sizes(0.25, 0.5, 1.0))
    assert loss_range(found).item() == 25
    assert gradient_predictiveness(found).item() == 20
    assert effective_smoothness(found).item() == 2  # the curvature


def test_each_lane_walks_by_its_own_gradient_and_step_size():
    lanes = {"p": torch.tensor([[3.0, 4.0], [0.0, 1.0]], dtype=torch.float64)}
    found = walk(bowl(torch.tensor([2.0, 3.0], dtype=torch.float64)), lanes, sizes([0.25, 1.0]))
    assert found.losses.tolist() == [[6.25], [6.0]]
    assert effective_smoothness(found).tolist() == [2, 3]


def test_what_the_walk_starts_from_is_left_as_it_was():
    kept = START["p"].clone()
    walk(bowl(2.0), START, sizes(1.0))
    assert torch.equal(START["p"], kept)
    assert not START["p"].requires_grad


def test_where_the_gradient_is_0_there_is_nothing_to_walk():
    found = walk(bowl(2.0), {"p": torch.zeros(2)}, sizes(1.0))
    assert effective_smoothness(found).item() == 0


def test_a_gradient_that_changes_without_a_step_is_infinitely_rough():
    assert effective_smoothness(Walk(torch.ones(1), torch.ones(1), torch.zeros(1))).item() == math.inf


def test_the_norm_of_a_vector_is_its_euclidean_length():
    assert l2_norm(torch.tensor([[3.0, -4.0], [0.0, 0.0]])).tolist() == [5, 0]


def test_a_norm_whose_squares_leave_float32_is_still_finite():
    assert l2_norm(torch.tensor([3e30, 4e30])).item() == pytest.approx(5e30)
    assert l2_norm(torch.tensor([3e-30, 4e-30])).item() == pytest.approx(5e-30)
