"""Data sets: what there is, and what a study must know of it before anything is loaded."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bncli.catalogue import WHOLE, Catalogue, Option, Pixels, Row, resolve
from bncli.errors import BncliError, ConfigError, DataError, Problem, typed_path, unknown

Seed = Annotated[int, Field(ge=0, le=2**63 - 1), WHOLE]  # eight bytes
Threshold = Annotated[int, Field(ge=0, le=254), WHOLE]


@dataclass(frozen=True)
class DataRow(Row):
    """A data set's row.

    Where options say which data they are, a file or a folder, `describe` names a function of the row and the options
    that gives the row with what those data are: it reads headers and labels and imports no torch. It fills in
    `checksum` too, unless the options bring it along.
    """

    examples: Mapping[str, int] = field(default_factory=dict)  # train, validation, test
    shape: tuple[
        int, ...
    ] = ()  # of one example: (numbers,), (channels, height, width), or (positions, kinds) of tokens
    classes: int = 0  # 0: the target is numbers
    targets: int = 1  # how many numbers
    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy"
    describe: str = field(default="", kw_only=True)  # "module:function"
    tokens: bool = field(
        default=False, kw_only=True
    )  # an example is a window of tokens, of which several are predicted
    fetch: str = field(default="", kw_only=True)  # "module:function" that downloads what is not here, and says so
    ahead: str = field(default="", kw_only=True)  # "module:function" that reads its files while torch is imported
    checksum: str = field(default="", kw_only=True)  # of what the data are, wherever they lie

    @property
    def features(self) -> int:
        """Numbers, or tokens, in one example."""
        return self.shape[0] if self.tokens else prod(self.shape)

    @property
    def outputs(self) -> int:
        """What a network predicts for one example: a number for each class, or the target's numbers."""
        return self.classes or self.targets


