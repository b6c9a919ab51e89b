"""Statistics against those that they stand for, on closed forms."""

import pytest
import torch

from bncli.norms.batch import BatchNorm
from bncli.shift.statistics import (
    mean_estimation_shift,
    mode_gap,
    normalisation_disturbance,
    relative_estimation_shift,
    var_estimation_shift,
)

RUNNING = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 1.0])
POPULATION = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])


def test_estimation_shift_is_the_distance_of_means_and_of_variances():
    assert mean_estimation_shift(*RUNNING, *POPULATION).item() == 5
    assert var_estimation_shift(*RUNNING, *POPULATION).item() == 3


def test_relative_estimation_shift_is_in_deviations_of_the_population():
    # ((3^2 + (2 - 1)^2) / 1 + (4^2 + 0) / 1) / 2
    assert relative_estimation_shift(*RUNNING, *POPULATION).item() == pytest.approx(13**0.5)
    mean, var = POPULATION
    running_mean, running_var = RUNNING
    scaled = relative_estimation_shift(10 * running_mean, 100 * running_var, 10 * mean, 100 * var)
    assert scaled.item() == pytest.approx(13**0.5)


def test_disturbance_of_outputs_that_stray_by_1_in_every_channel_is_1_but_for_the_mean_of_few():
    outputs = torch.stack([torch.ones(5, 3), -torch.ones(5, 3)])
    assert normalisation_disturbance(outputs).item() == pytest.approx(2**0.5)  # B / (B - 1) = 2


def test_disturbance_does_not_hang_on_the_number_of_batches():
    torch.manual_seed(0)
    found = [normalisation_disturbance(torch.randn(4000 // B, B, 1, 16)).mean().item() for B in (2, 4, 40)]
    assert found == pytest.approx([found[2]] * 3, rel=0.02)
    assert found[2] == pytest.approx(0.985, abs=0.01)  # the mean length of 16 standard normals over sqrt(16)


def test_disturbance_of_batch_norm_is_the_known_one():
    torch.manual_seed(0)
    module, x, outputs = BatchNorm(16, affine=False), torch.randn(20, 16), []
    for _ in range(60):
        rest = torch.randn(60, 31, 16)[:20]
        outputs.append(torch.stack([module(torch.cat([x[i : i + 1], rest[i]]))[0] for i in range(20)]))
    assert normalisation_disturbance(torch.stack(outputs)).item() == pytest.approx(0.19, rel=0.2)  # science: .19


def test_mode_gap_is_in_lengths_of_the_outputs_about_their_mean():
    training = torch.tensor([[6.0], [4.0]])
    assert mode_gap(training, training + 1).item() == pytest.approx(1)
    assert mode_gap(training, training + 0.5).item() == pytest.approx(0.5)
