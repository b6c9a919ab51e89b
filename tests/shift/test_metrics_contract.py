"""What every metric of shift keeps, whichever it is."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bncli.shift import METRICS
from bncli.shift.gradients import Walk

C, N, B, P, K = 4, 12, 3, 7, 5

every_metric = pytest.mark.parametrize("name", METRICS)
compared = pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.null is not None])


def sample(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return scale * (x + 0.3 * x.roll(1, -1) + 1)


def arguments(kind, lanes=(), *, seed=0, scale=1.0):
    """What a metric of this kind is given, tensor by tensor."""
    shapes = {
        "pair": [(N, C)] * 2, "sample": [(N, C)], "gradient": [(P,)] * 2, "landscape": [(K,)] * 3,
        "statistics": [(C,)] * 4, "draws": [(B, N, C)], "modes": [(N, C)] * 2, "weight": [(P,)], "weight-gradient": [(P,)],
    }[kind]  # fmt: skip
    made = [sample(*lanes, *shape, seed=seed + i, scale=scale) for i, shape in enumerate(shapes)]
    if kind == "landscape":
        made[1:] = [made[1].abs(), made[2].abs()]
    if kind == "statistics":
        made[1], made[3] = made[1].abs(), made[3].abs()
    return made


def unchanged(kind, **how):
    """What a metric of this kind is given where nothing has changed."""
    made = arguments(kind, (2,), **how)
    if kind == "landscape":
        return [made[0][..., :1].expand_as(made[0]), torch.zeros_like(made[1]), made[2]]
    if kind == "draws":
        return [made[0][..., :1, :, :].expand_as(made[0])]
    return made[: len(made) // 2] * 2


def measure(name, tensors):
    call = METRICS.load(name)
    return call(Walk(*tensors)) if METRICS[name].kind == "landscape" else call(*tensors)


@every_metric
def test_options_of_the_row_are_keywords_of_the_target_with_the_same_defaults(name):
    options = [p for p in inspect.signature(METRICS.load(name)).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert {o.name: o.default for o in options} == {key: o.default for key, o in METRICS[name].options.items()}


@every_metric
def test_a_result_has_one_number_for_each_unit_or_layer_of_each_lane(name):
    row = METRICS[name]
    for lanes in [(), (2,), (2, 3)]:
        expected = (*lanes, *([3] if name == "percentiles" else []), *([C] if row.per == "unit" else []))
        assert measure(name, arguments(row.kind, lanes)).shape == expected


@every_metric
def test_lanes_equal_one_at_a_time(name):
    kind = METRICS[name].kind
    tensors = arguments(kind, (3,))
    together = measure(name, tensors)
    alone = torch.stack([measure(name, [t[lane] for t in tensors]) for lane in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@every_metric
def test_a_lane_that_is_not_finite_leaves_the_others_alone(name):
    tensors = arguments(METRICS[name].kind, (2,))
    expected = measure(name, tensors)[0]
    for tensor in tensors:
        tensor[1] = torch.nan
    torch.testing.assert_close(measure(name, tensors)[0], expected, rtol=1e-12, atol=1e-12)


@every_metric
def test_float64_stays_float64_and_half_precision_is_widened(name):
    tensors = arguments(METRICS[name].kind)
    assert measure(name, tensors).dtype == torch.float64
    assert measure(name, [t.bfloat16() for t in tensors]).dtype in (torch.float32, torch.float64)


@every_metric
def test_nothing_is_changed_that_was_given(name):
    tensors = arguments(METRICS[name].kind)
    kept = [t.clone() for t in tensors]
    measure(name, tensors)
    assert all(torch.equal(t, k) for t, k in zip(tensors, kept, strict=True))


@every_metric
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-6, 6))
def test_results_lie_in_the_range_of_the_row(name, seed, exponent):
    row = METRICS[name]
    found = measure(name, arguments(row.kind, (2,), seed=seed, scale=10.0**exponent))
    assert not found.isnan().any()
    slack = 1e-12 * max(1, C)
    assert (found >= row.low - slack).all()
    assert (found <= row.high + slack).all()


@compared
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-6, 6))
def test_where_nothing_has_changed_a_metric_has_its_null_value(name, seed, exponent):
    row, scale = METRICS[name], 10.0**exponent
    found = measure(name, unchanged(row.kind, seed=seed, scale=scale))
    torch.testing.assert_close(found, torch.full_like(found, row.null), rtol=0, atol=1e-12 * max(scale, 1))


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.relative and row.kind != "landscape"])
def test_a_relative_metric_knows_no_unit(name):
    kind = METRICS[name].kind
    tensors = arguments(kind)
    powers = [1, 2, 1, 2] if kind == "statistics" else [1] * len(tensors)
    if name == "saturation":
        pytest.skip("its edges are the activation's")
    scaled = [t * 8.0**power for t, power in zip(tensors, powers, strict=True)]
    torch.testing.assert_close(measure(name, scaled), measure(name, tensors), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [n for n, r in METRICS.items() if r.kind == "pair" or n == "mode-gap"])
def test_samples_of_different_shapes_are_refused(name):
    with pytest.raises(ValueError, match=r"expected two samples of one shape, got \(12, 4\) and \(11, 4\)"):
        METRICS.load(name)(torch.ones(12, 4), torch.ones(11, 4))


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.kind == "pair" and row.per == "unit"])
def test_a_unit_that_is_constant_and_stays_so_has_not_moved(name):
    x = torch.full((N, C), 0.1)
    x[:, 1:] = sample(N, C - 1).float()
    assert METRICS.load(name)(x, x.clone())[0] == 0


@every_metric
def test_every_row_says_where_it_is_from_and_what_it_is(name):
    row = METRICS[name]
    assert row.summary
    assert row.formula
    assert row.citation
    assert row.low < row.high
    assert row.null is None or row.low <= row.null <= row.high
