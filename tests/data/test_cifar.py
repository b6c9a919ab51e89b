"""CIFAR from pickles that run no code, and Fashion-MNIST as Debian packs it; both made up where they are not here."""

import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bncli
from bncli.data import DATASETS, cifar, files, looking_in
from bncli.data.cifar import archive_of, batches_of, read_batch
from bncli.errors import DataError
from tests.data.made_server import Manner, serving

RNG = np.random.RandomState(0)


def batch(count: int, labels: str = "labels") -> bytes:
    """A pickle as Python 2 and the numpy of then wrote it."""
    data = {labels: (np.arange(count) % 10).tolist(), "data": RNG.randint(0, 256, (count, 3072)).astype("u1")}
    text = pickle.dumps({key.encode(): value for key, value in data.items()}, protocol=3)
    return text.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A small CIFAR-10 with checksums of its own: its batches, and the archive of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(files, "SYSTEM", tmp_path / "system")
    monkeypatch.chdir(tmp_path)
    contents = {name: batch(1_200) for name in cifar.BATCHES["cifar10"]}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in {**contents, "batches.meta": b"?"}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    whole = packed.getvalue()
    digests = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setitem(cifar.BATCHES, "cifar10", digests)
    known = ("cifar-10-python.tar.gz", hashlib.sha256(whole).hexdigest(), len(whole), "cifar-10-batches-py")
    monkeypatch.setitem(cifar.ARCHIVES, "cifar10", known)
    cifar._parts.cache_clear()
    yield {**contents, "archive": whole}
    cifar._parts.cache_clear()


def load() -> Any:
    cifar._parts.cache_clear()
    return DATASETS.load("cifar10")(standardize=False, device="cpu")


def test_the_archive_is_downloaded_once_and_read_in_memory(
    made: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manner, said = Manner(made["archive"]), list[str]()
    with serving(manner) as address:
        monkeypatch.setattr(cifar, "SERVER", f"{address}/")
        DATASETS.fetch("cifar10", said.append)
        DATASETS.fetch("cifar10", said.append)
    assert len(manner.requests) == len(said) == 1
    found = load()
    assert [len(part) for part in (found.train, found.validation, found.test)] == [1_000, 5_000, 1_200]
    x, y = read_batch(made["data_batch_1"], b"labels", "cifar10")
    np.testing.assert_allclose(found.train.slice(0, 9)[0], x[:9] / 255, rtol=1e-6)
    assert found.train.targets[:9].tolist() == y[:9].tolist()
    names = sorted(path.name for path in (tmp_path / "cache" / "bncli" / "cifar10").iterdir())
    assert [name for name in names if not name.endswith(".lock")] == ["cifar-10-python.tar.gz"]


@pytest.mark.parametrize("place", ["data", "mine", "mine/cifar10", "cache/bncli/cifar10"])
def test_batches_are_read_where_torchvision_unpacks_them(made: dict[str, bytes], tmp_path: Path, place: str) -> None:
    folder = tmp_path / place / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for batch_file in batches_of("cifar10"):
        (folder / batch_file.name).write_bytes(made[batch_file.name])
    with looking_in(tmp_path / "mine" if place.startswith("mine") else None):
        DATASETS.fetch("cifar10", pytest.fail)
        assert len(load().train) == 1_000
        (folder / "test_batch").write_bytes(batch(1_200))
        with pytest.raises(DataError, match="test_batch: not CIFAR-10's test_batch: MD5 of the unpacked bytes is "):
            load()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": print, b"labels": [1]}),
        b"cos\nsystem\n(S'touch /tmp/never'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"cnumpy\nload\n.",
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": np.zeros((2, 3), "u1"), b"labels": [1, 2]}),
        b"",
    ],
    ids=["builtin", "system", "another of numpy", "load", "list", "shape", "empty"],
)
def test_a_pickle_that_holds_anything_else_runs_nothing_and_is_one_line(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^CIFAR-10: not one of its batches \(") as error:
        read_batch(content, b"labels", "cifar10")
    assert "\n" not in str(error.value)


def test_published_checksums_stand_in_the_tables() -> None:
    assert archive_of("cifar10").digest.startswith("6d958be0")
    assert archive_of("cifar100").digest.startswith("85cd44d0")
    assert archive_of("cifar100").addresses == ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",)


DEBIAN = Path(os.environ.get("DATASETS", files.SYSTEM)) / "fashion-mnist"


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not here")
def test_fashion_mnist_is_read_from_debians_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("BNCLI_OFFLINE", "1")
    monkeypatch.setattr(files, "SYSTEM", DEBIAN.parent)
    found = DATASETS.load("fashion-mnist")(binarize=None, standardize=False, device="cpu")
    assert [len(part) for part in (found.train, found.validation, found.test)] == [55_000, 5_000, 10_000]
    assert found.test.targets.bincount().tolist() == [1_000] * 10
    study = bncli.compare(
        "fashion-mlp", device="cpu", executor="thread", store=tmp_path / "store", seeds=1, variants="none",
        set={"training.steps": 40, "evaluation.every": 40},
    )  # fmt: skip
    assert [run.result.info.status for run in study.runs if run.result] == ["done"]
