"""Files and folders that appear and go whole, whoever else reads or is killed meanwhile; digests of what they say."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

UNFINISHED = ".writing-"  # how the names begin of what is not in its place yet; a killed writer leaves it behind


def write_atomically(place: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Put a file in the place of the one before: a reader finds the old one or the new one, never a part.

    Args:
        place: in a folder that exists; the umask decides who may read it.
        content: text is written as UTF-8, with line ends as they are.
        durable: synced to the disk, so that it outlives a power cut; needless for what lives as long as a process.

    Raises:
        OSError: if it cannot be written; the file before stays as it was.
    """
    working = beside(place)
    try:
        with working.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        working.replace(place)
    except BaseException:
        working.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(place.parent)


@contextmanager
def folder_written_atomically(place: Path) -> Iterator[Path]:
    """Lend an empty folder to be filled; it takes its place, synced, when the block ends.

    Raises:
        OSError: if it cannot be written or `place` holds something by then; nothing is left of it, nor if the block
            raises.
    """
    working = beside(place)
    try:
        working.mkdir()
        yield working
        for path in sorted(working.rglob("*"), reverse=True):  # what is in a folder before the folder
            if path.is_dir():
                _sync_folder(path)
            else:
                with path.open("rb+" if os.name == "nt" else "rb") as file:  # Windows syncs only what it may write
                    os.fsync(file.fileno())
        _sync_folder(working)
        working.rename(place)
    except BaseException:
        shutil.rmtree(working, ignore_errors=True)
        raise
    _sync_folder(place.parent)


def remove_atomically(place: Path) -> None:
    """Remove a file, a link or a folder: it is gone at once, though its content may take a while.

    Raises:
        OSError: if it cannot be removed; it then stays whole.
    """
    working = beside(place)
    with suppress(FileNotFoundError):  # somebody else was faster
        place.rename(working)
        if working.is_symlink() or not working.is_dir():
            working.unlink()
        else:
            shutil.rmtree(working, ignore_errors=True)


def beside(place: Path) -> Path:
    """A new name in the same folder, for what is not in its place yet."""
    return place.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")


def _sync_folder(folder: Path) -> None:
    """Sync the names in a folder, where the system can: Windows cannot, nor can some network file systems."""
    if os.name == "nt":
        return
    with suppress(OSError):  # the file itself is in its place
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
