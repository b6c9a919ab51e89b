"""Image files in folders and data sets of Hugging Face: looked at once, decoded once into a file of bytes."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from bncli.data import DataRow
from bncli.data.arrays import PARTS, Array, ArrayFacts, locate, sizes
from bncli.errors import DataError
from bncli.files import beside, cache_folder, write_atomically

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
GREY, DEEP = ("1", "L", "LA"), ("I", "F")  # modes of Pillow; the second are of more than 8 bits


@dataclass(frozen=True)
class ImageSet:
    """Images as they lie somewhere: what they are, and how the bytes of each are had."""

    place: str  # for messages
    parts: Mapping[str, Sequence[tuple[str, int]]]  # part -> (name, label) of each example
    classes: int
    read: Callable[[str], bytes]
    key: str  # of this state of them, by names, sizes and times


@dataclass(frozen=True)
class Survey:
    """What looking at every image tells."""

    checksum: str  # SHA-256 of names and contents
    height: int
    width: int
    coloured: bool
    other: tuple[str, str] | None = None  # two images of different sizes


def describe_images(row: DataRow, options: Mapping[str, Any]) -> DataRow:
    """What a folder of images is as data.

    Raises:
        DataError: if it cannot be learned from.
    """
    try:
        images = open_folder(locate(options["folder"]))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    facts, checksum = facts_of(images, options["size"], options["channels"])
    return facts.fill(row, options["checksum"] or checksum)


def facts_of(images: ImageSet, size: tuple[int, int] | None, channels: int | None) -> tuple[ArrayFacts, str]:
    """What these images are as data, and their checksum.

    Raises:
        DataError: if one cannot be read, or they differ in size and `size` is None.
    """
    found = _survey(images)
    if found.other and not size:
        raise DataError(f"{images.place}: {' and '.join(found.other)}; give data.size: [HEIGHT, WIDTH] to resize all")
    channels = channels or (3 if found.coloured else 1)
    shape = (channels, *(size or (found.height, found.width)))
    examples = sizes({part: len(files) for part, files in images.parts.items()})
    if min(examples.values()) < 1:
        raise DataError(f"{images.place}: too few images for training, validation and test: {examples}")
    return ArrayFacts(examples, shape, images.classes, 1, False, {}), found.checksum


def decode(images: ImageSet, facts: ArrayFacts, checksum: str) -> dict[str, tuple[Array, Array]]:
    """Every part as (bytes (N, channels, height, width), labels (N,)), the images mapped from a file in the cache.

    Raises:
        DataError: if one cannot be decoded.
    """
    names = [name for part in images.parts.values() for name, _ in part]
    pixels = _decoded(images, names, facts.shape, checksum)
    found, first = {}, 0
    for part, files in images.parts.items():
        labels = np.array([label for _, label in files])
        found[part] = pixels[first : first + len(files)], labels
        first += len(files)
    return found


def open_folder(folder: Path) -> ImageSet:
    """A folder train/CLASS/*.png with validation/ and test/ if there are any, or one of the classes alone.

    Raises:
        DataError: if it is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of images, one for each class: train/CLASS/*.png")
    names = {part: next((n for n in known if (folder / n).is_dir()), "") for part, known in PARTS.items()}
    places = {part: folder / name for part, name in names.items() if name} if names["train"] else {"train": folder}
    classes = sorted(each.name for each in _visible(places["train"]) if each.is_dir())
    if len(classes) < 2:
        got = f"only {classes[0]}" if classes else "none"
        raise DataError(f"{places['train']}: expected two folders or more, one for each class, got {got}")
    parts: dict[str, list[tuple[str, int]]] = {}
    stamps: list[Any] = []
    for part, place in places.items():
        if wrong := {each.name for each in _visible(place) if each.is_dir()} - set(classes):
            raise DataError(f"{place}: {min(wrong)} is no class of {places['train']} ({', '.join(classes)})")
        parts[part] = [(f, label) for label, name in enumerate(classes) for f in _files(folder, place / name, stamps)]
        missing = [
            name for label, name in enumerate(classes) if part == "train" and label not in {n for _, n in parts[part]}
        ]
        if missing or not parts[part]:
            where = place / missing[0] if missing else place
            raise DataError(f"{where}: no image in it ({', '.join(sorted(SUFFIXES))}); put some there or remove it")
    key = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()
    return ImageSet(str(folder), parts, len(classes), lambda name: (folder / name).read_bytes(), key)


def _visible(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if not each.name.startswith("."))


def _files(root: Path, folder: Path, stamps: list[Any]) -> Iterator[str]:
    """Names of the images below a class's folder, relative to the root; adds what tells a changed one."""
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = [Path(here) / n for n in names if not n.startswith(".") and Path(n).suffix.lower() in SUFFIXES]
        found += [path for path in images if path.is_file()]
    for path in sorted(found):
        name, about = path.relative_to(root).as_posix(), path.stat()
        stamps.append((name, about.st_size, about.st_mtime_ns))
        yield name


def _survey(images: ImageSet) -> Survey:
    """Look at every image, or recall what was seen when they were the same."""
    if images.key not in _SEEN:
        place = _cached("images", f"{images.key}.json")
        with suppress(OSError, ValueError, TypeError):
            if place:
                told = json.loads(place.read_text())
                _SEEN[images.key] = Survey(**{**told, "other": told["other"] and tuple(told["other"])})
        if images.key not in _SEEN:
            _SEEN[images.key] = _look(images)
            with suppress(OSError):
                if place:
                    write_atomically(place, json.dumps(asdict(_SEEN[images.key])), durable=False)
    return _SEEN[images.key]


_SEEN: dict[str, Survey] = {}  # by key


def _look(images: ImageSet) -> Survey:
    whole, first, other, coloured = hashlib.sha256(), None, None, False
    for name in sorted(name for part in images.parts.values() for name, _ in part):
        content = _read(images, name)
        whole.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        width, height, mode = _opened(images.place, name, content, lambda image: (*image.size, image.mode))
        if mode.startswith(DEEP):
            raise DataError(f"{images.place}: {name}: expected 8 bits a channel, got mode {mode}; convert it")
        coloured = coloured or mode not in GREY
        first = first or (name, height, width)
        if other is None and first[1:] != (height, width):
            other = f"{first[0]} is {first[1]} x {first[2]}", f"{name} {height} x {width} pixels"
    assert first is not None  # there are images
    return Survey(whole.hexdigest(), first[1], first[2], coloured, other)


def _decoded(images: ImageSet, names: Sequence[str], shape: tuple[int, ...], checksum: str) -> Array:
    """All images as one array of bytes, in the cache if that can be written, else in memory."""
    place = _cached("images", f"{checksum[:32]}-{'x'.join(map(str, shape))}.npy")
    if place is None:
        pixels: Array = np.empty((len(names), *shape), np.uint8)
        _fill(pixels, images, names)
        return pixels
    with FileLock(f"{place}.lock"):
        if not place.is_file():
            working = beside(place)
            try:
                written = np.lib.format.open_memmap(working, "w+", np.uint8, (len(names), *shape))
                _fill(written, images, names)
                written.flush()
                working.replace(place)
            except OSError as error:
                raise DataError(f"{place}: cannot be written ({error.strerror}); set XDG_CACHE_HOME") from None
            finally:
                working.unlink(missing_ok=True)
    mapped: Array = np.load(place, mmap_mode="c")
    return mapped


def _fill(pixels: Any, images: ImageSet, names: Sequence[str]) -> None:
    channels, height, width = pixels.shape[1:]

    def bytes_of(image: Any) -> Array:
        image = image.convert("L" if channels == 1 else "RGB")
        image = image if image.size == (width, height) else image.resize((width, height), 2)  # bilinear, antialiased
        return np.asarray(image, np.uint8).reshape(height, width, channels)

    for i, name in enumerate(names):
        pixels[i] = np.moveaxis(_opened(images.place, name, _read(images, name), bytes_of), -1, 0)


def _read(images: ImageSet, name: str) -> bytes:
    try:
        return images.read(name)
    except OSError as error:
        raise DataError(f"{images.place}: {name}: cannot be read ({error.strerror}); remove it or mend it") from None


def _opened(place: str, name: str, content: bytes, see: Callable[[Any], Any]) -> Any:
    """What `see` says of an image.

    Raises:
        DataError: if Pillow is missing, or for whatever an image raises that cannot be read.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError(f"{place}: images need Pillow; pip install 'bncli[images]'") from None
    try:
        with Image.open(io.BytesIO(content)) as image:
            return see(image)
    except Exception as error:  # whatever a foreign file raises
        said = "" if "BytesIO" in str(error) else f" ({error})"
        raise DataError(f"{place}: {name}: cannot be read as an image{said}; remove or replace it") from None


def _cached(kind: str, name: str) -> Path | None:
    """Where a file of the cache lies; None if none can be written there."""
    try:
        folder = cache_folder() / kind
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, DataError):
        return None
    return folder / name if os.access(folder, os.W_OK) else None
