"""Where data sets' files lie and how they get there: verified, whole or not at all, once for all processes."""

import gzip
import hashlib
import lzma
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from bncli.data import data_folder
from bncli.errors import DataError
from bncli.files import cache_folder

Say = Callable[[str], None]  # takes a line for whoever waits

OPENERS: dict[str, Callable[[Path], Any]] = {"": lambda path: path.open("rb"), ".gz": gzip.open, ".xz": lzma.open}
SYSTEM = Path("/usr/share/datasets")  # where Debian's packages put them
TRIES = 4  # of one address whose connection breaks off; each goes on where the one before ended
PAUSE = 1.0  # seconds between them
PATIENCE = 30.0  # seconds without a byte, or with fewer than SLOWEST a second, after which a connection is given up
SLOWEST = 1_000  # bytes a second
_GZIP = 31  # of zlib: that there is a header of gzip's


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: what it is called, how its bytes are known, where they are had."""

    data: str  # "fashion-mnist", which names its folder in the cache and in Debian too
    title: str  # "Fashion-MNIST"
    name: str  # unpacked; it may lie packed, as NAME.gz or NAME.xz
    size: int  # of the unpacked bytes; nothing longer is read
    digest: str = ""  # of the unpacked bytes: an MD5 of 32 digits, or a SHA-256 of 64
    digest_gz: str = ""  # of NAME.gz, where only that was published, or it is known too
    layouts: tuple[str, ...] = ()  # folders below a data folder where others keep it: "FashionMNIST/raw"
    addresses: tuple[str, ...] = ()
    shipped: bool = False

    @property
    def remote(self) -> str:
        """Its name as it is downloaded."""
        return self.addresses[0].rpartition("/")[2] if self.addresses else ""


_ahead = dict[DataFile, bytes]()


class _BrokenError(Exception):
    """A download that may go on where it ended."""


def read_file(file: DataFile, say: Say = lambda text: None) -> bytes:
    """The verified, unpacked bytes of a file, from wherever it lies, or downloaded.

    It is looked for in the folder of `--data-dir` and nowhere else if there is one; else in what bncli ships, in the
    cache, in Debian's folder, and where torchvision keeps it below the working directory.

    Raises:
        DataError: if it is nowhere, cannot be downloaded, or is not what was published.
    """
    if not data_folder() and (ahead := _ahead.pop(file, None)):
        return ahead
    wrong = ""
    for path in _candidates(file):
        try:
            return _verified(file, path)
        except DataError as error:
            if data_folder() or file.shipped:
                raise
            wrong = f"; {error}"  # somebody else's file of that name
            if path.parent == cache_folder() / file.data:
                path.unlink(missing_ok=True)
    if not file.addresses:
        raise DataError(wrong.removeprefix("; ") or f"{file.title}: {file.name} is not here")
    return _verified(file, download(file, say, wrong))


def read_ahead(files: Iterator[DataFile]) -> None:
    """Read files that are asked for soon, where no folder is given in which alone they may lie."""
    for file in files:
        _ahead[file] = read_file(file)


def fetch(files: Iterator[DataFile], say: Say) -> None:
    """Download those that lie nowhere on this machine.

    Raises:
        DataError: as `read_file`.
    """
    for file in files:
        if next(_candidates(file), None) is None:
            download(file, say)


def lies_here(file: DataFile) -> bool:
    """Whether there is a file of that name in one of the places that are looked in."""
    return next(_candidates(file, strict=False), None) is not None


def _candidates(file: DataFile, *, strict: bool = True) -> Iterator[Path]:
    """Files of that name that are there.

    Raises:
        DataError: if `strict` and the folder of `--data-dir` has none.
    """
    if given := data_folder():
        places = [given, given / file.data, *(given / layout for layout in file.layouts)]
    else:
        shipped = [Path(str(resources.files("bncli.data"))) / "files"] if file.shipped else []
        own = [root / file.data / layout for root in (cache_folder(), SYSTEM) for layout in ("", *file.layouts)]
        places = [*shipped, *own, *(Path("data") / layout for layout in file.layouts)]
    paths = [place / f"{file.name}{suffix}" for place in places for suffix in OPENERS]
    found = [path for path in paths if path.is_file()]
    if given and strict and not found:
        below = f" nor in its {', '.join(filter(None, [file.data, *file.layouts]))}" if given.is_dir() else ""
        way = "use the copy that bncli ships" if file.shipped else f"have {file.title} looked for elsewhere"
        raise DataError(
            f"{given}: no {file.name} (or .gz, .xz) there{below}; leave out --data-dir and BNCLI_DATA to {way}"
        )
    yield from found


def _verified(file: DataFile, path: Path) -> bytes:
    """The unpacked bytes of a file.

    Raises:
        DataError: if they cannot be unpacked or are not what was published.
    """
    suffix = "" if file.name.endswith(path.suffix) else path.suffix
    if not file.digest and suffix != ".gz":
        raise DataError(f"{path}: only the checksum of {file.name}.gz was published; put that file there instead")
    known, of = (file.digest, "unpacked") if file.digest else (file.digest_gz, "packed")
    kind = "MD5" if len(known) == 32 else "SHA-256"
    try:
        packed = path.read_bytes() if file.digest_gz and suffix == ".gz" else b""
        if packed and hashlib.sha256(packed).hexdigest() == file.digest_gz:
            return zlib.decompress(packed, _GZIP, file.size)  # at once: other threads go on meanwhile
        with OPENERS[suffix](path) as opened:
            content: bytes = opened.read(file.size + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise DataError(
            f"{path}: cannot be unpacked ({error}); delete it or point --data-dir to a whole copy"
        ) from None
    found = hashlib.new(kind.replace("-", ""), content if file.digest else packed, usedforsecurity=False).hexdigest()
    if found != known:
        raise DataError(
            f"{path}: not {file.title}'s {file.name}: {kind} of the {of} bytes is {found}, expected {known}"
        )
    return content


def download(file: DataFile, say: Say, wrong: str = "") -> Path:
    """Bring a file into the cache folder, one process at a time; what an interrupted one has brought is kept.

    Args:
        file: with addresses, each of which is tried.
        say: takes a line before each.
        wrong: what was found instead of it, for the message.

    Raises:
        DataError: if it cannot be had: why, and where to put it by hand.
    """
    place = cache_folder() / file.data / file.remote
    hand = f"put {file.addresses[0]} into {place.parent} by hand, or name the folder that has it with --data-dir"
    if os.environ.get("BNCLI_OFFLINE", "0") not in ("", "0"):
        raise DataError(
            f"{file.title}: {file.remote} is not here and BNCLI_OFFLINE forbids to download it; {hand}{wrong}"
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _lock(place, say):
            if place.is_file():  # another process was faster
                return place
            problems = []
            for address in file.addresses:
                if not (problem := _bring(file, address, place, say)):
                    return place
                problems.append(problem)
    except OSError as error:
        raise DataError(f"{place.parent}: cannot be written to ({error.strerror}); set XDG_CACHE_HOME") from None
    raise DataError(f"{file.title}: {file.remote} cannot be downloaded: {'; '.join(problems)}; {hand}{wrong}")


@contextmanager
def _lock(place: Path, say: Say) -> Iterator[None]:
    """Keep other processes from downloading the same; one that is killed lets go of it."""
    lock = FileLock(f"{place}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another process that downloads {place.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _bring(file: DataFile, address: str, place: Path, say: Say) -> str:
    """Download from one address; "" where that worked, else why not."""
    part = place.with_name(f"part-{place.name}")
    say(f"downloading {address} into {place.parent}")
    problem = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE)
        resumed, whole, problem = part.exists(), True, ""
        try:
            _receive(address, part, file.size + file.size // 100 + 1_000)  # packed, it may be a little longer
        except _BrokenError as error:
            whole, problem = False, str(error)
        except DataError as error:
            part.unlink(missing_ok=True)
            return f"{address}: {str(error).partition(': ')[2]}"
        except HTTPError as error:
            with closing(error):
                problem = f"{error.code} {error.reason}".splitlines()[0]
            if error.code != 416:  # there is no more than was brought before
                return f"{address}: {problem}"
        try:
            _verified(file, part)
        except DataError as error:
            if whole:
                part.unlink(missing_ok=True)
                problem = f"wrong bytes ({str(error).partition(': ')[2]})"
            if whole and not resumed:
                break
        else:  # the checksum decides, not what the server says of the length
            part.replace(place)
            return ""
    return f"{address}: {problem}"


def _receive(address: str, part: Path, most: int) -> None:
    """Download to a file, going on where it ends.

    Raises:
        _BrokenError: if the connection fails, falls silent or is cut; what came is kept.
        DataError: if more comes than `most` bytes, or fewer than announced before.
        HTTPError: if the server refuses.
    """
    here = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "bncli", **({"Range": f"bytes={here}-"} if here else {})}
    try:
        with urlopen(Request(address, headers=headers), timeout=PATIENCE) as answer:
            goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {here}-")
            here = here if goes_on else 0
            length = answer.headers.get("Content-Length", "")
            whole = here + int(length) if length.isdigit() else None
            if whole is not None and whole > most:
                raise DataError(
                    f"{part}: longer than the file: {whole:,} bytes are announced, at most {most:,} expected"
                )
            with part.open("ab" if goes_on else "wb") as out:
                here = _copy(answer, out, here, most, part)
    except (HTTPError, DataError, _BrokenError):
        raise
    except (OSError, HTTPException) as error:
        raise _BrokenError(f"{getattr(error, 'reason', error) or type(error).__name__}".splitlines()[0]) from None
    if whole is not None and here < whole:
        raise _BrokenError(f"broke off after {here:,} of {whole:,} bytes")


def _copy(answer: Any, out: BinaryIO, here: int, most: int, part: Path) -> int:
    """Copy as it comes; the bytes that are here then."""
    since, had = time.monotonic(), here
    while chunk := answer.read1(1 << 16):
        out.write(chunk)
        here += len(chunk)
        if here > most:
            raise DataError(f"{part}: longer than the file: it does not end after {most:,} bytes")
        if (seconds := time.monotonic() - since) > PATIENCE:
            if here - had < SLOWEST * seconds:
                raise _BrokenError(f"too slow: {here - had:,} bytes in {seconds:.0f} s")
            since, had = time.monotonic(), here
    return here
