"""CIFAR-10 and CIFAR-100 from their authors' pickles, which are checked first and read by one that runs no code."""

import io
import pickle
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bncli.data import data_folder
from bncli.data.arrays import Array
from bncli.data.files import DataFile, Say, fetch, lies_here, read_file
from bncli.data.splits import Splits, splits_of
from bncli.errors import DataError

SERVER = "https://www.cs.toronto.edu/~kriz/"
VALIDATION = 5_000  # the last of the training images, as He et al. 2016 keep them
ARCHIVES = {  # SHA-256 and bytes of the archive, its folder
    "cifar10": (
        "cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071,
        "cifar-10-batches-py",
    ),
    "cifar100": (
        "cifar-100-python.tar.gz", "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7", 169_001_437,
        "cifar-100-python",
    ),
}  # fmt: skip
BATCHES = {  # MD5 of the files in it, where they lie unpacked
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    "cifar100": {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
}
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
LABELS = {"cifar10": b"labels", "cifar100": b"fine_labels"}
LARGEST = 200_000_000  # bytes of a batch
KNOWN = {"_reconstruct": "numpy.core.multiarray", "ndarray": "numpy", "dtype": "numpy"}  # what the pickles name


def load_10(*, standardize: bool, device: str) -> Splits:
    """Load CIFAR-10's 45,000 training, 5,000 validation and 10,000 test images; pixels become 0 to 1.

    Raises:
        DataError: if it is not here and cannot be downloaded, or is not what was published.
    """
    return splits_of(_parts("cifar10", data_folder()), (3, 32, 32), standardize=standardize, device=device)


def load_100(*, standardize: bool, device: str) -> Splits:
    """Load CIFAR-100, as `load_10`, with its 100 fine classes."""
    return splits_of(_parts("cifar100", data_folder()), (3, 32, 32), standardize=standardize, device=device)


def fetch_10(say: Say) -> None:
    """Download CIFAR-10 if it is not here."""
    _fetch("cifar10", say)


def fetch_100(say: Say) -> None:
    """Download CIFAR-100 if it is not here."""
    _fetch("cifar100", say)


def _fetch(data: str, say: Say) -> None:
    if not all(lies_here(batch) for batch in batches_of(data)):
        fetch(iter([archive_of(data)]), say)


def archive_of(data: str) -> DataFile:
    """The archive as it is published."""
    name, digest, size, _ = ARCHIVES[data]
    return DataFile(data, TITLES[data], name, size, digest, layouts=("",), addresses=(f"{SERVER}{name}",))


def batches_of(data: str) -> Iterator[DataFile]:
    """The files in it, as they lie unpacked; training's, then the test's."""
    folder = ARCHIVES[data][3]
    for name, digest in BATCHES[data].items():
        yield DataFile(data, TITLES[data], name, LARGEST, digest, layouts=(folder, f"{data}/{folder}"))


@cache
def _parts(data: str, folder: Path | None) -> Any:
    """Parts as `splits_of` takes them; kept, because every job of a worker reads them."""
    if all(lies_here(batch) for batch in batches_of(data)):
        contents = [read_file(batch) for batch in batches_of(data)]
    else:
        contents = _unpack(data, read_file(archive_of(data)))
    *train, (x_test, y_test) = (read_batch(content, LABELS[data], data) for content in contents)
    x, y = np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train])
    cut = len(x) - VALIDATION
    return {
        "train": (x[:cut], y[:cut], None), "validation": (x[cut:], y[cut:], None), "test": (x_test, y_test, None)
    }  # fmt: skip


def _unpack(data: str, archive: bytes) -> list[bytes]:
    """The batches in an archive, whose checksum was right; nothing is written to the disk."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
        found = {Path(member.name).name: member for member in packed if member.isfile()}
        files = [packed.extractfile(found[name]) for name in BATCHES[data]]
        return [file.read() for file in files if file]


def read_batch(content: bytes, labels: bytes, data: str) -> tuple[Array, Array]:
    """Images (N, 3072) as bytes, channel by channel, and labels (N,) of one pickle.

    Raises:
        DataError: if it names anything but arrays, or has no images and labels.
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        x, y = found[b"data"], np.asarray(found[labels], np.int64)
        if x.dtype != np.uint8 or x.shape != (len(y), 3072) or y.ndim != 1:
            raise ValueError(f"it has {x.dtype} of shape {x.shape} and {len(y)} labels")
    except Exception as error:  # whatever a foreign file raises
        raise DataError(f"{TITLES[data]}: not one of its batches ({type(error).__name__}: {error})") from None
    return x, y


class _Unpickler(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, texts and arrays, and refuses everything else by name."""

    def find_class(self, module: str, name: str) -> Any:
        if KNOWN.get(name) == module.replace("numpy._core", "numpy.core"):
            return {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")
