"""Archives of arrays as `numpy.savez` writes them, read within limits: of anybody's files nothing is believed."""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

ARRAYS_BYTES = 2**30  # of a file of arrays, packed and unpacked: three million records
_HEADER_STARTS = 10  # bytes of an array's file before its header: what it is, the version, the header's length
_END = struct.Struct("<4s4H2LH")  # of an archive without a comment (APPNOTE.TXT of PKWARE, 4.3.16)
_ENTRY = struct.Struct("<4s6H3L5H2L")  # of its list of members (4.3.12)
_LOCAL_BYTES = 30  # before a member's name (4.3.7)


class Member(NamedTuple):
    """One array of an archive, still packed."""

    name: str
    method: int
    checksum: int
    size_byte: int  # unpacked
    packed: bytes


def read_arrays(content: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Read an archive that `numpy.savez` wrote; nothing is unpacked before its size is known to be within limits.

    Raises:
        Exception: whatever comes of a file that is none.
    """
    found = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > ARRAYS_BYTES:
            raise ValueError(f"unpacked it has more than the {ARRAYS_BYTES:,} bytes that are read")
        for member in members:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("packed as bncli packs nothing")
            with archive.open(member) as file:
                found[member.filename.removesuffix(".npy")] = _read_array(file.read(member.file_size))
    return found


def _read_array(content: bytes) -> np.ndarray[Any, Any]:
    """One member of such an archive, of numbers or texts, exactly as long as its header says.

    And of truth values: numpy 2.0 stored `allow_pickle=False`, which bncli passed on, as an array of that name.
    """
    start = _HEADER_STARTS + int.from_bytes(content[_HEADER_STARTS - 2 : _HEADER_STARTS], "little")
    shape, kind = _read_header(content[:start])
    if kind.itemsize * math.prod(shape) != len(content) - start:
        raise ValueError("an array is not as long as it says")
    if not kind.itemsize:  # of texts that are all empty
        return np.zeros(shape, kind)
    return np.frombuffer(content, kind, offset=start).reshape(shape)


@lru_cache(256)
def _read_header(content: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type, which the arrays of a study's runs share."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("arrays of another format")
    shape, by_columns, kind = np.lib.format.read_array_header_1_0(file)
    if kind.kind not in "bfiuU" or (by_columns and len(shape) > 1):
        raise ValueError(f"arrays of type {kind}")
    return shape, kind


def list_members(content: bytes) -> Mapping[str, Member]:
    """The arrays of an archive by name, nothing unpacked: in a tenth of the time that `zipfile` takes for eight.

    Raises:
        Exception: whatever comes of a file that is none, or has what numpy does not write.
    """
    end, *_, count, _, start, comment = _END.unpack_from(content, len(content) - _END.size)
    found = dict[str, Member]()
    for _ in range(count):
        sign, _, _, flags, method, _, _, checksum, packed, size, *lengths, _, _, _, at = _ENTRY.unpack_from(
            content, start
        )
        begin = start + _ENTRY.size
        name = content[begin : begin + lengths[0]].decode().removesuffix(".npy")
        start = begin + sum(lengths)
        begin = at + _LOCAL_BYTES + sum(struct.unpack_from("<2H", content, at + _LOCAL_BYTES - 4))
        if sign != b"PK\1\2" or content[at : at + 4] != b"PK\3\4" or flags or name in found:
            raise ValueError("not as numpy writes it")
        found[name] = Member(name, method, checksum, size, content[begin : begin + packed])
    if end != b"PK\5\6" or comment or sum(member.size_byte for member in found.values()) > ARRAYS_BYTES:
        raise ValueError("not as numpy writes it, or too large")
    return found


def unpack(member: Member) -> np.ndarray[Any, Any]:
    """One array.

    Raises:
        Exception: whatever comes of one that is damaged.
    """
    content = member.packed
    if member.method == zipfile.ZIP_DEFLATED:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.size_byte + 1)
    elif member.method != zipfile.ZIP_STORED:
        raise ValueError("packed as bncli packs nothing")
    if len(content) != member.size_byte or zlib.crc32(content) != member.checksum:
        raise ValueError("it is not what was written")
    return _read_array(content)
