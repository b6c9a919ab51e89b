"""Batches of a few classes: which examples they hold, how likely each is, and that nothing else moves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bncli.config import Study
from bncli.config.reading import read_study
from bncli.data.splits import Split
from bncli.engine.batches import Batches
from bncli.engine.train import train
from bncli.errors import ConfigError, DataError
from bncli.models.unit import generator
from bncli.plan import Job, runs_of

Tiny = Callable[..., Study]
COUNTS = (30, 12, 6, 0, 4)  # of each class: one is larger than the others together, one has none


def split(counts: tuple[int, ...] = COUNTS) -> Split:
    """Example n holds the number n; classes are mixed."""
    classes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    classes = classes[torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))]
    return Split(torch.arange(float(len(classes)))[:, None], classes)


def batches(few: int | None, size: int = 8, seed: int = 0, counts: tuple[int, ...] = COUNTS) -> Batches:
    return Batches(split(counts), size, [seed], (), classes=few)


@pytest.mark.parametrize("few", [1, 2, 3])
def test_a_batch_holds_different_examples_of_so_many_classes(few: int) -> None:
    counts, found = (20, 8, 9, 11), []
    for x, y in batches(few, counts=counts).next(200):
        assert len(x.unique()) == 8
        assert y.equal(split(counts).targets[x[:, 0].long()])
        found.append(tuple(y.unique().tolist()))
    assert max(map(len, found)) == few
    assert len(set(found)) > 3  # not the same ones each time


@pytest.mark.parametrize("few", [2, 3, 4])
def test_every_example_is_drawn_as_often_however_many_its_class_has(few: int) -> None:
    drawn = torch.cat([x[:, 0] for x, _ in batches(few, size=4).next(8_000)]).long().bincount(minlength=52)
    chance = 4 / 52
    deviation = (8_000 * chance * (1 - chance)) ** 0.5
    assert (drawn - 8_000 * chance).abs().max() < 4 * deviation


def test_every_place_in_a_batch_is_as_likely_for_an_example() -> None:
    drawn = torch.stack([y for _, y in batches(2, size=4).next(8_000)])
    shares = (drawn == 0).double().mean(0)  # of the largest class at each place
    assert shares.sub(30 / 52).abs().max() < 4 * (0.25 / 8_000) ** 0.5


def test_batches_of_all_classes_hold_any_examples() -> None:
    assert max(len(y.unique()) for _, y in batches(4).next(50)) == 4


def test_the_classes_follow_from_the_seed() -> None:
    first, again, other = ([y.tolist() for _, y in batches(2, seed=seed).next(9)] for seed in (3, 3, 4))
    assert first == again != other


def test_lanes_are_drawn_as_runs_alone_and_go_on_where_they_were() -> None:
    together = Batches(split(), 8, [0, 1], (2,), classes=2)
    alone = [batches(2, seed=seed) for seed in (0, 1)]
    for (both, _), *each in zip(together.next(7), *(one.next(7) for one in alone), strict=True):
        assert both.equal(torch.stack([x for x, _ in each]))
    resumed = batches(2, seed=1)
    resumed.restore(alone[1].state())
    for (x, _), (other, _) in zip(alone[1].next(9), resumed.next(9), strict=True):
        assert x.equal(other)


def test_precise_statistics_are_of_such_batches_too() -> None:
    assert all(len(split().targets[x[:, 0].long()].unique()) <= 2 for x in batches(2).fixed(20))


def test_without_it_an_epoch_is_one_shuffle_of_all_examples() -> None:
    order = torch.randperm(52, generator=generator(5, "batches"))[:48].view(6, 8)
    for (x, _), expected in zip(batches(None, seed=5).next(6), order, strict=True):
        assert x[:, 0].long().equal(expected)


@pytest.mark.parametrize(
    ("few", "size", "why"),
    [
        (5, 8, "training.batches.classes_per_batch: must be <= 4 classes that have training examples, got 5"),
        (2, 12, "training.batches.classes_per_batch: 2 of the classes have 10 training examples together, fewer than"
         " training.batch_size 12; use more classes or a smaller batch"),
    ],
)  # fmt: skip
def test_classes_with_too_few_examples_are_refused(few: int, size: int, why: str) -> None:
    with pytest.raises(DataError) as error:
        batches(few, size=size)
    assert str(error.value) == why


FEW = {"steps": 60, "batch_size": 40, "lr": 0.5, "batches": {"classes_per_batch": 2}}


def test_a_study_trains_on_them_in_lanes_as_one_by_one_and_has_ids_of_its_own(tiny: Tiny) -> None:
    plain, few = (runs_of(tiny(training=how), "cpu") for how in ({**FEW, "batches": {}}, FEW))
    assert "batches" not in plain[0].spec()["training"]
    assert few[0].spec()["training"]["batches"] == {"classes_per_batch": 2}
    lanes = train(Job(tuple(run for run in few if run.variant == "batch")))
    for found in lanes:
        run = next(run for run in few if run.id == found.info.id)
        (alone,) = train(Job((replace(run, engine="plain"),)))
        assert found.curve("loss")[1] == pytest.approx(alone.curve("loss")[1], rel=1e-4)
    (mixed, *_) = train(Job(tuple(run for run in plain if run.variant == "batch")))
    assert mixed.curve("loss")[1][-1] < lanes[0].curve("loss")[1][-1]  # its running statistics are of mixed batches


def test_a_study_without_the_key_is_the_one_it_was(tiny: Tiny) -> None:
    before, after = tiny(), tiny(training={**tiny().training.model_dump(mode="json"), "batches": {}})
    assert before.model_dump(mode="json") == after.model_dump(mode="json")
    assert "batches" not in before.model_dump(mode="json")["training"]


def test_a_variant_has_batches_of_its_own_and_they_can_be_swept(tiny: Tiny) -> None:
    study = tiny(variants={"none": "none", "few": {"norm": "none", "training": {"batches": FEW["batches"]}}})
    assert [study.training_of(name).batches.classes_per_batch for name in study.variants] == [None, 2]
    swept = tiny(sweep={"training.batches.classes_per_batch": [None, 2, 5]})
    assert [run.training.batches.classes_per_batch for run in runs_of(swept, "cpu")[::6]] == [None, 2, 5]


PRESET = """data: {data}
model: {model}
training:
  steps: 10
  batches: {{classes_per_batch: {few}}}
