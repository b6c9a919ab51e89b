"""Files and folders that appear and go whole, whoever is killed meanwhile; files of anybody's, read within limits."""

import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bncli.errors import DamageError, DataError, StoreError, as_line

DOCUMENT_BYTES = 2**24  # of a record.json, of a file of a study: the largest seen has 10,000 bytes
CHECKPOINT_BYTES = 2**32
SHOWN_CHARACTERS = 200  # of what a library says about a damaged file
TEMPORARY = "bncli-"  # how the names begin of folders for temporary files
OWNER = "owner"  # the file in one of them that its owner keeps locked
UNLOCKED_SECONDS = 10  # between the making of such a file and its lock less time passes
UNFINISHED = ".writing-"  # how the names begin of what is not in its place yet; a killed writer leaves it behind


def cache_folder() -> Path:
    """The folder of the platform for what can be had again: `$XDG_CACHE_HOME/bncli`, or `~/.cache/bncli` on Linux.

    Raises:
        DataError: if this user has no home.
    """
    if Path(given := os.environ.get("XDG_CACHE_HOME", "")).is_absolute():
        return Path(given) / "bncli"
    try:
        home = Path.home()
    except RuntimeError:
        raise DataError("no folder to keep data in: this user has no home; set XDG_CACHE_HOME") from None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "bncli" / "Cache"
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "bncli"


def write_atomically(place: Path, content: bytes | str, *, durable: bool = True, mode: int | None = None) -> None:
    """Put a file in the place of the one before: a reader finds the old one or the new one, never a part.

    Args:
        place: in a folder that exists; the umask decides who may read it.
        content: text is written as UTF-8, with line ends as they are.
        mode: its permissions; None leaves them to the umask.
        durable: synced to the disk, so that it outlives a power cut; needless for what lives as long as a process.

    Raises:
        OSError: if it cannot be written; the file before stays as it was.
    """
    working = beside(place)
    try:
        with working.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if mode is not None:
                working.chmod(stat.S_IMODE(mode))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        working.replace(place)
    except BaseException:
        working.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(place.parent)


