"""What sampling noise alone makes of metrics: against what is known of Gaussians."""

import math

import pytest
import torch

from bncli.shift import METRICS
from bncli.shift.gradients import gradients, walk
from bncli.shift.samples import noise_of, null_band

N, C = 400, 64
PAIRS = [name for name, row in METRICS.items() if row.kind == "pair"]
z, density = 1.0364334, 0.2331588  # the normal's 85th percentile, and its density there
MEDIAN, EDGE = math.sqrt(0.25) / 0.3989423, math.sqrt(0.15 * 0.85) / density  # sqrt(N) deviation of a percentile

# sqrt(2 / N): deviation of the difference of two means; mean of |normal| is sqrt(2 / pi), its 95th percentile 1.96;
# log deviations differ by sqrt(1 / N), and so do deviations; symmetric KL is 2 / N times chi-squared of 2;
# Kolmogorov's distribution has mean 0.8687 and 95th percentile 1.3581
ABSOLUTE = math.sqrt(2 / math.pi)
KNOWN = {
    "location-drift": (ABSOLUTE * math.sqrt(2 / N), 1.96 * math.sqrt(2 / N)),
    "scale-drift": (ABSOLUTE * math.sqrt(1 / N), 1.96 * math.sqrt(1 / N)),
    "symmetric-kl": (4 / N, 5.991 * 2 / N),
    "ks": (0.8687 * math.sqrt(2 / N), 1.3581 * math.sqrt(2 / N)),
    "percentile-drift": (ABSOLUTE * math.sqrt(2 / N) * (MEDIAN + 2 * EDGE) / 3, None),
    "percentile-drift-relative": (ABSOLUTE * math.sqrt(2 / N) * (MEDIAN + 2 * EDGE) / 3 / (2 * z), None),
}


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", KNOWN)
def test_the_band_is_what_two_fresh_samples_of_the_same_size_show(name):
    found = null_band(METRICS.load(name), gaussian(N, C), seed=1, draws=99)
    mean, upper = KNOWN[name]
    assert found.mean.mean().item() == pytest.approx(mean, rel=0.08)
    if upper is not None:
        assert found.upper.mean().item() == pytest.approx(upper, rel=0.08)


@pytest.mark.parametrize("name", PAIRS)
def test_the_band_of_every_metric_agrees_with_fresh_samples(name):
    metric = METRICS.load(name)
    fresh = torch.stack([metric(gaussian(N, 8, seed=2 * i), gaussian(N, 8, seed=2 * i + 1)) for i in range(40)])
    found = null_band(metric, gaussian(N, 8, seed=99), seed=1)
    assert found.mean.mean().item() == pytest.approx(fresh.mean().item(), rel=0.25)


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "symmetric-kl-standardised"])
def test_a_sample_that_has_shifted_lies_outside(name):
    metric, x = METRICS.load(name), gaussian(N, C)
    assert (metric(x, 1.5 * x + 0.5) > null_band(metric, x, seed=1).upper).all()


def test_units_that_moved_against_their_layer_lie_outside():
    metric, x = METRICS.load("symmetric-kl-standardised"), gaussian(N, C)
    moved = x + torch.tensor([0.5, -0.5]).repeat(C // 2)
    assert (metric(x, moved) > null_band(metric, x, seed=1).upper).all()


def test_another_sample_of_the_same_distribution_mostly_lies_within():
    metric = METRICS.load("w1")
    within = metric(gaussian(N, 1000), gaussian(N, 1000, seed=1)) <= null_band(metric, gaussian(N, 1000), seed=1).upper
    assert within.double().mean().item() == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("name", PAIRS)
def test_lanes_equal_one_at_a_time(name):
    metric, x = METRICS.load(name), gaussian(2, 30, 3).double()
    together = null_band(metric, x, seed=5, draws=19)
    for lane in range(2):
        alone = null_band(metric, x[lane], seed=5, draws=19)
        torch.testing.assert_close(together.upper[lane], alone.upper)
        torch.testing.assert_close(together.mean[lane], alone.mean)


def test_the_noise_of_a_median_over_units_is_less_than_that_of_a_unit():
    metric, x = METRICS.load("w1"), gaussian(N, C)
    of_median = null_band(lambda a, b: metric(a, b).median(-1).values, x, seed=1)
    assert of_median.upper < null_band(metric, x, seed=1).upper.median() / 1.3


def test_locations_of_an_example_are_drawn_together():
    metric = METRICS.load("location-drift")
    alike = gaussian(100, C).repeat_interleave(16, 0)  # 16 locations that tell no more than one
    found = null_band(metric, alike, seed=1, block=16)
    assert found.mean.mean().item() == pytest.approx(ABSOLUTE * math.sqrt(2 / 100), rel=0.1)


def test_a_block_that_does_not_divide_the_rows_is_refused():
    with pytest.raises(ValueError, match="expected a block that divides the sample's 10 rows, got 4"):
        null_band(METRICS.load("w1"), torch.zeros(10, 2), seed=0, block=4)


def test_too_few_draws_for_the_quantile_are_refused():
    with pytest.raises(ValueError, match=r"expected at least 19 draws for 0\.95, got 18"):
        null_band(METRICS.load("w1"), torch.zeros(10, 2), seed=0, draws=18)


def test_of_19_draws_the_largest_is_the_edge():
    values = iter(range(19))
    assert noise_of(lambda a, b: torch.tensor(float(next(values))), 3, seed=0, draws=19).upper.item() == 18


def test_draws_follow_from_the_seed_and_leave_torchs_generator_alone():
    state = torch.get_rng_state()
    metric, x = METRICS.load("w1"), gaussian(50, 2)
    assert torch.equal(null_band(metric, x, seed=3).mean, null_band(metric, x, seed=3).mean)
    assert not torch.equal(null_band(metric, x, seed=3).mean, null_band(metric, x, seed=4).mean)
    assert torch.equal(state, torch.get_rng_state())


def changed(name):
    """A metric of one sample as a metric of a pair: how much it changes."""
    metric = METRICS.load(name)
    return lambda a, b: (metric(a) - metric(b)).abs()


def tilted(x):
    """Wider, moved, correlated and uneven."""
    return (3 * x + 0.9 * x.roll(1, -1)) @ torch.linspace(1, 2, x.shape[-1]).diag() + 2


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.kind == "sample"])
def test_the_change_of_a_metric_of_one_sample_has_a_band_that_agrees_with_fresh_samples(name):
    fresh = torch.stack([changed(name)(*tilted(gaussian(2, N, 8, seed=i))) for i in range(40)])
    found = [null_band(changed(name), tilted(gaussian(N, 8, seed=99 + i)), seed=i).mean.mean() for i in range(4)]
    assert torch.stack(found).mean().item() == pytest.approx(fresh.mean().item(), rel=0.35)


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.kind == "sample"])
def test_the_change_of_a_metric_of_one_sample_is_outside_where_the_sample_is_tilted(name):
    x = tilted(gaussian(N, 8))
    assert (changed(name)(x, tilted(x) + 20) > null_band(changed(name), x, seed=1).upper).all()


