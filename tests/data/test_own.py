"""Data of your own: what is understood, what is refused in one line, and what a run's id says of it."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bncli.config import read_study
from bncli.data import DATASETS, data_part, looking_in, own, splits
from bncli.data.arrays import split_off
from bncli.data.splits import Split, Splits
from bncli.engine.batches import Batches
from bncli.engine.train import train
from bncli.errors import ConfigError, DataError
from bncli.plan import Job, runs_of

Save = Callable[..., str]
N = 60
RNG = np.random.RandomState(3)
X, Y = RNG.rand(N, 5).astype("f4"), np.arange(N) % 3
IMAGES = RNG.randint(0, 256, (N, 6, 5, 3)).astype("u1")
STUDY: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [4]},
    "training": {"steps": 6, "batch_size": 10},
    "evaluation": {"every": 3, "split": "validation"},
    "variants": {"none": "none"},
    "reference": "none",
    "seeds": 2,
}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write arrays into a file, packed or not; its path."""

    def write(packed: bool = False, name: str = "mine.npz", **arrays: Any) -> str:
        (np.savez_compressed if packed else np.savez)(tmp_path / name, **arrays)
        return str(tmp_path / name)

    return write


def opened(file: str, **options: Any) -> Splits:
    loaded: Splits = DATASETS.load("npz")(**DATASETS.options("npz", {"file": file, **options}), device="cpu")
    return loaded


def row(file: str, **options: Any) -> Any:
    return DATASETS.describe("npz", DATASETS.options("npz", {"file": file, **options}))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("x", "shape", "first"),
    [
        (X, (5,), X[0].ravel()),
        (IMAGES[..., 0], (1, 6, 5), IMAGES[0, ..., 0].ravel() / 255),
        (IMAGES, (3, 6, 5), IMAGES[0].transpose(2, 0, 1).ravel() / 255),
        (IMAGES.transpose(0, 3, 1, 2), (3, 6, 5), IMAGES[0].transpose(2, 0, 1).ravel() / 255),
        (np.asfortranarray(X), (5,), X[0]),
        (X.astype(">f8"), (5,), X[0]),
        (X > 0.5, (5,), X[0] > 0.5),
        ((X * 9).astype("u2"), (5,), (X[0] * 9).astype("u2")),
        ((X * 9).astype("i8"), (5,), (X[0] * 9).astype("i8")),
        (X.astype("f2"), (5,), X[0].astype("f2")),
    ],
    ids=["numbers", "grey", "channels last", "channels first", "fortran", "big endian", "bool", "u2", "i8", "half"],
)
def test_arrays_are_understood_as_they_lie(save: Save, packed: bool, x: Any, shape: Any, first: Any) -> None:
    file = save(packed, x_train=x, y_train=Y, x_val=x[:9], y_val=Y[:9], x_test=x[:6], y_test=Y[:6])
    assert (row(file).shape, row(file).classes) == (shape, 3)
    assert row(file).examples == {"train": N, "validation": 9, "test": 6}
    inputs, targets = opened(file).train.slice(0, N)
    np.testing.assert_allclose(inputs[0], np.asarray(first, "f4"), rtol=1e-6)
    assert inputs.dtype == torch.float32
    assert targets.tolist() == Y.tolist()