def replace_text(place: Path, text: str | bytes) -> None:
    """Put a document in the place of the one before, as `write_atomically`; through a link, with its permissions.

    What is no file, such as a pipe or a terminal, is written to as it is.

    Raises:
        OSError: if it cannot be written; the file before stays as it was.
    """
    try:
        before = place.stat().st_mode
    except FileNotFoundError:
        before = None
    if before is not None and not stat.S_ISREG(before):
        with place.open("wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
        return
    write_atomically(Path(os.path.realpath(place)), text, mode=before)


def make_temporary_folder(parent: Path | None = None) -> tuple[Path, Callable[[], None]]:
    """Make a folder of this process's own, and remove those of processes that were killed.

    A lock on a file in it, which the system takes back when its owner ends however it ends, says whether it is still
    somebody's; where there are no such locks, what a killed process leaves is left to the system.

    Returns:
        The folder, in `parent` or where this machine has temporary files, and what removes it.

    Raises:
        OSError: if there is no place for it.
    """
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=parent))
    try:
        handle = os.open(folder / OWNER, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        folder.rmdir()
        raise
    _lock(handle)
    for other in folder.parent.glob(f"{TEMPORARY}*/{OWNER}"):
        with suppress(OSError):  # somebody else's, or gone by now
            if other.parent != folder and time.time() - other.stat().st_mtime > UNLOCKED_SECONDS:
                theirs = os.open(other, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
                try:
                    if _lock(theirs):
                        shutil.rmtree(other.parent, ignore_errors=True)
                finally:
                    os.close(theirs)

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            os.close(handle)

    return folder, remove


def _lock(handle: int) -> bool:
    """Take the lock of an open file, if there are locks and nobody has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


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
        for folder, _, names in os.walk(working, topdown=False):  # what is in a folder before the folder
            for name in names:
                handle = os.open(f"{folder}/{name}", os.O_RDWR if os.name == "nt" else os.O_RDONLY)
                try:
                    os.fsync(handle)  # Windows syncs only what it may write
                finally:
                    os.close(handle)
            sync_folder(Path(folder))
        working.rename(place)
    except BaseException:
        shutil.rmtree(working, ignore_errors=True)
        raise
    sync_folder(place.parent)


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


def set_aside(place: Path, folder: Path) -> Path:
    """Move a file, a link or a folder out of the way, as PARENT-NAME into `folder`, and return where it is now.

    Raises:
        OSError: if it cannot be moved; it then stays.
    """
    if os.path.lexists(folder) and not folder.is_dir():  # a file or a link to nowhere has its name
        folder.rename(_free_name(folder))
    folder.mkdir(parents=True, exist_ok=True)
    target = _free_name(folder / f"{place.parent.name}-{place.name}")
    place.rename(target)
    return target


def _free_name(place: Path) -> Path:
    """A place that is free: itself, or the first of NAME.2, NAME.3..."""
    number, free = 1, place
    while os.path.lexists(free):
        number += 1
        free = place.with_name(f"{place.name}.{number}")
    return free


@contextmanager
def reading(place: Path, remedy: str) -> Iterator[None]:
    """Turn whatever reading a damaged or foreign file raises into one line: its place, what is wrong, the way out.

    Raises:
        DamageError: of what was raised by json, zip, zlib, numpy, torch, the system or a check of ours; RecursionError
            and MemoryError too.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise DamageError(place, describe_failure(error), remedy) from None


def describe_failure(error: Exception) -> str:
    """What an exception says, in a line that is not too long."""
    said = str(error)
    if isinstance(error, OSError):
        said = error.strerror or said
    elif isinstance(error, KeyError):
        said = f"{said} is missing"
    elif not isinstance(error, ValueError) or not said:
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    said = as_line(said)
    return said if len(said) <= SHOWN_CHARACTERS else f"{said[:SHOWN_CHARACTERS]}..."


def read_bytes(place: Path, limit: int, *, follow: bool = False) -> bytes:
    """Read a file that anybody may have put there; what is no file, such as a pipe, is not waited for.

    Args:
        place: of the file.
        limit: bytes; a longer file is not read.
        follow: whether it may be a link.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not there, no file, a link, or too long.
    """
    try:
        kind = place.stat(follow_symlinks=follow).st_mode
    except FileNotFoundError:
        raise ValueError(f"{place.name} is missing") from None
    if not stat.S_ISREG(kind):
        raise ValueError(f"{place.name} is {'a link, which is not followed' if stat.S_ISLNK(kind) else 'no file'}")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # it may have become a pipe
    with open(os.open(place, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0))), "rb") as file:  # noqa: PTH123
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            raise ValueError(f"{place.name} has {found.st_size:,} bytes, more than the {limit:,} that are read")
        return file.read(found.st_size)


def read_json(place: Path, limit: int = DOCUMENT_BYTES, *, follow: bool = False) -> dict[str, Any]:
    """Read a document that bncli wrote.

    Raises:
        Exception: whatever comes of a file that is none (see `reading`).
    """
    document = json.loads(read_bytes(place, limit, follow=follow).decode(), parse_constant=_refuse)
    if not isinstance(document, dict):
        raise ValueError("not a file of bncli")
    return document


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number that bncli writes")


def sync_folder(folder: Path) -> None:
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
    return digest_bytes(text.encode())


def digest_bytes(content: bytes | memoryview) -> str:
    """SHA-256 of what a file holds."""
    return hashlib.sha256(content).hexdigest()


def digest_checkpoint(content: bytes) -> str:
    """The 16 digits by which the name of a checkpoint says what it holds."""
    return digest_bytes(content)[:16]


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
    files = [file for file in sorted(folder.iterdir()) if file != place]
    document["files"] = {file.name: digest_bytes(file.read_bytes()) for file in files}
    place.write_text(json.dumps(with_digest(document), indent=1, allow_nan=False), encoding="utf-8")


def check_digests(document: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    """Pass if a `record.json` and the files beside it are what was written; one from before digests is believed.

    Raises:
        ValueError: that names what is not.
    """
    files = document.get("files")
    damaged = ["record.json"] if ("digest" in document or "files" in document) and not is_intact(document) else []
    if isinstance(files, Mapping):
        damaged += [name for name, c in contents.items() if files.get(name) != digest_bytes(c)]
    if damaged:
        raise ValueError(", ".join(f"{name} is not what was written" for name in damaged))
