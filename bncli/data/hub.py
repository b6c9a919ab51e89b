"""Data sets that Hugging Face's `datasets` reads: by name, or saved in a folder; never with code of theirs."""

import io
import os
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from bncli.data import DataRow
from bncli.data.arrays import PARTS
from bncli.data.images import ImageSet, facts_of
from bncli.errors import DataError

FIRST_WITHOUT_CODE = 4  # versions of `datasets` before run scripts that come with data


def describe_hub(row: DataRow, options: Mapping[str, Any]) -> DataRow:
    """What a data set of Hugging Face is as data; this downloads it.

    Raises:
        DataError: if it cannot be had or learned from.
    """
    images = open_hub(*(options[key] for key in ("dataset", "config", "revision", "image", "label")))
    facts, checksum = facts_of(images, options["size"], options["channels"])
    return facts.fill(row, options["checksum"] or checksum)


@lru_cache(maxsize=4)
def open_hub(dataset: str, config: str | None, revision: str | None, image: str | None, label: str | None) -> ImageSet:
    """The images and labels of a data set.

    Raises:
        DataError: if `datasets` is missing or finds none, or it has no images with classes.
    """
    place = f"hf:{dataset}"
    parts = _open(place, dataset, config, revision)
    pictures = _column(place, parts["train"].features, "Image", image, "image")
    classes = _column(place, parts["train"].features, "ClassLabel", label, "label")
    listed: dict[str, list[tuple[str, int]]] = {}
    rows = {}
    for part, found in parts.items():
        known, labels = found.features.get(classes), found[classes]
        if getattr(known, "num_classes", 0) < 2 or min(labels) < 0:
            raise DataError(f"{place}: {part}: expected a class of two or more for each image in column {classes!r}")
        listed[part] = [(f"{part}/{i}", int(each)) for i, each in enumerate(labels)]
        with warnings.catch_warnings(action="ignore"):
            rows[part] = found.cast_column(pictures, type(found.features[pictures])(decode=False))
    count = parts["train"].features[classes].num_classes

    def read(name: str) -> bytes:
        part, _, row = name.partition("/")
        return _bytes_of(rows[part][int(row)][pictures])

    key = "-".join(["hub", *(found._fingerprint for found in parts.values()), pictures, classes])
    return ImageSet(place, listed, count, read, key)


def _open(place: str, dataset: str, config: str | None, revision: str | None) -> dict[str, Any]:
    """Parts by bncli's names."""
    try:
        import datasets
    except ImportError:
        raise DataError(f"{place}: needs Hugging Face's `datasets`; pip install 'bncli[hf]'") from None
    if int(datasets.__version__.partition(".")[0]) < FIRST_WITHOUT_CODE:
        raise DataError(
            f"{place}: datasets {datasets.__version__} can run code that comes with data; pip install"
            f" 'datasets>={FIRST_WITHOUT_CODE}'"
        )
    folder = Path(dataset)
    offline = os.environ.get("BNCLI_OFFLINE", "0") not in ("", "0")
    if offline and not folder.is_dir() and not datasets.config.HF_HUB_OFFLINE:
        raise DataError(
            f"{place}: BNCLI_OFFLINE forbids to ask the hub; set HF_HUB_OFFLINE=1 too, to use what its cache has"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of a library's own doings
            if folder.is_dir():
                found = datasets.load_from_disk(str(folder))
            else:
                found = datasets.load_dataset(dataset, config, revision=revision)
    except Exception as error:  # anybody's data, and a network
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{place}: cannot be loaded ({said})") from None
    given = dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}
    parts = {part: next((given[name] for name in names if name in given), None) for part, names in PARTS.items()}
    if parts["train"] is None:
        raise DataError(f"{place}: expected a split called train, got {', '.join(given)}")
    return {part: each for part, each in parts.items() if each is not None}


def _column(place: str, features: Mapping[str, Any], kind: str, given: str | None, option: str) -> str:
    """The column of a kind: the one that is named, or the only one."""
    known = [name for name, feature in features.items() if type(feature).__name__ == kind]
    if given in known or (given is None and len(known) == 1):
        return given or known[0]
    got = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
    raise DataError(f"{place}: data.{option}: expected one column of kind {kind}, got {got}; name it")


def _bytes_of(stored: Mapping[str, Any]) -> bytes:
    content = stored["bytes"]
    return content if content is not None else io.FileIO(stored["path"]).readall()