@pytest.mark.parametrize(
    "names",
    [("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("X_{}", "y_{}"), ("{}_x", "{}_y"), ("inputs_{}", "targets_{}")],
)
def test_names_of_several_habits_are_known(save: Save, names: tuple[str, str]) -> None:
    x, y = names
    file = save(**{x.format("train"): X, y.format("train"): Y[:, None], x.format("val"): X[:7], y.format("val"): Y[:7]})
    assert row(file).examples == {"train": 54, "validation": 7, "test": 6}
    assert row(file).classes == 3


def test_missing_parts_are_drawn_by_seed_0_and_share_no_example(save: Save) -> None:
    x = np.arange(N, dtype="f4")[:, None]
    found = opened(save(x=x, y=Y))
    parts = {name: [int(v) for v in getattr(found, name).slice(0, N)[0]] for name in ("train", "validation", "test")}
    assert sorted(i for part in parts.values() for i in part) == list(range(N))
    assert parts["test"] == sorted(np.random.RandomState(0).permutation(N)[6:12])
    assert [Y[i] for i in parts["test"]] == found.test.targets.tolist()
    given = opened(save(x_train=x, y_train=Y, x_test=x[:5], y_test=Y[:5]))
    assert (len(given.train), len(given.validation), len(given.test)) == (54, 6, 5)


def test_targets_that_are_numbers_are_fitted_by_squares_when_that_is_said(save: Save) -> None:
    file = save(x_train=X, y_train=X[:, :2] * 2)
    found = row(file, numbers=True)
    assert (found.classes, found.targets, found.loss) == (0, 2, "squared_error")
    assert opened(file, numbers=True).train.targets.dtype == torch.float32


def test_standardize_is_by_channel_over_the_training_part(save: Save) -> None:
    x = IMAGES.copy()
    x[..., 2] = 7  # a channel that does not vary is only centred
    found = opened(save(x_train=x, y_train=Y), standardize=True)
    values = found.train.slice(0, 48)[0].view(-1, 3, 30)
    torch.testing.assert_close(values.mean((0, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.std((0, 2), correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    index = torch.tensor([[3, 1], [4, 0]])
    torch.testing.assert_close(found.train.inputs(index)[1, 0], found.train.slice(4, 5)[0][0])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "names": (
        {"a": X, "b": Y},
        "no training data; expected x_train, y_train, x_test, y_test, or train_images, train_labels and so on, got a, b",
    ),
    "nothing": ({}, "and so on, got none"),
    "no labels": ({"x_train": X}, "x_train has no targets beside it; expected x_train, y_train"),
    "twice": ({"x_train": X, "X_train": X, "y_train": Y}, "x_train and X_train could both be it; keep one of them"),
    "lengths": ({"x_train": X, "y_train": Y[:9]}, "x_train has 60 examples and y_train 9; give one target each"),
    "rank 1": (
        {"x_train": X[:, 0], "y_train": Y},
        "x_train: expected (examples, numbers), (examples, height, width), or images with channels, got shape (60,); reshape it",
    ),
    "rank 5": ({"x_train": X.reshape(N, 5, 1, 1, 1), "y_train": Y}, "got shape (60, 5, 1, 1, 1); reshape it"),
    "single": (
        {"x_train": np.float32(3), "y_train": Y},
        "x_train is a single number; expected one entry for each example",
    ),
    "which axis": (
        {"x_train": np.zeros((N, 3, 4, 3), "f4"), "y_train": Y},
        "x_train: cannot tell which axis of (60, 3, 4, 3) has the channels; say data.channels: first or last",
    ),
    "shapes": (
        {"x_train": X, "y_train": Y, "x_test": X[:, :3], "y_test": Y},
        "x_test: an example is float32 of shape (3,), and float32 of shape (5,) in x_train; give all parts one shape and type",
    ),
    "types": (
        {"x_train": X, "y_train": Y, "x_test": X.astype("u1"), "y_test": Y},
        "x_test: an example is uint8 of shape (5,), and float32",
    ),
    "texts": (
        {"x_train": X, "y_train": Y.astype("U3")},
        "y_train: expected numbers, got <U3; save it as uint8, int64 or float32",
    ),
    "complex": ({"x_train": X.astype(complex), "y_train": Y}, "x_train: expected numbers, got complex128; save it as"),
    "objects": (
        {"x_train": np.array([1, "a"], object), "y_train": Y},
        "x_train holds Python objects, which are never unpickled; save arrays of numbers of one shape",
    ),
    "float labels": (
        {"x_train": X, "y_train": Y / 1},
        "y_train: labels must be whole numbers, got float64; convert them by .astype('int64'), or say data.numbers: true if they are no classes",
    ),
    "one-hot": (
        {"x_train": X, "y_train": np.eye(3)[Y].astype("i8")},
        "y_train: expected one whole number for each example, got shape (60, 3); if it marks the class by a 1, numpy.argmax(y, 1) gives it",
    ),
    "from 1": (
        {"x_train": X, "y_train": Y + 1},
        "y_train: labels must be 0 to 2 for 3 classes, got 1 to 3; numpy.unique(y, return_inverse=True)[1] numbers them so",
    ),
    "negative": ({"x_train": X, "y_train": Y - 1}, "y_train: labels must be 0 to 2 for 3 classes, got -1 to 1; numpy"),
    "gap": (
        {"x_train": X, "y_train": Y * 2, "x_test": X, "y_test": Y[:, None]},
        "y_train: labels must be 0 to 3 for 4 classes, got 0 to 4",
    ),
    "one class": ({"x_train": X, "y_train": Y * 0}, "all labels are 0; expected two classes or more"),
    "too few": (
        {"x_train": X[:8], "y_train": Y[:8]},
        "too few examples for training, validation and test: {'train': 8, 'validation': 0, 'test': 0}",
    ),
    "empty": (
        {"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]},
        "too few examples for training, validation and test",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_in_arrays_is_one_line_before_anything_is_trained(save: Save, case: str) -> None:
    arrays, said = WRONG[case]
    file = save(**arrays)
    with pytest.raises(ConfigError) as error:
        DATASETS.options("npz", {"file": file})
    assert str(error.value).startswith(f"{file}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_counted_and_placed(save: Save, bad: float) -> None:
    x = X.copy()
    x[17, 2] = x[30, 0] = bad
    file = save(x_train=x, y_train=Y)
    with pytest.raises(DataError) as error:
        opened(file)
    assert str(error.value) == (
        f"{file}: x_train: 2 of 300 numbers are NaN or infinite, the first in example 17; remove or replace them"
    )


@pytest.mark.parametrize("cut", ["text", "truncated", "flipped"])
def test_a_file_that_is_no_npz_is_one_line(save: Save, cut: str) -> None:
    file = Path(save(packed=True, x_train=X, y_train=Y))
    whole = bytearray(file.read_bytes())
    whole[200] ^= 255
    file.write_bytes({"text": b"hello", "truncated": whole[:300], "flipped": bytes(whole)}[cut])
    with pytest.raises((ConfigError, DataError)) as error:
        opened(str(file))
    assert "; write it anew by numpy.savez" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_that_is_no_file_is_one_line(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "no.npz", "there is no such file or folder"), (tmp_path, "expected a file")):
        with pytest.raises(ConfigError, match=f"^{path}: {said}$"):
            DATASETS.options("npz", {"file": str(path)})
    with pytest.raises(ConfigError, match=r"^file: is required: the \.npz file$"):
        DATASETS.options("npz", {})


def test_a_wrong_file_is_said_with_its_line_beside_all_other_mistakes(save: Save, tmp_path: Path) -> None:
    save(x_train=X, y_train=Y + 1)
    preset = tmp_path / "study.yaml"
    preset.write_text(
        "data: {name: npz, file: mine.npz}\nvariants: {none: none}\nreference: none\nseeds: 2\nsteps: 3\n"
    )
    with pytest.raises(ConfigError) as error:
        read_study(preset)
    assert str(error.value).splitlines()[0].startswith(f"study.yaml:1: data: {tmp_path / 'mine.npz'}: y_train: labels")
    assert "study.yaml:5: steps: no such key" in str(error.value)


def test_a_path_in_a_preset_is_relative_to_the_presets_file(save: Save, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "presets").mkdir()
    save(x_train=X, y_train=Y)
    preset = tmp_path / "presets" / "study.yaml"
    rest = "training: {batch_size: 10}\nvariants: {none: none}\nreference: none\nseeds: 2\n"
    preset.write_text("data: {name: npz, file: ../mine.npz}\n" + rest)
    monkeypatch.chdir("/")
    study = read_study(preset)
    assert Path(study.data.options["file"]).resolve() == tmp_path / "mine.npz"
    monkeypatch.chdir(tmp_path)
    assert read_study(preset, data="mine.npz").data.options == {
        **study.data.options,
        "file": str(tmp_path / "mine.npz"),
    }


def test_the_id_says_what_the_data_are_and_not_where_they_lie(save: Save, tmp_path: Path) -> None:
    def ids(name: str, **arrays: Any) -> list[str]:
        file = save(name=name, **arrays)
        return [run.id for run in runs_of(read_study({**STUDY, "data": {"name": "npz", "file": file}}), "cpu")]

    once, elsewhere = ids("a.npz", x_train=X, y_train=Y), ids("b.npz", x_train=X, y_train=Y)
    assert once == elsewhere
    assert not set(once) & set(ids("a.npz", x_train=X + 1, y_train=Y))
    run = runs_of(read_study({**STUDY, "data": {"name": "npz", "file": str(tmp_path / "b.npz")}}), "cpu")[0]
    assert "file" not in run.spec()["data"]
    assert len(run.spec()["data"]["checksum"]) == 64


def test_a_preset_can_say_which_data_it_means(save: Save) -> None:
    file = save(x_train=X, y_train=Y)
    known = row(file).checksum
    assert DATASETS.options("npz", {"file": file, "checksum": known})["checksum"] == known
    with pytest.raises(
        ConfigError, match=f"^checksum: these data have the checksum {known}, and not {'0' * 64}; leave"
    ):
        DATASETS.options("npz", {"file": file, "checksum": "0" * 64})


def test_data_that_change_after_planning_are_not_trained_on(save: Save) -> None:
    file = save(x_train=X, y_train=Y)
    runs = runs_of(read_study({**STUDY, "data": {"name": "npz", "file": file}}), "cpu")
    save(x_train=X + 1, y_train=Y)
    with pytest.raises(DataError, match="was planned with; leave the data alone while a study runs"):
        train(Job(tuple(runs)))


def test_files_can_be_swept(save: Save) -> None:
    files = [save(name="a.npz", x_train=X, y_train=Y), save(name="b.npz", x_train=X[:, :3], y_train=Y)]
    study = read_study({**STUDY, "data": {"name": "npz", "file": files[0]}, "sweep": {"data.file": files}})
    runs = runs_of(study, "cpu")
    assert [DATASETS.describe(run.data.name, run.data.options).shape for run in runs] == [(5,)] * 2 + [(3,)] * 2
    assert len({run.id for run in runs}) == 4


def test_a_file_that_is_a_pipe_or_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ConfigError, match=r"pipe\.npz: expected a file$"):
        DATASETS.options("npz", {"file": str(tmp_path / "pipe.npz")})


def test_a_worker_finds_the_file_by_its_name_in_the_data_folder(save: Save, tmp_path: Path) -> None:
    file = Path(save(x_train=X, y_train=Y))
    options = DATASETS.options("npz", {"file": str(file)})
    (tmp_path / "there").mkdir()
    file.rename(tmp_path / "there" / file.name)
    with looking_in(tmp_path / "there"):
        assert DATASETS.describe("npz", options).classes == 3
        assert len(DATASETS.load("npz")(**options, device="cpu").train) == 48
        assert DATASETS.options("npz", {"file": str(file)})["file"] == str(tmp_path / "there" / file.name)


def test_what_data_says_is_a_name_a_file_a_folder_or_of_the_hub(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").touch()
    (tmp_path / "a.csv").touch()
    assert data_part("cifar10") == {"name": "cifar10"}
    assert data_part("x/a.npz") == {"name": "npz", "file": "x/a.npz"}
    assert data_part("photos") == {"name": "images", "folder": "photos"}
    assert data_part("hf:ylecun/mnist") == {"name": "hf", "dataset": "ylecun/mnist"}
    assert data_part("saved") == {"name": "hf", "dataset": str(tmp_path / "saved")}
    for text, said in (
        ("cifr10", r"^--data: no data set is called 'cifr10'; did you mean 'cifar10'\?"),
        ("x/photos", "there is no file or folder of that name"),
        (
            "a.csv",
            r"^--data a\.csv: expected a name, FILE\.npz, FILE\.txt, a folder of images or hf:NAME; save arrays by",
        ),
    ):
        with pytest.raises(ConfigError, match=said):
            data_part(text)


def both_ways(save: Save, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Splits, Splits]:
    file = save(x_train=IMAGES, y_train=Y)
    held = opened(file, **options)
    monkeypatch.setattr(own, "memory_for_data", lambda device: 100)
    monkeypatch.setattr(splits, "memory_for_data", lambda device: 100)
    return held, opened(file, **options)


@pytest.mark.parametrize("standardize", [False, True])
def test_what_is_too_large_is_streamed_and_gives_the_same_batches(
    save: Save, monkeypatch: pytest.MonkeyPatch, standardize: bool
) -> None:
    held, streamed = both_ways(save, monkeypatch, standardize=standardize)
    assert (held.train.streamed, streamed.train.streamed) == (False, True)
    assert isinstance(streamed.train.stored.untyped_storage().nbytes(), int)
    one, other = (Batches(each.train, 10, [0, 1], (2,)) for each in (held, streamed))
    for (x, y), (other_x, other_y) in zip(one.next(13), other.next(13), strict=True):
        assert x.equal(other_x)
        assert y.equal(other_y)
    next(iter(other.next(5)))  # somebody who looks at one batch only
    other.restore(one.state())
    assert next(iter(one.next(1)))[0].equal(next(iter(other.next(1)))[0])
    for part in ("train", "validation", "test"):
        for a, b in zip(getattr(held, part).slice(1, 5), getattr(streamed, part).slice(1, 5), strict=True):
            assert a.equal(b)


def test_a_streamed_study_ends_with_the_same_numbers(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(x_train=IMAGES, y_train=Y)
    job = Job(tuple(runs_of(read_study({**STUDY, "data": {"name": "npz", "file": file}}), "cpu")))
    held = train(job)
    own._arrays.cache_clear()
    monkeypatch.setattr(own, "memory_for_data", lambda device: 100)
    monkeypatch.setattr(splits, "memory_for_data", lambda device: 100)
    assert [run.records for run in train(job)] == [run.records for run in held]


def test_packed_arrays_that_are_too_large_are_refused_with_a_way_out(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(packed=True, x_train=IMAGES, y_train=Y)
    monkeypatch.setattr(own, "memory_for_data", lambda device: 100)
    with pytest.raises(DataError, match="x_train has 5,400 bytes, too many for this machine's memory; save"):
        opened(file)


def test_digits_are_all_there_once() -> None:
    found: Splits = DATASETS.load("digits")(standardize=False, device="cpu")
    assert [len(part) for part in (found.train, found.validation, found.test)] == [1197, 300, 300]
    targets = torch.cat([found.train.targets, found.validation.targets, found.test.targets])
    assert torch.bincount(targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    pixels = torch.cat([part.slice(0, len(part))[0] for part in (found.train, found.validation, found.test)])
    assert pixels.max() == 1
    assert float(pixels.double().sum() * 16) == 561_718


def test_splitting_off_takes_nothing_where_nothing_is_missing() -> None:
    parts = {"train": (X, Y), "validation": (X, Y), "test": (X, Y)}
    assert all(rows is None for _, _, rows in split_off(parts).values())


def test_floats_that_are_stored_are_never_changed_by_looking_at_them() -> None:
    stored = torch.ones(4, 3)
    split = Split(stored, torch.zeros(4).long(), scale=torch.full((3,), 2.0), shift=1.0)
    assert split.slice(0, 2)[0].unique().tolist() == [3.0]
    assert replace(split, scale=1.0, shift=0.0).slice(0, 2)[0].unique().tolist() == [1.0]
    assert stored.unique().tolist() == [1.0]