def least_squares(x, y):
    """The loss of a linear model on those rows, as a function of its parameters."""
    return lambda rows: lambda p: (x[rows] @ p["w"] - y[rows]).square().mean()


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.kind == "gradient"])
def test_gradients_of_two_batches_of_one_checkpoint_have_a_band(name):
    x, y = gaussian(N, 5), gaussian(N, seed=1)
    loss, here = least_squares(x, y), {"w": torch.ones(5)}

    def gradient(rows):
        return gradients(loss(rows), here, ["w"])[1]["w"]

    metric, every = METRICS.load(name), torch.arange(N)
    found = noise_of(lambda a, b: metric(gradient(a), gradient(b)), N, seed=0)
    turned = metric(gradient(every), -gradient(every))
    if METRICS[name].better == "lower":
        assert 0 < found.mean < found.upper < turned
    else:
        assert turned < found.mean < found.upper < 1


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.kind == "landscape"])
def test_the_landscapes_of_two_batches_of_one_checkpoint_have_a_band(name):
    x, y = gaussian(N, 5), gaussian(N, seed=1)
    loss, wide, here, metric = least_squares(x, y), least_squares(2 * x, y), {"w": torch.ones(5)}, METRICS.load(name)
    sizes, every = [torch.tensor(0.1), torch.tensor(0.4)], torch.arange(N)
    found = noise_of(
        lambda a, b: (metric(walk(loss(a), here, sizes)) - metric(walk(loss(b), here, sizes))).abs(), N, seed=0
    )
    steeper = metric(walk(wide(every), here, sizes)) - metric(walk(loss(every), here, sizes))
    assert 0 < found.mean < found.upper < steeper


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.kind == "statistics"])
def test_statistics_of_two_batches_of_one_checkpoint_have_a_band(name):
    x, metric = gaussian(N, 8), METRICS.load(name)

    def statistics(z):
        return z.mean(0), z.var(0)

    found = null_band(lambda a, b: metric(*statistics(a), *statistics(b)), x, seed=0)
    assert 0 < found.mean < found.upper < metric(*statistics(x), *statistics(tilted(x)))


def test_outputs_in_another_mode_lie_outside_what_another_batch_makes_of_them():
    x, gap = gaussian(N, 8), METRICS.load("mode-gap")

    def normalised(batch):
        return (x - batch.mean(0)) / batch.std(0)

    found = null_band(lambda a, b: gap(normalised(a), normalised(b)), x, seed=0)
    assert 0 < found.mean < found.upper < gap(normalised(x), normalised(tilted(x)))


def test_disturbance_by_the_rest_of_the_batch_lies_outside_what_other_batches_of_calm_outputs_show():
    batches, disturbance = gaussian(40, 30, 8), METRICS.load("normalisation-disturbance")

    def outputs(rows, noise):
        return gaussian(30, 8, seed=7) + noise * batches[rows]

    found = noise_of(lambda a, b: (disturbance(outputs(a, 0.1)) - disturbance(outputs(b, 0.1))).abs(), 40, seed=0)
    every = torch.arange(40)
    assert 0 < found.mean < found.upper < disturbance(outputs(every, 0.2)) - disturbance(outputs(every, 0.1))
