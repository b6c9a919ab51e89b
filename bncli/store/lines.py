"""A run as a line of text with its digest: what a pack consists of."""

import binascii
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from bncli.errors import StoreError
from bncli.files import digest_bytes
from bncli.records import CurveKey, Layout, Packed, RunResult
from bncli.store.arrays import ARRAYS_BYTES
from bncli.store.pack import check_numbers, check_run, pack_records, read_info

VERSION = 1  # of a line
_FLOATS = np.dtype("<f8")
_DIGITS = 64  # of a digest
_decode = json.JSONDecoder().raw_decode  # what `json.loads` calls, which takes twice as long for a short text


class StoredLine(NamedTuple):
    """Where a run is: the bytes of a pack from `start` on, its line `number`, counted from 1."""

    file: Path
    number: int
    start: int
    size_byte: int

    @property
    def place(self) -> Path:
        """As it is named to users."""
        return Path(f"{self.file}:{self.number}")


class OutdatedError(ValueError):
    """A copy is not of what is there."""


def write_line(result: RunResult, stamp: Sequence[int] = ()) -> bytes:
    """A run as a line of a pack; of a copy with the stamp of the folder that it is of, and keys in that one's order.

    Raises:
        StoreError: if its numbers are more than can be read back.
    """
    packed = pack_records(result)
    document = {
        "version": VERSION,
        "made": time.time(),
        **({"stamp": stamp} if stamp else {}),
        "info": vars(result.info),
    }
    values = binascii.b2a_base64(np.asarray(packed.values, _FLOATS).tobytes(), newline=False)
    spec = json.dumps(result.spec, sort_keys=not stamp, separators=(",", ":"), allow_nan=False).encode()  # see `run_id`
    parts = (result.info.id.encode(), spec, _dump(document), _dump_layout(packed.layout), values)
    rest = b"\t".join(parts)
    if len(rest) > ARRAYS_BYTES // 2:
        raise StoreError(
            f"a run's numbers may take {ARRAYS_BYTES // 2:,} bytes, not {len(rest):,}; probe or evaluate less often"
        )
    return b"%s\t%s\n" % (digest_bytes(rest).encode(), rest)


def pack_run(result: RunResult) -> RunResult:
    """The same run with its numbers as an array, which takes a twentieth of the memory."""
    return replace(result, records=pack_records(result))


def read_line(line: StoredLine, raw: bytes, *, whole: bool = False, stamp: Sequence[int] = ()) -> RunResult:
    """The inverse of `write_line`.

    Args:
        line: where it is.
        raw: what it says.
        whole: whether `is_whole` has said so already.
        stamp: of a copy, whose spec was held against its id when the run was stored or read: its folder's by now.

    Raises:
        OutdatedError: if it is a copy of what had another stamp.
        StoreError: if it is newer than this bncli.
        Exception: whatever comes of a line that is damaged, or says what cannot be.
    """
    if not (whole or is_whole(raw)):
        raise ValueError("it is not what was written")
    _, name, spec, text, curves, values = raw[:-1].split(b"\t")
    document = _read_document(text)
    if document["version"] > VERSION:
        raise StoreError(f"{line.place}: version {document['version']}, this bncli reads up to {VERSION}; update bncli")
    if stamp and document.get("stamp") != [*stamp]:
        raise OutdatedError("its folder is another by now")
    layout = _read_layout(curves)
    numbers = np.frombuffer(binascii.a2b_base64(values, strict_mode=True), _FLOATS)
    if len(numbers) != layout.size:
        raise ValueError("it has more numbers than steps, or fewer")
    result = RunResult(_read_spec(spec), read_info(document["info"]), Packed(layout, numbers))
    if name.decode() != result.info.id:
        raise ValueError(f"it is the record of run {result.info.id}")
    if stamp or digest_bytes(spec)[:20] == result.info.id:
        check_numbers(result)
    else:
        check_run(result)
    return result


def read_lines(file: Path, start: int = 0, number: int = 0) -> Iterator[tuple[StoredLine, bytes]]:
    """The lines of a pack from byte `start` on, of which there are `number` before; the last may lack its end.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no file.
    """
    with open_pack(file) as pack:
        pack.seek(start)
        while raw := pack.readline(ARRAYS_BYTES):
            number += 1
            yield StoredLine(file, number, start, len(raw)), raw
            start += len(raw)


def id_of(raw: bytes) -> str:
    """The id of the run in a line; of a damaged one whatever stands there."""
    return raw.split(b"\t", 2)[1].decode(errors="replace") if raw.count(b"\t", 0, 1000) > 1 else ""


def made(raw: bytes) -> float:
    """When the run in a whole line was stored, in seconds since 1970."""
    return float(json.loads(raw.split(b"\t")[3])["made"])


def is_whole(raw: bytes) -> bool:
    """Whether a line is what was written."""
    digest = digest_bytes(memoryview(raw)[_DIGITS + 1 : -1])
    return raw.endswith(b"\n") and raw[: _DIGITS + 1] == b"%s\t" % digest.encode()


def open_pack(file: Path) -> BinaryIO:
    """Open what must be a file: a link is not followed, and a pipe not waited for. Raises as `read_lines`."""
    if file.is_symlink():
        raise ValueError("it is a link, which is not followed")
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    opened = os.fdopen(os.open(file, flags), "rb")
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise ValueError("it is no file")
    return opened


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


@lru_cache(64)
def _dump_layout(layout: Layout) -> bytes:
    return _dump({"keys": layout.keys, "units": layout.units, "steps": layout.steps})


def _read_spec(text: bytes) -> Mapping[str, Any]:
    """A spec; the runs of a study share all of it but the seed."""
    before, key, rest = text.partition(b',"seed":')
    seed, _, after = rest.partition(b",")
    if key and seed.isdigit() and (shared := _read_unseeded(before, after)) and b"%d" % int(seed) == seed:
        return {**shared, "seed": int(seed)}
    found: dict[str, Any] = json.loads(text)
    return found


@lru_cache(2**12)
def _read_unseeded(before: bytes, after: bytes) -> Mapping[str, Any]:
    """A spec without its seed; empty where what was left out is not the seed of the run."""
    found: dict[str, Any] = json.loads(b'%s,"seed":null,%s' % (before, after))
    return {} if b'"seed":' in after or "seed" not in found else found


def _read_document(text: bytes) -> dict[str, Any]:
    """What else is said of a run; runs that were made together share their environment."""
    head, _, environment = text.partition(b',"environment":')
    found: dict[str, Any]
    if environment.endswith(b"}}}"):
        with suppress(ValueError):  # where something comes behind it
            begun = head.decode() + "}}"
            found, end = _decode(begun)
            if end == len(begun):
                found["info"]["environment"] = _read_environment(environment[:-2])
                return found
    found = json.loads(text)
    return found


@lru_cache(256)
def _read_environment(text: bytes) -> Any:
    return json.loads(text)


@lru_cache(256)
def _read_layout(text: bytes) -> Layout:
    """Curves; the runs of a study share them."""
    document = json.loads(text)
    keys = tuple(CurveKey(*key) for key in document["keys"])
    units, steps = tuple(document["units"]), tuple(map(tuple, document["steps"]))
    if not len(keys) == len(units) == len(steps):
        raise ValueError("it has curves without a unit or steps")
    if not all(isinstance(text, str) for key, unit in zip(keys, units, strict=True) for text in (*key[:4], unit)):
        raise ValueError("it has a name that is no text")
    if not all(type(number) is int for number in (*chain(*steps), *(key.index or 0 for key in keys))):
        raise ValueError("it has a step or an index that is no whole number")
    return Layout(keys, units, steps)