variants: {{none: none}}
reference: none
target: null
measures: [final_loss]
seeds: 2
"""


@pytest.mark.parametrize(
    ("data", "model", "few", "why"),
    [
        ("mnist", "mlp", 0, "must be >= 1, got 0"),
        ("mnist", "mlp", 11, "must be <= 10 classes of data 'mnist', got 11"),
        ("linear-map", "{name: deep-linear, width: 10}", 2, "data 'linear-map' has no classes; leave it out"),
        ("python-docs", "transformer", 2, "data 'python-docs' has no class for each example; leave it out"),
    ],
)
def test_what_does_not_fit_the_data_is_said_with_its_line(
    tmp_path: Path, data: str, model: str, few: int, why: str
) -> None:
    (tmp_path / "study.yaml").write_text(PRESET.format(data=data, model=model, few=few))
    with pytest.raises(ConfigError) as error:
        read_study(tmp_path / "study.yaml")
    assert str(error.value).endswith(f"study.yaml:5: training.batches.classes_per_batch: {why}")


def test_a_run_whose_data_have_too_few_of_a_class_fails_with_that_line(tmp_path: Path) -> None:
    from bncli import compare

    x, y = np.random.default_rng(0).normal(size=(60, 4)).astype("float32"), np.repeat([0, 1, 2], [50, 6, 4])
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    given: dict[str, Any] = {"steps": 10, "batch_size": 20, "batches": {"classes_per_batch": 2}}
    with pytest.raises(DataError, match=r"2 of the classes have \d+ training examples together"):
        compare(
            {"data": {"name": "npz", "file": str(tmp_path / "own.npz")}, "training": given, "seeds": 2,
             "variants": {"none": "none"}, "reference": "none", "evaluation": {"every": 5}},
            store=tmp_path, jobs=1,
        )  # fmt: skip
