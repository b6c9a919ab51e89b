"""What no norm does, whatever it is fed: crash in a decomposition, hang, change shapes, make nan of finite numbers."""

import re

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bncli.norms import NORMS, norm

pytestmark = pytest.mark.filterwarnings("ignore:whitening. the covariance:RuntimeWarning")  # which it may well be
SMALL = {"group_size": 4, "groups": 2}
NAMES = [name for name, row in NORMS.items() if row.side == "activation"]
BOUNDED = ("dyt", "derf")  # of an infinite value they leave the sign
LARGEST = 1e15  # whose squares, summed, a float32 still holds

every_norm = pytest.mark.parametrize("name", NAMES)
few = settings(derandomize=True, deadline=None, max_examples=30, database=None)

locations = st.one_of(st.just(()), st.tuples(st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(1, 2)))
shapes = st.builds(lambda examples, rest: (examples, 6, *rest), st.integers(0, 4), locations)
scales = st.sampled_from([0.0, 1e-40, 1e-30, 1e-10, 1e-3, 1.0, 1e3, 1e10, LARGEST])
means = st.sampled_from([0.0, 1.0, -1e4, 1e8, LARGEST, 1e-40])
modes = st.booleans()


def ramp(*shape):
    return torch.ones(shape).cumsum(1) * torch.ones(shape).cumsum(0)


@st.composite
def inputs(draw):
    """Finite, each channel with its own mean and scale, some of them equal."""
    shape = draw(shapes)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    each = (6, *[1] * (len(shape) - 2))
    scale, mean = (torch.tensor(draw(st.lists(kind, min_size=6, max_size=6))).view(each) for kind in (scales, means))
    x = x * scale + mean
    return x[:, draw(st.sampled_from([[0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 4, 5], [0, 0, 0, 0, 0, 0]]))]


def build(name, training):
    small = {key: value for key, value in SMALL.items() if key in NORMS[name].options}
    return norm(name, 6, **small).train(training)


def output(module, x):
    """The module's output, or None for an input that it refuses in words."""
    try:
        y, refusal = module(x), ""
    except ValueError as error:
        y, refusal = None, str(error)
    if y is None:
        assert re.search("^expected .*, got ", refusal), refusal
        return None
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    return y


@every_norm
@few
@given(x=inputs(), training=modes)
@example(x=ramp(4, 6, 0), training=True)
@example(x=ramp(4, 6, 0, 3), training=True)
@example(x=ramp(4, 6, 0, 3), training=False)
@example(x=ramp(0, 6), training=True)
@example(x=ramp(0, 6, 4), training=False)
@example(x=ramp(1, 6), training=True)
@example(x=ramp(1, 6, 3), training=True)
@example(x=ramp(2, 6), training=True)
@example(x=torch.full((3, 6, 2), 7.0), training=True)
def test_of_what_is_finite_output_gradients_and_statistics_are_finite_or_it_is_refused_in_words(name, x, training):
    module, x = build(name, training), x.clone().requires_grad_()
    y = output(module, x)
    if y is not None:
        y.sum().backward()
        gradients = [leaf.grad for leaf in (x, *module.parameters()) if leaf.grad is not None]
        assert all(tensor.isfinite().all() for tensor in (y, *gradients, *module.buffers()))


@every_norm
@few
@given(x=inputs(), training=modes, bad=st.sampled_from([torch.nan, torch.inf, -torch.inf]), where=st.integers(0, 143))
def test_of_what_is_not_finite_the_output_is_not_finite_either(name, x, training, bad, where):
    if x.numel() == 0:
        return
    x = x.clone()
    x.view(-1)[where % x.numel()] = bad
    y = output(build(name, training), x.requires_grad_())
    if y is not None:
        y.sum().backward()
        assert not y.isfinite().all() or (name in BOUNDED and bad == bad)


@every_norm
@pytest.mark.parametrize("shape", [(4, 6, 0), (4, 6, 0, 3), (0, 6), (0, 6, 5)], ids=str)
def test_evaluating_nothing_gives_nothing_or_is_refused_in_words(name, shape):
    output(build(name, training=False), torch.randn(shape))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
@pytest.mark.parametrize("shape", [(), (6,), (4, 5), (4, 12), (4, 12, 2)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_another_number_of_channels_is_refused_in_words(name, shape, training):
    with pytest.raises(ValueError, match=r"^expected 6 channels, got input of shape"):
        build(name, training)(torch.randn(shape))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (name, shape)
        for name in NAMES
        for shape in [(0, 6), (4, 6, 0), (1, 6), (1, 6, 1, 1)]
        if NORMS[name].batch_statistics and (1 in shape or name not in ("batch", "noisy-batch", "sync"))
    ],
    ids=str,
)
def test_a_refused_batch_leaves_no_trace(name, shape):
    module = build(name, training=True)
    before = {key: buffer.clone() for key, buffer in module.named_buffers()}
    with pytest.raises(ValueError, match=r"^expected more than 1 value per channel"):
        module(torch.randn(shape))
    assert all(torch.equal(buffer, before[key]) for key, buffer in module.named_buffers())
