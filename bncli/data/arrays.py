"""Arrays of anybody's: what a file of them holds, whether it can be learned from, and how it is cut into parts."""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.lib import format as npy

from bncli.data import DataRow, data_folder
from bncli.errors import DataError

Array: TypeAlias = np.ndarray[Any, Any]
PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
INPUTS, TARGETS = ("x", "images", "inputs"), ("y", "labels", "targets")  # Keras, MedMNIST and others
COLOURS = (1, 3, 4)  # channels of an image, where its axes do not say
HELD_OUT = 10  # of how many examples one is for a part that is missing
EXPECTED = "expected x_train, y_train, x_test, y_test, or train_images, train_labels and so on"


@dataclass(frozen=True)
class Header:
    """What the head of an array in a file says."""

    name: str
    shape: tuple[int, ...]
    dtype: Any
    ordered: str = "C"  # or "F"
    offset: int | None = None  # in the file, where the numbers lie as they are; None: packed

    @property
    def size(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * int(self.dtype.itemsize)


@dataclass(frozen=True)
class ArrayFacts:
    """What data are: how many examples of what shape, and where which part lies."""

    examples: Mapping[str, int]
    shape: tuple[int, ...]
    classes: int  # 0: numbers
    targets: int
    channels_last: bool
    names: Mapping[str, tuple[str, str]]  # part -> its inputs and its targets; missing parts are cut from train

    def fill(self, row: DataRow, checksum: str) -> DataRow:
        """The row with these facts."""
        return replace(
            row, examples=self.examples, shape=self.shape, classes=self.classes, targets=self.targets,
            loss="cross_entropy" if self.classes else "squared_error", checksum=checksum,
        )  # fmt: skip


def locate(path: str) -> Path:
    """A file or folder at its path, or of its name in the folder of `--data-dir`, as on another machine.

    Raises:
        DataError: if there is none.
    """
    folder = data_folder()
    for place in (Path(path), *([folder / Path(path).name] if folder else [])):
        if place.exists():
            return place
    raise DataError(f"{path}: there is no such file or folder")


Stamp: TypeAlias = tuple[int, int]


def stamp(path: Path) -> Stamp:
    """By which a file that was changed is known: its size and time."""
    if not path.is_file():
        raise DataError(f"{path}: expected a file")
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=64)
def checksum_of(path: Path, at: Stamp) -> str:
    """SHA-256 of a file as it is `at` a stamp."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_npz(row: DataRow, options: Mapping[str, Any]) -> DataRow:
    """What an .npz file is as data.

    Raises:
        DataError: if it cannot be learned from.
    """
    path = locate(options["file"])
    at = stamp(path)
    facts = npz_facts(path, at, numbers=options["numbers"], channels=options["channels"])
    return facts.fill(row, options["checksum"] or checksum_of(path, at))


def read_headers(path: Path) -> dict[str, Header]:
    """The arrays in an .npz file, by name.

    Raises:
        DataError: if it is none, or holds Python objects.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as packed, path.open("rb") as raw:
            for member in packed.infolist():
                name = member.filename.removesuffix(".npy")
                if name == member.filename:
                    continue
                with packed.open(member) as file:
                    version = npy.read_magic(file)
                    read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, fortran, dtype = read(file)
                    offset = None
                    if member.compress_type == zipfile.ZIP_STORED:
                        raw.seek(member.header_offset + 26)  # of the lengths of what follows the 30 bytes of the head
                        offset = (
                            member.header_offset + 30 + sum(np.frombuffer(raw.read(4), "<u2").tolist()) + file.tell()
                        )
                found[name] = Header(name, shape, dtype, "F" if fortran else "C", offset)
    except Exception as error:  # whatever a foreign file raises
        raise DataError(
            f"{path}: cannot be read as an .npz file ({_in_words(error)}); write it anew by numpy.savez"
        ) from None
    for name, header in found.items():
        if header.dtype.hasobject:
            raise DataError(
                f"{path}: {name} holds Python objects, which are never unpickled; save arrays of numbers of one shape"
            )
    return found