class DataCatalogue(Catalogue[DataRow]):
    """Data sets by name; of those that options choose, a study is given the checksum along with the options."""

    def __init__(self, kind: str, rows: Mapping[str, DataRow]) -> None:
        super().__init__(kind, rows)
        self._described: dict[tuple[str, str, str] | None, DataRow] = {}

    def describe(self, name: str, options: Mapping[str, Any]) -> DataRow:
        """The row of a data set with these options, all of it known.

        Raises:
            DataError: if the options name no data, or data that cannot be used.
        """
        row = self[name]
        if not row.describe:
            return row
        key = (row.code, name, json.dumps(options, sort_keys=True)) if options.get("checksum") else None
        if key in self._described:  # the checksum says what they are, and loading holds them against it
            return self._described[key]
        try:
            found: DataRow = resolve(row.describe)(row, options)
        except Exception as error:  # anybody's code
            if isinstance(error, BncliError) or row.origin == "bncli":
                raise
            raise DataError(f"plug-in {row.origin}: data set {name!r}: {type(error).__name__}: {error}") from error
        if key:
            self._described[key] = found
        return found

    def options(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given`, checked, with defaults, absolute paths and the data's checksum filled in.

        Raises:
            ConfigError: with every wrong option, or for what is wrong with the data.
        """
        options, row = super().options(name, given), self[name]
        if not row.describe:
            return options
        for key, option in row.options.items():
            if option.place and not options[key]:
                raise ConfigError(Problem((key,), f"is required: {option.meaning}"))
            if option.place == "path":
                path, folder = typed_path(options[key]).absolute(), data_folder()
                elsewhere = folder / path.name if folder and not path.exists() else path
                options[key] = str(elsewhere if elsewhere.exists() else path)
        try:
            found = self.describe(name, {**options, "checksum": None}).checksum
        except DataError as error:
            raise ConfigError(str(error)) from None
        if "checksum" not in row.options:
            return options
        if options.get("checksum") not in (None, found):
            message = f"these data have the checksum {found}, and not {options['checksum']}; leave it out to use them"
            raise ConfigError(Problem(("checksum",), message))
        return {**options, "checksum": found}

    def fetch(self, name: str, say: Callable[[str], None]) -> None:
        """Download what a data set needs and this machine lacks; `say` takes a line before each file.

        Raises:
            DataError: if it cannot be had.
        """
        if self[name].fetch:
            resolve(self[name].fetch)(say)

    def read_ahead(self, name: str) -> None:
        """Read what a data set needs, if that can be done without torch."""
        if self[name].ahead:
            resolve(self[name].ahead)()


_STANDARDIZE = Option(bool, False, "each channel to mean 0 and variance 1 over the training part")
_DIGITS = {
    "binarize": Option(
        Threshold | None,
        None,
        "1 where a pixel of 0..255 is above this, else 0; null: pixels as they are",
        unit="grey level",
    ),
    "standardize": Option(bool, False, "to mean 0 and variance 1 over the pixels of the training images"),
}
_OF_MNIST: Any = {"examples": {"train": 55_000, "validation": 5_000, "test": 10_000}, "shape": (1, 28, 28)}
_OF_CIFAR: Any = {"examples": {"train": 45_000, "validation": 5_000, "test": 10_000}, "shape": (3, 32, 32)}
_CHECKSUM = {
    "checksum": Option(str | None, None, "SHA-256 of the data; others are refused; null: of those that are there")
}
_IMAGES = {
    "size": Option(
        Annotated[tuple[Pixels, Pixels], Field(strict=False)] | None,
        None,
        "[height, width] to which images are resized; null: all must have one size",
        unit="pixels",
    ),
    "channels": Option(Literal[1, 3] | None, None, "1: grey, 3: red, green, blue, null: as the images are"),
    "standardize": _STANDARDIZE,
}
_WINDOWS = {
    "length": Option(Annotated[int, Field(ge=2, le=8_192), WHOLE], 32, "of a window; none is padded", "characters"),
    "predict": Option(
        Literal["masked", "next"], "masked",
        "what is the target: 15 % of the characters, masked in the input as in BERT, or the one after each",
    ),
    **_CHECKSUM,
}  # fmt: skip

DATASETS = DataCatalogue("data set", {
    "mnist": DataRow(
        "bncli.data.mnist:load", "handwritten digits, 28 x 28, shipped with bncli", _DIGITS, classes=10,
        ahead="bncli.data.idx:read_mnist_ahead", **_OF_MNIST,
    ),
    "fashion-mnist": DataRow(
        "bncli.data.mnist:load_fashion", "clothes, 28 x 28 grey: Xiao et al. 2017; 31 MB, or Debian's package",
        _DIGITS, classes=10, fetch="bncli.data.idx:fetch_fashion", **_OF_MNIST,
    ),
    "kmnist": DataRow(
        "bncli.data.mnist:load_kmnist", "cursive Japanese characters, 28 x 28 grey: Clanuwat et al. 2018; 21 MB",
        _DIGITS, classes=10, fetch="bncli.data.idx:fetch_kmnist", **_OF_MNIST,
    ),
    "digits": DataRow(
        "bncli.data.mnist:load_digits", "handwritten digits, 8 x 8: scikit-learn's, shipped with bncli",
        {"standardize": _STANDARDIZE},
        examples={"train": 1197, "validation": 300, "test": 300}, shape=(1, 8, 8), classes=10,
    ),
    "cifar10": DataRow(
        "bncli.data.cifar:load_10", "photographs of 10 kinds of things, 32 x 32 in colour: Krizhevsky 2009; 170 MB",
        {"standardize": _STANDARDIZE}, classes=10, fetch="bncli.data.cifar:fetch_10", **_OF_CIFAR,
    ),
    "cifar100": DataRow(
        "bncli.data.cifar:load_100", "the same of 100 kinds: Krizhevsky 2009; 169 MB",
        {"standardize": _STANDARDIZE}, classes=100, fetch="bncli.data.cifar:fetch_100", **_OF_CIFAR,
    ),
    "npz": DataRow(
        "bncli.data.own:load_npz", "arrays of your own, x_train, y_train and so on, in a file of numpy.savez",
        {
            "file": Option(str, "", "the .npz file", place="path"),
            "numbers": Option(bool, False, "targets are numbers, fitted by squares, and not classes"),
            "channels": Option(Literal["auto", "first", "last"], "auto", "where images in four axes have them"),
            "standardize": _STANDARDIZE, **_CHECKSUM,
        },
        describe="bncli.data.arrays:describe_npz",
    ),
    "images": DataRow(
        "bncli.data.own:load_images", "image files of your own, in a folder for each class: train/CLASS/*.png",
        {"folder": Option(str, "", "the folder of train, validation, test, or of classes", place="path"), **_IMAGES,
         **_CHECKSUM},
        describe="bncli.data.images:describe_images",
    ),
    "hf": DataRow(
        "bncli.data.own:load_hub", "a data set of images that Hugging Face's `datasets` reads, by name or saved",
        {
            "dataset": Option(str, "", "its name on the hub, or a folder that save_to_disk wrote", place="name"),
            "config": Option(str | None, None, "which of its configurations"),
            "revision": Option(str | None, None, "which commit, branch or tag of it"),
            "image": Option(str | None, None, "column of the images; null: the only one"),
            "label": Option(str | None, None, "column of the classes; null: the only one"),
            **_IMAGES, **_CHECKSUM,
        },
        describe="bncli.data.hub:describe_hub",
    ),
    "text": DataRow(
        "bncli.data.tokens:load_text", "a file of text of your own, by characters; its last tenths are held out",
        {"file": Option(str, "", "the file, in UTF-8", place="path"), **_WINDOWS},
        describe="bncli.data.text:describe_text", tokens=True,
    ),
    "python-docs": DataRow(
        "bncli.data.tokens:load_docs", "what help() says of Python, by characters; each version's a little different",
        _WINDOWS, describe="bncli.data.text:describe_docs", tokens=True,
    ),
    "offset": DataRow(
        "bncli.data.splits:load_offset",
        "standard normal numbers, every target 1: the toy of Ioffe & Szegedy, section 2",
        {"seed": Option(Seed, 0, "draws the numbers; every run sees the same", "seed")},
        examples={"train": 1000, "validation": 1000, "test": 1000}, shape=(1,), loss="squared_error",
    ),
    "linear-map": DataRow(
        "bncli.data.splits:load_linear_map",
        "10 standard normal numbers x, target A x, A Gaussian: Santurkar et al. 2018",
        {"seed": Option(Seed, 0, "draws A and the numbers; every run sees the same", "seed")},
        examples={"train": 1000, "validation": 1000, "test": 1000}, shape=(10,), targets=10, loss="squared_error",
    ),
})  # fmt: skip


def data_part(text: str) -> dict[str, str]:
    """What `--data` says, as a preset has it: a data set's name, FILE.npz, FILE.txt, a folder of images, or hf:NAME.

    Raises:
        ConfigError: if it is none of them.
    """
    path = typed_path(text)
    if text in DATASETS:
        return {"name": text}
    if text.startswith("hf:"):
        return {"name": "hf", "dataset": text.removeprefix("hf:")}
    if path.is_dir():
        saved = (path / "dataset_dict.json").is_file()  # by save_to_disk of Hugging Face's `datasets`
        return {"name": "hf", "dataset": str(path.absolute())} if saved else {"name": "images", "folder": text}
    if path.suffix in (".npz", ".txt"):
        return {"name": {".npz": "npz", ".txt": "text"}[path.suffix], "file": text}
    if path.exists():
        raise ConfigError(
            f"--data {text}: expected a name, FILE.npz, FILE.txt, a folder of images or hf:NAME; save arrays by"
            " numpy.savez(FILE, x_train=..., y_train=...)"
        )
    nowhere = f"; there is no file or folder of that name (looked from {Path.cwd()})" if "/" in text else ""
    raise ConfigError(f"--data: {unknown('data set', text, DATASETS)}{nowhere}")


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
