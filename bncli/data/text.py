"""Text as data, without torch: what a file, or Python's own documentation, holds, and how it is cut into windows.

A window is `length` characters, full and never padded; no two overlap. The first 80 % of the text are for training,
the next 10 % for validation, the last for the test, so that no part holds a character of another.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from bncli.data import DataRow
from bncli.data.arrays import Stamp, locate, stamp
from bncli.errors import DataError

PARTS = {"train": (0, 80), "validation": (80, 90), "test": (90, 100)}  # where each begins and ends, in percent
MOST_KINDS = 10_000  # of characters: Chinese has as many in use
MASKED = 0.15  # of a window's characters: Devlin et al. 2019, section 3.1


@dataclass(frozen=True)
class Text:
    """A text, the kinds of characters in it, in order, and its checksum."""

    characters: str
    kinds: str
    checksum: str


def cut(text: Text, part: str, length: int) -> str:
    """The characters of a part: whole windows, and one more, which the last window is followed by."""
    first, last = (len(text.characters) * percent // 100 for percent in PARTS[part])
    return text.characters[first : first + _windows(last - first, length) * length + 1]


def count_masked(length: int) -> int:
    """How many characters of a window are masked: 15 %, at least one."""
    return max(1, round(MASKED * length))


def describe_text(row: DataRow, options: Mapping[str, Any]) -> DataRow:
    """What a file of text is as data.

    Raises:
        DataError: if it is no text in UTF-8, or too short for a window in each part.
    """
    return _describe(row, read_text(options["file"]), options, options["file"])


def describe_docs(row: DataRow, options: Mapping[str, Any]) -> DataRow:
    """What the documentation of the running Python is as data.

    Raises:
        DataError: as `read_docs` and `describe_text`.
    """
    return _describe(row, read_docs(), options, "python-docs")


def read_text(file: str) -> Text:
    """A file of text in UTF-8; line ends of any kind are one character.

    Raises:
        DataError: if there is none.
    """
    path = locate(file)
    return _read(path, stamp(path))


@lru_cache(maxsize=4)
def _read(path: Path, at: Stamp) -> Text:
    try:
        return _text(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected text in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


@cache
def read_docs() -> Text:
    """The texts of `help()` on keywords and topics, in the order of their names: `pydoc_data.topics`.

    They come with Python, under its licence, and are a little different in each of its versions.

    Raises:
        DataError: if this Python came without them.
    """
    try:
        topics: dict[str, str] = import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError):
        raise DataError("python-docs: this Python came without pydoc_data.topics; use data text and a file") from None
    return _text("".join(topics[name] for name in sorted(topics)))


def _text(characters: str) -> Text:
    checksum = hashlib.sha256(characters.encode("utf-8", "surrogatepass")).hexdigest()
    return Text(characters, "".join(sorted(set(characters))), checksum)


def _describe(row: DataRow, text: Text, options: Mapping[str, Any], place: str) -> DataRow:
    length, kinds, masked = options["length"], len(text.kinds), options["predict"] == "masked"
    if kinds > MOST_KINDS:
        raise DataError(f"{place}: has {kinds:,} kinds of characters; at most {MOST_KINDS:,}")
    examples = {part: (len(cut(text, part, length)) - 1) // length for part in PARTS}
    if min(examples.values()) < 1:
        needed = f"its last tenth must hold a window of {length} characters and the one after it"
        raise DataError(f"{place}: has {len(text.characters):,} characters; {needed}: give more text or less length")
    return replace(row, examples=examples, shape=(length, kinds + masked), classes=kinds, checksum=text.checksum)


def _windows(characters: int, length: int) -> int:
    return max(0, characters - 1) // length