def read_array(path: Path, header: Header, *, mapped: bool = False) -> Array:
    """One array of an .npz file; `mapped` leaves it in the file where it lies there unpacked.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        if mapped and header.offset is not None:
            order: Any = header.ordered
            return np.memmap(path, header.dtype, "c", header.offset, header.shape, order)
        with np.load(path, allow_pickle=False) as arrays:
            found: Array = arrays[header.name]
            return found
    except Exception as error:  # whatever a foreign file raises
        raise DataError(
            f"{path}: {header.name} cannot be read ({_in_words(error)}); write it anew by numpy.savez"
        ) from None


@lru_cache(maxsize=64)
def npz_facts(path: Path, at: Stamp, *, numbers: bool, channels: str) -> ArrayFacts:
    """What an .npz file holds, by its headers and labels.

    Raises:
        DataError: for the first thing that keeps it from being learned from, with a way out.
    """
    headers = read_headers(path)
    names = {part: found for part in PARTS if (found := _named(path, headers, part))}
    if "train" not in names:
        bare = _pick(path, headers, INPUTS), _pick(path, headers, TARGETS)
        if not all(bare):
            got = ", ".join(sorted(headers)) or "none"
            raise DataError(f"{path}: no training data; {EXPECTED}, got {got}")
        names = {"train": bare}  # a file of one part
    for x, y in names.values():
        _check_lengths(path, headers[x], headers[y])
    shape, last = _shape_of(path, headers, [x for x, _ in names.values()], channels)
    examples = sizes({part: headers[y].shape[0] for part, (_, y) in names.items()})
    if min(examples.values()) < 1:
        raise DataError(f"{path}: too few examples for training, validation and test: {examples}")
    labels = {y: read_array(path, headers[y]) for _, y in names.values()}
    if numbers:
        return ArrayFacts(examples, shape, 0, _count_targets(path, labels), last, names)
    return ArrayFacts(examples, shape, _count_classes(path, labels), 1, last, names)


def _pick(path: Path, headers: Mapping[str, Header], names: tuple[str, ...], part: str = "") -> str:
    """The one array of such a name and part, "x_train" or "train_x"; "" if there is none."""
    wanted = {name for each in names for name in ((f"{each}_{part}", f"{part}_{each}") if part else (each,))}
    found = [name for name in headers if name.lower() in wanted]
    if len(found) > 1:
        raise DataError(f"{path}: {' and '.join(found)} could both be it; keep one of them")
    return found[0] if found else ""


def _named(path: Path, headers: Mapping[str, Header], part: str) -> tuple[str, str] | None:
    for name in PARTS[part]:
        x, y = _pick(path, headers, INPUTS, name), _pick(path, headers, TARGETS, name)
        if bool(x) != bool(y):
            raise DataError(f"{path}: {x or y} has no {'targets' if x else 'inputs'} beside it; {EXPECTED}")
        if x:
            return x, y
    return None


def _check_lengths(path: Path, x: Header, y: Header) -> None:
    for each in (x, y):
        if not each.shape:
            raise DataError(f"{path}: {each.name} is a single number; expected one entry for each example")
        if each.dtype.kind not in "buif":
            raise DataError(
                f"{path}: {each.name}: expected numbers, got {each.dtype}; save it as uint8, int64 or float32"
            )
    if x.shape[0] != y.shape[0]:
        raise DataError(
            f"{path}: {x.name} has {x.shape[0]:,} examples and {y.name} {y.shape[0]:,}; give one target each"
        )


def _shape_of(
    path: Path, headers: Mapping[str, Header], names: list[str], channels: str
) -> tuple[tuple[int, ...], bool]:
    """The shape of an example, channels first; whether they are stored last."""
    first = headers[names[0]]
    for name in names[1:]:
        if headers[name].shape[1:] != first.shape[1:] or headers[name].dtype != first.dtype:
            raise DataError(
                f"{path}: {name}: an example is {_words(headers[name])}, and {_words(first)} in {first.name}; give all"
                " parts one shape and type"
            )
    shape = first.shape[1:]
    if not 1 <= len(shape) <= 3 or 0 in shape:
        raise DataError(
            f"{path}: {first.name}: expected (examples, numbers), (examples, height, width), or images with channels,"
            f" got shape {first.shape}; reshape it"
        )
    if len(shape) < 3:
        return shape if len(shape) == 1 else (1, *shape), False
    ends = shape[2] in COLOURS, shape[0] in COLOURS
    if channels == "auto" and ends[0] == ends[1]:
        raise DataError(
            f"{path}: {first.name}: cannot tell which axis of {first.shape} has the channels; say data.channels: first"
            " or last"
        )
    last = channels == "last" or (channels == "auto" and ends[0])
    return (shape[2], *shape[:2]) if last else shape, last


def _words(header: Header) -> str:
    return f"{header.dtype} of shape {header.shape[1:]}"


def _count_targets(path: Path, labels: Mapping[str, Array]) -> int:
    widths = {name: 1 if y.ndim == 1 else y.shape[1] if y.ndim == 2 else 0 for name, y in labels.items()}
    for name, y in labels.items():
        if widths[name] != max(widths.values()) or not widths[name]:
            raise DataError(f"{path}: {name}: expected (examples,) or (examples, numbers) in all parts, got {y.shape}")
        check_finite(path, name, y)
    return max(widths.values())


def _count_classes(path: Path, labels: Mapping[str, Array]) -> int:
    """How many classes there are.

    Raises:
        DataError: if the labels are not 0 to K - 1 for K classes, at least two.
    """
    for name, y in labels.items():
        if y.ndim > 2 or (y.ndim == 2 and y.shape[1] != 1):
            raise DataError(
                f"{path}: {name}: expected one whole number for each example, got shape {y.shape}; if it marks the"
                " class by a 1, numpy.argmax(y, 1) gives it"
            )
        if y.dtype.kind == "f":
            raise DataError(
                f"{path}: {name}: labels must be whole numbers, got {y.dtype}; convert them by .astype('int64'), or say"
                " data.numbers: true if they are no classes"
            )
    known = np.unique(np.concatenate([np.unique(y).astype(np.int64) for y in labels.values()]))
    if len(known) < 2:
        raise DataError(f"{path}: all labels are {known[0]}; expected two classes or more")
    if known[0] != 0 or known[-1] != len(known) - 1:
        name = next(name for name, y in labels.items() if y.min() < 0 or y.max() >= len(known))
        raise DataError(
            f"{path}: {name}: labels must be 0 to {len(known) - 1} for {len(known)} classes, got"
            f" {labels[name].min()} to {labels[name].max()}; numpy.unique(y, return_inverse=True)[1] numbers them so"
        )
    return len(known)


def check_finite(path: Path, name: str, x: Array) -> None:
    """Read through numbers for one that is none.

    Raises:
        DataError: with how many, and the first example that has one.
    """
    if x.dtype.kind != "f":
        return
    rows = max(1, 2**22 // max(1, x[:1].size))
    bad = 0
    first = None
    for start in range(0, len(x), rows):
        wrong = ~np.isfinite(x[start : start + rows]).reshape(len(x[start : start + rows]), -1)
        if count := int(wrong.sum()):
            bad += count
            first = start + int(wrong.any(1).argmax()) if first is None else first
    if bad:
        raise DataError(
            f"{path}: {name}: {bad:,} of {x.size:,} numbers are NaN or infinite, the first in example {first};"
            " remove or replace them"
        )


def sizes(found: Mapping[str, int]) -> dict[str, int]:
    """Examples of every part, given those of the parts that there are: a missing one is a tenth of training's."""
    held_out = found["train"] // HELD_OUT
    missing = sum(part not in found for part in PARTS)
    known = {part: found.get(part, held_out) for part in PARTS}
    return {**known, "train": found["train"] - missing * held_out}


def split_off(
    parts: Mapping[str, tuple[Any, Any]], held_out: int | None = None
) -> dict[str, tuple[Any, Any, Array | None]]:
    """All three parts as (inputs, targets, rows of the inputs or None for all): what is missing is drawn by seed 0.

    Args:
        parts: train (inputs (N, ...), targets (N,)), and those of validation and test that there are.
        held_out: examples of a missing part; None: a tenth of training's.
    """
    x, y = parts["train"]
    held_out = len(y) // HELD_OUT if held_out is None else held_out
    missing = [part for part in PARTS if part not in parts]
    rows = {}
    drawn = np.random.RandomState(0).permutation(len(y))  # whose numbers are promised never to change
    for i, part in enumerate(missing):
        rows[part] = np.sort(drawn[i * held_out : (i + 1) * held_out])
    if missing:
        rows["train"] = np.sort(drawn[len(missing) * held_out :])
    return {part: (x, y[rows[part]], rows[part]) if part in rows else (*parts[part], None) for part in PARTS}


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]
