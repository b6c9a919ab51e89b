"""Image files in folders, and Hugging Face's data sets: what is understood, decoded once, and refused in one line."""

import os
from collections.abc import Callable
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
import pytest

from bncli.data import DATASETS, images
from bncli.data.splits import Splits
from bncli.errors import ConfigError, DataError

pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install -e '.[images]'")
RNG = np.random.RandomState(5)
Photos = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bncli"


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Write 4 x 3 images: keywords are folders with how many images each has; the root."""

    def write(size: tuple[int, int] = (4, 3), channels: int = 3, suffix: str = ".png", **folders: int) -> Path:
        for folder, count in folders.items():
            place = tmp_path / "photos" / folder.replace("__", "/")
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = RNG.randint(0, 256, (*size, channels)).astype("u1")
                pillow.fromarray(pixels[..., 0] if channels == 1 else pixels).save(place / f"{i}{suffix}")
        return tmp_path / "photos"

    return write


def options(folder: Path, **more: Any) -> dict[str, Any]:
    return DATASETS.options("images", {"folder": str(folder), **more})


def opened(folder: Path, **more: Any) -> Splits:
    found: Splits = DATASETS.load("images")(**options(folder, **more), device="cpu")
    return found


def test_a_folder_of_each_part_is_read_as_it_lies(photos: Photos) -> None:
    folder = photos(train__cat=6, train__dog=8, val__dog=2, val__cat=1, test__cat=3)
    row, found = DATASETS.describe("images", options(folder)), opened(folder)
    assert (row.shape, row.classes, row.examples) == ((3, 4, 3), 2, {"train": 14, "validation": 3, "test": 3})
    assert found.train.targets.tolist() == [0] * 6 + [1] * 8
    assert found.validation.targets.tolist() == [0, 1, 1]
    third = np.asarray(pillow.open(folder / "train" / "cat" / "2.png"))
    np.testing.assert_allclose(found.train.slice(2, 3)[0][0].view(3, 4, 3), third.transpose(2, 0, 1) / 255, rtol=1e-6)


def test_a_folder_of_classes_alone_is_cut_into_parts(photos: Photos) -> None:
    found = opened(photos(cat=20, dog=20, channels=1))
    assert [len(part) for part in (found.train, found.validation, found.test)] == [32, 4, 4]
    assert found.train.stored.shape == (32, 12)


def test_other_files_are_left_alone(photos: Photos) -> None:
    folder = photos(cat=10, dog=10)
    for name in (".DS_Store", "readme.txt", "cat/Thumbs.db", "cat/.hidden.png"):
        (folder / name).write_text("not an image")
    assert sum(DATASETS.describe("images", options(folder)).examples.values()) == 20


def test_images_of_several_sizes_are_resized_only_when_that_is_said(photos: Photos) -> None:
    photos(cat=10)
    folder = photos(dog=10, size=(8, 6))
    with pytest.raises(ConfigError) as error:
        options(folder)
    assert str(error.value) == (
        f"{folder}: cat/0.png is 4 x 3 and dog/0.png 8 x 6 pixels; give data.size: [HEIGHT, WIDTH] to resize all"
    )
    assert DATASETS.describe("images", options(folder, size=[5, 7])).shape == (3, 5, 7)
    assert opened(folder, size=[5, 7]).train.stored.shape == (16, 105)


def test_one_image_in_colour_makes_all_of_them_so_unless_grey_is_said(photos: Photos) -> None:
    photos(cat=10, channels=1)
    folder = photos(dog=10)
    assert opened(folder).train.stored.shape[1] == 36
    assert opened(folder, channels=1).train.stored.shape[1] == 12


def test_the_checksum_is_of_names_and_contents_wherever_they_lie(photos: Photos, tmp_path: Path) -> None:
    folder = photos(cat=6, dog=6)
    first = options(folder)["checksum"]
    folder = folder.rename(tmp_path / "elsewhere")
    assert options(folder)["checksum"] == first
    (folder / "cat" / "0.png").rename(folder / "dog" / "x.png")
    assert options(folder)["checksum"] != first


def test_images_are_looked_at_and_decoded_once(photos: Photos, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos(cat=10, dog=10)
    before = opened(folder).train.slice(0, 9)[0]
    assert sorted(path.suffix for path in (cache / "images").iterdir()) == [".json", ".lock", ".npy"]
    monkeypatch.setattr(images, "_opened", None)
    monkeypatch.setattr(images, "_SEEN", {})  # another process
    assert opened(folder).train.slice(0, 9)[0].equal(before)


def test_without_a_cache_they_are_decoded_in_memory(photos: Photos, tmp_path: Path) -> None:
    folder = photos(cat=10, dog=10)
    (tmp_path / "cache").write_text("a file")
    assert len(opened(folder).train) == 16


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda f: (f / "cat" / "3.png").write_bytes(b"\x89PNG no"),
            "cat/3.png: cannot be read as an image; remove or replace it",
        ),
        (lambda f: [p.unlink() for p in (f / "dog").iterdir()], "dog: no image in it ("),
        (
            lambda f: [p.unlink() for p in (f / "dog").iterdir()] and (f / "dog").rmdir(),
            "expected two folders or more, one for each class, got only cat",
        ),
        (
            lambda f: pillow.fromarray(np.zeros((4, 3), "u2")).save(f / "cat" / "0.png"),
            "cat/0.png: expected 8 bits a channel, got mode I;16; convert it",
        ),
    ],
    ids=["unreadable", "no images", "one class", "16 bits"],
)
def test_a_mistake_in_a_folder_is_one_line(photos: Photos, spoil: Callable[[Path], object], said: str) -> None:
    folder = photos(cat=10, dog=10)
    spoil(folder)
    with pytest.raises(ConfigError) as error:
        options(folder)
    assert str(error.value).startswith(str(folder))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_folder_and_a_class_that_training_lacks_are_one_line(photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ConfigError, match=r"photos: expected two folders or more, one for each class, got none$"):
        options(tmp_path / "photos")
    folder = photos(train__cat=9, train__dog=9, test__cow=1)
    with pytest.raises(ConfigError, match=r"photos/test: cow is no class of .*photos/train \(cat, dog\)$"):
        options(folder)


def test_a_plan_looks_at_a_folder_once(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(photos(cat=10, dog=10))
    row = DATASETS.describe("images", given)
    monkeypatch.setattr(images, "open_folder", None)
    assert DATASETS.describe("images", given) == row


def test_pipes_and_links_to_folders_are_left_alone(photos: Photos) -> None:
    folder = photos(cat=10, dog=10)
    os.mkfifo(folder / "cat" / "pipe.png")
    (folder / "dog" / "again").symlink_to(folder)
    assert sum(DATASETS.describe("images", options(folder)).examples.values()) == 20


def test_an_image_that_breaks_off_is_found_before_training(photos: Photos) -> None:
    folder = photos(cat=10, dog=10, size=(64, 64))
    content = (folder / "cat" / "3.png").read_bytes()
    (folder / "cat" / "3.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cat/3\.png: cannot be read as an image \(.+\); remove or replace it$"):
        opened(folder)


@pytest.fixture
def hub() -> Any:
    """Hugging Face's library, made to ask nobody."""
    return pytest.importorskip("datasets", reason="datasets is not installed: pip install -e '.[hf]'")


