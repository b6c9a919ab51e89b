"""Ways in which files of a store come to harm: cut, flipped, swapped, foreign, or no files at all."""

import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bncli.files import add_digests

FOREIGN = (
    b"", b"\0" * 1000, b"{}", b"[]", b"null", b"true", b"[" * 100_000, b'{"a":' * 100_000, b'{"schema": 1}',
    b'{"schema": 0, "spec": {}, "info": {}}', b'{"schema": -1}', b'{"schema": false}', b'{"schema": null, "digest": 1}',
    b'{"schema": 2, "spec": {}, "info": {}, "files": {"../../etc": "1"}}', b'{"schema": 1e999}', b'{"seconds": NaN}',
    b'{"schema": ' + b"9" * 5000 + b"}", b'{"a": "\\ud800"}', b"\xff\xfe{}", b"PK\x03\x04", b"\x93NUMPY\x01\0", b"\x89PNG\r\n",
    b"\x1f\x8b\x08 gz", b"<html></html>", b"question: is it yaml?\n",
)  # fmt: skip
INVALID = (None, True, False, -1, 0, 1.5, 1e300, "", "x", [], [None], {}, {"a": None})
Random = random.Random


def cut(file: Path, rng: Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])


def flip(file: Path, rng: Random) -> None:
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def lengthen(file: Path, rng: Random) -> None:
    file.write_bytes(file.read_bytes() + rng.randbytes(rng.randrange(1, 1000)))


def overwrite(file: Path, rng: Random) -> None:
    file.write_bytes(rng.choice(FOREIGN))


def garble(file: Path, rng: Random) -> None:
    file.write_bytes(rng.randbytes(rng.randrange(5000)))


def swap(file: Path, rng: Random) -> None:
    """Give it the content of another file of the store."""
    store = next(folder for folder in file.parents if folder.name == "store")
    files = [path for path in store.rglob("*") if path.is_file() and not path.is_symlink()]
    others = [path for path in files if path.read_bytes() != file.read_bytes()]
    file.write_bytes(rng.choice(sorted(others)).read_bytes())


def replace(file: Path, rng: Random) -> None:
    """Put something in its place that is no file."""
    file.unlink()
    kind = rng.choice(["nothing", "folder", "pipe", "zero", "elsewhere", "dangling", "loop"])
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind != "nothing":
        targets = {"zero": "/dev/zero", "elsewhere": "/etc/passwd", "dangling": "nowhere", "loop": file.name}
        file.symlink_to(targets[kind])


def spoil_a_field(file: Path, rng: Random) -> None:
    """Say something else in one place of a document."""
    text = file.read_bytes()
    try:
        document: Any = json.loads(text)
        keys = sorted(document)
    except (ValueError, TypeError):
        return flip(file, rng)
    part = document
    key = rng.choice(keys)
    while isinstance(part[key], dict) and part[key] and rng.random() < 0.8:
        part = part[key]
        key = rng.choice(sorted(part))
    part[key] = rng.choice([value for value in INVALID if repr(value) != repr(part[key])])
    file.write_text(json.dumps(document))
    return None


ANYWHERE: tuple[Callable[[Path, Random], None], ...] = (
    cut, flip, lengthen, overwrite, garble, swap, replace, spoil_a_field,
)  # fmt: skip


def arrays_of(file: Path) -> dict[str, Any]:
    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


def rewrite_arrays(place: Path, rng: Random) -> None:
    """Columns that no run has, in a good archive under the right digests."""
    arrays = arrays_of(place / "curves.npz")
    name, count = rng.choice(sorted(arrays)), len(arrays["step"])
    kind = rng.choice(["shorter", "gone", "type", "shape", "nan", "steps", "rows", "accuracy", "twice"])
    if kind == "shorter":
        arrays[name] = arrays[name][:-1]
    elif kind == "gone":
        del arrays[name]
    elif kind == "type":
        arrays[name] = np.zeros(count, dtype=np.complex64)
    elif kind == "shape":
        arrays[name] = arrays[name].reshape(1, -1)
    elif kind == "nan":
        arrays["value"][arrays["metric"] == "loss"] = rng.choice([np.nan, np.inf, -np.inf])
    elif kind == "steps":
        arrays["step"] = arrays["step"] + rng.choice([-1, 1, 10**12])
    elif kind == "rows":
        arrays = {key: column[: count // 2] for key, column in arrays.items()}
    elif kind == "accuracy":
        arrays["value"][arrays["metric"] == "accuracy"] = rng.choice([-0.1, 1.1, 1e9])
    else:
        arrays = {key: np.concatenate([column, column]) for key, column in arrays.items()}
    np.savez(place / "curves.npz", **arrays)
    sign(place)


def sign(place: Path) -> None:
    """Give a run's folder the digests of what it holds by now."""
    file = place / "record.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in document.items() if key not in ("digest", "files")}))
    add_digests(place)


def spoil_a_signed_field(place: Path, rng: Random) -> None:
    """A record that says what cannot be, under the right digest."""
    file = place / "record.json"
    document = json.loads(file.read_text())
    info = document["info"]
    section, key, values = rng.choice([
        (info, "status", ["failed", "timed out", None, 3]), (info, "step", [-1, 10**9, "4", None, True, 1]),
        (info, "seconds", [None, [], {"training": None}, {"training": "1"}, {"training": True}, {"training": -5}]),
        (info, "parameters", [-1, 0.5, None]), (info, "samples_per_second", [None, "fast", [1], True]),
        (info, "fallbacks", [None, "none", [1]]), (info, "environment", [None, [], "here"]), (info, "id", [None, "a", 1]),
        (info, "unknown", [1]), (info, "reason", [None, 1]), (document, "info", [None, [], {}, "x"]),
        (document, "spec", [None, [], {}, "x"]), (document, "schema", [0, -1, False, True, None, "2", 1.0]),
        (document["spec"], "seed", [77, None]), (document["spec"]["training"], "lr", [0.123]),
    ])  # fmt: skip
    section[key] = rng.choice(values)
    file.write_text(json.dumps(document))
    sign(place)


def bomb(place: Path, rng: Random) -> None:
    """An archive whose header promises far more than there is, or that unpacks to far more than it holds."""
    file = place / "curves.npz"
    if rng.random() < 0.5:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**13,)})
        with zipfile.ZipFile(file, "w") as archive:
            for name in ("metric", "step", "value"):
                archive.writestr(f"{name}.npy", head.getvalue())
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("metric.npy", bytes(5_000_000))
    sign(place)


def take_the_place(place: Path, rng: Random) -> None:
    """Put something in a run's place that is no run."""
    kind = rng.choice(["empty", "hidden", "curves only", "file", "link", "pipe", "another"])
    if kind == "curves only":
        (place / "record.json").unlink()
        return
    if kind == "another":
        other = next(
            path for path in sorted(place.parent.iterdir()) if path != place and (path / "record.json").is_file()
        )
        shutil.rmtree(place)
        shutil.copytree(other, place)
        return
    elsewhere = place.parents[2] / f"elsewhere-{place.name}"
    place.rename(elsewhere)
    if kind == "link":
        place.symlink_to(elsewhere)
    elif kind == "file":
        place.write_text("x")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
        if kind == "hidden":
            (place / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


IN_A_RUN: tuple[Callable[[Path, Random], None], ...] = (rewrite_arrays, spoil_a_signed_field, bomb, take_the_place)
