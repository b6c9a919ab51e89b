"""Data sets: what there is, and what a study must know of it before anything is loaded."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bncli.catalogue import Catalogue, Option, Row

Threshold = Annotated[int, Field(ge=0, le=254)]


@dataclass(frozen=True)
class DataRow(Row):
    """A data set's row."""

    examples: Mapping[str, int] = field(default_factory=dict)  # train, validation, test
    shape: tuple[int, ...] = ()  # of one example: (numbers,), or (channels, height, width)
    classes: int = 0  # 0: the target is numbers
    targets: int = 1  # how many numbers
    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy"

    @property
    def features(self) -> int:
        """Numbers in one example."""
        return prod(self.shape)

    @property
    def outputs(self) -> int:
        """What a network predicts for one example: a number for each class, or the target's numbers."""
        return self.classes or self.targets


DATASETS: Catalogue[DataRow] = Catalogue("data set", {
    "mnist": DataRow(
        "bncli.data.mnist:load", "handwritten digits, 28 x 28, shipped with bncli",
        {
            "binarize": Option(Threshold | None, None, "1 where a pixel of 0..255 is above this, else 0"),
            "standardize": Option(bool, False, "to mean 0 and variance 1 over the pixels of the training images"),
        },
        examples={"train": 55_000, "validation": 5_000, "test": 10_000}, shape=(1, 28, 28), classes=10,
    ),
    "offset": DataRow(
        "bncli.data.splits:load_offset",
        "standard normal numbers, every target 1: the toy of Ioffe & Szegedy, section 2",
        {"seed": Option(Annotated[int, Field(ge=0)], 0, "draws the numbers; every run sees the same")},
        examples={"train": 1000, "validation": 1000, "test": 1000}, shape=(1,), loss="squared_error",
    ),
    "linear-map": DataRow(
        "bncli.data.splits:load_linear_map",
        "10 standard normal numbers x, target A x, A Gaussian: Santurkar et al. 2018",
        {"seed": Option(Annotated[int, Field(ge=0)], 0, "draws A and the numbers; every run sees the same")},
        examples={"train": 1000, "validation": 1000, "test": 1000}, shape=(10,), targets=10, loss="squared_error",
    ),
})  # fmt: skip

_FOLDER: ContextVar[Path | None] = ContextVar("data_folder", default=None)


@contextmanager
def looking_in(folder: Path | None) -> Iterator[None]:
    """Look for data sets' files in this folder first (`--data-dir`); None is where bncli looks by itself."""
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


def data_folder() -> Path | None:
    """The folder that `looking_in` named."""
    return _FOLDER.get()