def saved(hub: Any, folder: Path, **more: Any) -> Path:
    pixels = [pillow.fromarray(RNG.randint(0, 256, (4, 3, 3)).astype("u1")) for _ in range(20)]
    features = hub.Features(
        image=hub.Image(), label=hub.ClassLabel(names=["cat", "dog"]), **dict.fromkeys(more, hub.Value("int64"))
    )
    rows = {"image": pixels, "label": [0, 1] * 10, **more}
    whole = hub.Dataset.from_dict(rows, features=features)
    hub.DatasetDict(train=whole, test=whole.select(range(6))).save_to_disk(str(folder))
    return folder


def test_a_saved_data_set_of_hugging_face_is_read_by_name_of_its_folder(hub: Any, tmp_path: Path) -> None:
    folder = saved(hub, tmp_path / "saved")
    given = DATASETS.options("hf", {"dataset": str(folder)})
    row = DATASETS.describe("hf", given)
    assert (row.shape, row.classes, row.examples) == ((3, 4, 3), 2, {"train": 18, "validation": 2, "test": 6})
    found: Splits = DATASETS.load("hf")(**given, device="cpu")
    first = hub.load_from_disk(str(folder))["test"][0]
    np.testing.assert_allclose(
        found.test.slice(0, 1)[0][0].view(3, 4, 3), np.asarray(first["image"]).transpose(2, 0, 1) / 255, rtol=1e-6
    )
    assert found.test.targets.tolist() == [0, 1] * 3


def test_columns_that_are_no_images_with_classes_are_one_line(hub: Any, tmp_path: Path) -> None:
    folder = saved(hub, tmp_path / "saved", price=list(range(20)))
    assert DATASETS.options("hf", {"dataset": str(folder)})["checksum"]
    with pytest.raises(ConfigError) as error:
        DATASETS.options("hf", {"dataset": str(folder), "label": "price"})
    assert str(error.value) == (
        f"hf:{folder}: data.label: expected one column of kind ClassLabel, got image (Image), label (ClassLabel), price"
        " (Value); name it"
    )


def test_offline_the_hub_is_not_asked(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNCLI_OFFLINE", "1")
    with pytest.raises(
        ConfigError, match=r"^hf:nobody/nothing: BNCLI_OFFLINE forbids to ask the hub; set HF_HUB_OFFLINE"
    ):
        DATASETS.options("hf", {"dataset": "nobody/nothing"})


def test_where_a_library_is_missing_its_extra_is_named(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos(cat=10, dog=10)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"images need Pillow; pip install 'bncli\[images\]'$"):
        options(folder)
    with pytest.raises(ConfigError, match=r"^hf:x: needs Hugging Face's `datasets`; pip install 'bncli\[hf\]'$"):
        DATASETS.options("hf", {"dataset": "x"})


def test_images_that_do_not_fit_the_disk_are_refused_before_any_is_written(
    photos: Photos, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(cat=10, dog=10)
    monkeypatch.setattr("bncli.data.images.disk_usage", lambda path: disk_usage(path)._replace(free=10**9))
    with pytest.raises(DataError) as error:
        opened(folder, size=[8192, 8192])
    assert str(error.value) == (
        f"{cache / 'images'}: 20 images of 3 x 8192 x 8192 bytes need 4.03 GB, and 1 GB are free;"
        " give a smaller data.size, or set XDG_CACHE_HOME"
    )
    assert not list((cache / "images").glob("*.npy"))
