"""MNIST from the four IDX files: shipped, or anybody's copy, plain or packed, checked before use."""

import gzip
import hashlib
import lzma
import struct
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bncli.data import data_folder
from bncli.data.splits import Split, Splits
from bncli.errors import DataError

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
VALIDATION = 5_000  # the last of the training file
OPENERS: dict[str, Callable[[Path], bytes]] = {
    "": lambda path: path.read_bytes(),
    ".gz": lambda path: gzip.decompress(path.read_bytes()),
    ".xz": lambda path: lzma.decompress(path.read_bytes()),
}


def load(*, binarize: int | None, standardize: bool, device: str) -> Splits:
    """Load MNIST's 55,000 training, 5,000 validation and 10,000 test images as bytes on `device`.

    Inputs become pixel / 255, or 0 and 1 by `binarize`; `standardize` makes them mean 0 and variance 1 over all
    pixels of the training images.

    Raises:
        DataError: if a file is missing, unreadable or not the published bytes.
    """
    images, labels, test_images, test_labels = (_idx(name, _find(name)) for name in MD5)
    images, test_images = images.view(-1, 784), test_images.view(-1, 784)
    labels, test_labels = labels.long(), test_labels.long()
    top = 255.0
    if binarize is not None:
        images, test_images, top = (images > binarize).byte(), (test_images > binarize).byte(), 1.0
    cut = len(images) - VALIDATION
    scale, shift = 1 / top, 0.0
    if standardize:
        mean, deviation = _moments(images[:cut])
        scale, shift = 1 / deviation, -mean / deviation

    def split(x: Tensor, y: Tensor) -> Split:
        return Split(x.to(device), y.to(device), scale, shift)

    return Splits(split(images[:cut], labels[:cut]), split(images[cut:], labels[cut:]), split(test_images, test_labels))


def _moments(pixels: Tensor) -> tuple[float, float]:
    counts = torch.bincount(pixels.reshape(-1), minlength=256).double()
    values = torch.arange(256, dtype=torch.float64)
    mean = (counts @ values / counts.sum()).item()
    return mean, (counts @ (values - mean).square() / counts.sum()).sqrt().item()


@cache
def _idx(name: str, path: Path) -> Tensor:
    """One IDX file as a byte tensor; kept, because every job of a worker reads it."""
    try:
        raw = OPENERS[path.suffix](path)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(
            f"{path}: cannot be unpacked ({error}); delete it or point --data-dir to a whole copy"
        ) from None
    found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if found != MD5[name]:
        raise DataError(f"{path}: not MNIST's {name}: MD5 of the unpacked bytes is {found}, expected {MD5[name]}")
    dimensions = raw[3]
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).copy()).view(shape)


def _find(name: str) -> Path:
    place = data_folder() or Path(str(resources.files("bncli.data"))) / "files"
    for suffix in OPENERS:
        if (path := place / f"{name}{suffix}").is_file():
            return path
    raise DataError(
        f"{place}: no {name} (or .gz, .xz) there; leave out --data-dir and BNCLI_DATA to use the copy that bncli ships"
    )
