"""MNIST and the sets that lie as it does, and scikit-learn's digits, as tensors."""

import lzma
import struct
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bncli.data import data_folder
from bncli.data.arrays import split_off
from bncli.data.files import DataFile, read_file
from bncli.data.idx import files_of
from bncli.data.splits import Split, Splits, splits_of

VALIDATION = 5_000  # the last of the training file


def load(*, binarize: int | None, standardize: bool, device: str) -> Splits:
    """Load MNIST's 55,000 training, 5,000 validation and 10,000 test images as bytes on `device`.

    Inputs become pixel / 255, or 0 and 1 by `binarize`; `standardize` makes them mean 0 and variance 1 over all
    pixels of the training images.

    Raises:
        DataError: if a file is missing, unreadable or not the published bytes.
    """
    return _load("mnist", binarize, standardize, device)


def load_fashion(*, binarize: int | None, standardize: bool, device: str) -> Splits:
    """Load Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747), as `load` does MNIST."""
    return _load("fashion-mnist", binarize, standardize, device)


def load_kmnist(*, binarize: int | None, standardize: bool, device: str) -> Splits:
    """Load KMNIST (Clanuwat et al. 2018, arXiv:1812.01718), as `load` does MNIST."""
    return _load("kmnist", binarize, standardize, device)


def load_digits(*, standardize: bool, device: str) -> Splits:
    """Load the 1,797 images of 8 x 8 that scikit-learn ships (Alpaydin & Kaynak 1998), pixels 0..16 as 0..1.

    The source has no parts: 300 are for validation and 300 for testing, drawn by seed 0.
    """
    packed = resources.files("bncli.data").joinpath("files", "digits.xz").read_bytes()
    rows = np.frombuffer(lzma.decompress(packed), np.uint8).reshape(-1, 65)
    parts = split_off({"train": (rows[:, :64], rows[:, 64])}, 300)
    return splits_of(parts, (1, 8, 8), standardize=standardize, device=device, top=16)


def _load(data: str, binarize: int | None, standardize: bool, device: str) -> Splits:
    images, labels, test_images, test_labels = (_idx(file, data_folder()) for file in files_of(data))
    images, test_images = images.view(-1, 784), test_images.view(-1, 784)
    labels, test_labels = labels.long(), test_labels.long()
    top = 255.0
    if binarize is not None:
        images, test_images = ((x > binarize).view(torch.uint8) for x in (images, test_images))
        top = 1.0
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
def _idx(file: DataFile, folder: Path | None) -> Tensor:
    """One IDX file as a byte tensor; kept, because every job of a worker reads it."""
    raw = read_file(file)
    dimensions = raw[3]
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).copy()).view(shape)
