"""MNIST and the sets that lie as it does, in four IDX files: anybody's copy, plain or packed, checked before use."""

import lzma
import struct
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bncli.data import data_folder
from bncli.data.arrays import split_off
from bncli.data.files import DataFile, Say, fetch, read_file
from bncli.data.splits import Split, Splits, splits_of

VALIDATION = 5_000  # the last of the training file
SIZES = {  # of the unpacked files, bytes
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}
DIGESTS = {  # of the unpacked files, in that order; of KMNIST those of the .gz are published
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion-mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    "kmnist": (
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
}
PACKED = (  # SHA-256 of the .gz files of MNIST that bncli ships: faster to take than an MD5 of what is in them
    "71524e2cd1ad2968737f7f2f2ff69cbfc32df8ccddff51593f7cb2d4e0eb5b64",
    "fe03b8bd7915f70bf5aa08be480aa413fbd85afcaa58b35d230d335f284fd88e",
    "5634745efa576a17e7d4cf5cd9d09123c75e6538e5114267c2d156edaf519341",
    "ae18e77e031ccde52407f794d123116439864147d33ac992975f85dd4dc42af6",
)
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "kmnist": "KMNIST"}
LAYOUTS = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw", "kmnist": "KMNIST/raw"}  # torchvision's
SERVERS = {
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "kmnist": "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
}


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


def fetch_fashion(say: Say) -> None:
    """Download the files of Fashion-MNIST that are not here."""
    fetch(files_of("fashion-mnist"), say)


def fetch_kmnist(say: Say) -> None:
    """Download the files of KMNIST that are not here."""
    fetch(files_of("kmnist"), say)


def files_of(data: str) -> Iterator[DataFile]:
    """Training images, their labels, test images, their labels."""
    for (name, size), digest, packed in zip(SIZES.items(), DIGESTS[data], PACKED, strict=True):
        address = (f"{SERVERS[data]}{name}.gz",) if data in SERVERS else ()
        digests = ("", digest) if data == "kmnist" else (digest, packed if data == "mnist" else "")
        yield DataFile(data, TITLES[data], name, size, *digests, (LAYOUTS[data],), address, data == "mnist")


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
