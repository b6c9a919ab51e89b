"""Documents that carry a digest of what they say, and of the files beside them, so that damage is seen."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys and the spaces between them."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def with_digest(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the digest of all its other keys."""
    plain = json.loads(json.dumps(document, allow_nan=False))  # as it will be read: tuples as lists, keys as texts
    return {**plain, "digest": digest(plain)}


def is_intact(document: Mapping[str, Any]) -> bool:
    """Whether a document carries the digest of what it says."""
    said = {key: value for key, value in document.items() if key != "digest"}
    return bool(document.get("digest") == digest(said))


def add_digests(folder: Path) -> None:
    """Give the `record.json` in a folder that is being written its digest, and those of the files beside it.

    Raises:
        OSError: if it cannot be written.
    """
    place = folder / "record.json"
    document = json.loads(place.read_text(encoding="utf-8"))
    document["files"] = {file.name: _digest_of_file(file) for file in sorted(folder.iterdir()) if file != place}
    place.write_text(json.dumps(with_digest(document), indent=1, allow_nan=False), encoding="utf-8")


def damaged_files(folder: Path, document: Mapping[str, Any]) -> Iterator[str]:
    """What in a folder is not as its `record.json` says, in words; one from before digests is believed.

    Raises:
        OSError: if a file cannot be read.
    """
    if ("digest" in document or "files" in document) and not is_intact(document):
        yield "record.json is not what was written"
    files = document.get("files")
    for name, said in files.items() if isinstance(files, dict) else ():
        if not (folder / name).is_file():
            yield f"{name} is missing"
        elif _digest_of_file(folder / name) != said:
            yield f"{name} is not what was written"


def _digest_of_file(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
