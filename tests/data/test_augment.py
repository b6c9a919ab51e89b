"""Augmentation: what is done to an image, from which draws, and that nothing else moves."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bncli.config import Augmentation, Study
from bncli.data.augment import DRAWS, augment, draw
from bncli.data.splits import Split
from bncli.engine.batches import Batches
from bncli.engine.train import train
from bncli.errors import ConfigError
from bncli.plan import Job, runs_of

Tiny = Callable[..., Study]
SHAPE = (2, 5, 4)
X = torch.arange(1.0, 121).view(3, 40)
HALF = torch.full((3, DRAWS), 0.5, dtype=torch.float64)


def drawn(**chances: float) -> torch.Tensor:
    places = {"down": 0, "right": 1, "flip": 2, "y": 3, "x": 4}
    found = HALF.clone()
    for name, chance in chances.items():
        found[:, places[name]] = chance
    return found


def test_the_middle_of_the_draws_leaves_an_image_where_it_is() -> None:
    assert augment(X, HALF, SHAPE, crop=2, flip=True, cutout=0).equal(X)


@pytest.mark.parametrize(
    ("down", "right", "rows", "columns"), [(0.0, 0.5, -2, 0), (0.99, 0.5, 2, 0), (0.5, 0.0, 0, -2), (0.99, 0.3, 2, -1)]
)
def test_a_crop_moves_an_image_and_black_comes_in(down: float, right: float, rows: int, columns: int) -> None:
    found = augment(X, drawn(down=down, right=right), SHAPE, crop=2, flip=False, cutout=0).view(3, *SHAPE)
    padded = torch.nn.functional.pad(X.view(3, *SHAPE), (2, 2, 2, 2))
    assert found.equal(padded[:, :, 2 + rows : 7 + rows, 2 + columns : 6 + columns])


def test_a_flip_is_left_and_right_and_of_half_of_them() -> None:
    assert (
        augment(X, drawn(flip=0.4), SHAPE, crop=0, flip=True, cutout=0)
        .view(3, *SHAPE)
        .equal(X.view(3, *SHAPE).flip(-1))
    )
    many = augment(
        X[:1].expand(4_000, -1), draw(4_000, torch.Generator().manual_seed(0)), SHAPE, crop=0, flip=True, cutout=0
    )
    assert 0.47 < (many != X[:1]).any(1).double().mean() < 0.53


def test_a_square_is_cut_out_that_may_lie_over_the_edge() -> None:
    found = augment(X, drawn(y=0.0, x=0.99), SHAPE, crop=0, flip=False, cutout=3).view(3, *SHAPE)
    expected = X.view(3, *SHAPE).clone()
    expected[:, :, :2, 2:] = 0
    assert found.equal(expected)


def test_every_place_of_a_crop_is_drawn_about_as_often() -> None:
    x = torch.zeros(9_000, 25)
    x[:, 12] = 1
    found = augment(x, draw(9_000, torch.Generator().manual_seed(1)), (1, 5, 5), crop=1, flip=False, cutout=0)
    counts = found.sum(0).view(5, 5)
    assert counts.sum() == 9_000
    assert counts[1:4, 1:4].min() > 850


def batches(how: Augmentation | None, seed: int = 0, size: int = 10) -> Batches:
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    return Batches(Split(x, torch.arange(50)), size, [seed], (), how, SHAPE)


HOW = Augmentation(crop=1, flip=True, cutout=2)


def test_augmentation_follows_from_the_seed_and_leaves_the_order_of_examples_alone() -> None:
    plain, first, again, other = (
        list(batches(how, seed).next(12)) for how, seed in ((None, 0), (HOW, 0), (HOW, 0), (HOW, 1))
    )
    for (x, y), (x1, y1), (x2, y2) in zip(plain, first, again, strict=True):
        assert y.equal(y1)
        assert x1.equal(x2)
        assert y1.equal(y2)
        assert not x.equal(x1)
    assert not first[0][0].equal(other[0][0])
    seen = {int(n): x for x, y in first[:5] for x, n in zip(x, y, strict=True)}
    later = {int(n): x for x, y in first[5:10] for x, n in zip(x, y, strict=True)}
    assert sum(seen[n].equal(later[n]) for n in seen) < 10  # each epoch anew


def test_a_resumed_run_is_augmented_as_if_it_had_not_been_interrupted() -> None:
    whole, resumed = batches(HOW), batches(HOW)
    list(whole.next(7))
    resumed.restore(whole.state())
    for (x, _), (other, _) in zip(whole.next(9), resumed.next(9), strict=True):
        assert x.equal(other)


def test_lanes_are_augmented_as_runs_alone() -> None:
    x = torch.randn(50, 40)
    together = Batches(Split(x, torch.arange(50)), 10, [0, 1], (2,), HOW, SHAPE)
    alone = [Batches(Split(x, torch.arange(50)), 10, [seed], (), HOW, SHAPE) for seed in (0, 1)]
    for (both, _), (first, _), (second, _) in zip(together.next(6), alone[0].next(6), alone[1].next(6), strict=True):
        assert both.equal(torch.stack([first, second]))


def augmented(tiny: Tiny, **how: Any) -> Study:
    return tiny(training={"steps": 10, "batch_size": 40, "lr": 0.5, "augment": how or None})


def test_a_study_with_augmentation_trains_and_has_ids_of_its_own(tiny: Tiny) -> None:
    plain, moved = (runs_of(augmented(tiny, **how), "cpu")[:2] for how in ({}, {"crop": 2, "cutout": 4}))
    assert "augment" not in plain[0].spec()["training"]
    assert moved[0].spec()["training"]["augment"] == {"crop": 2, "flip": False, "cutout": 4}
    losses = [train(Job(tuple(runs)))[0].curve("loss")[1] for runs in (plain, moved)]
    assert losses[0][0] == losses[1][0]
    assert losses[0][-1] != losses[1][-1]


def test_augmentation_that_does_not_fit_the_data_is_refused(tiny: Tiny) -> None:
    with pytest.raises(
        ConfigError, match=r"training\.augment: crop and cutout must be at most a side of the images, 28 x 28"
    ):
        augmented(tiny, crop=29)
    model = {"name": "deep-linear", "width": 10}
    with pytest.raises(ConfigError, match=r"training\.augment: data 'linear-map' has no images; leave it out"):
        tiny(data="linear-map", model=model, training={"steps": 10, "augment": {"flip": True}})
