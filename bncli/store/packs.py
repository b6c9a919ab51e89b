"""Runs by the thousand: a line each, in text files to which one process appends; a folder each would take too long."""

import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from bncli.errors import DamageError, StoreError
from bncli.files import beside, describe_failure, set_aside, sync_folder
from bncli.records import RunResult
from bncli.store.lines import StoredLine, id_of, is_whole, open_pack, read_line, read_lines, write_line

SUFFIX = ".runs"
REMEDY = "delete that line to train the run again"
SYNC_SECONDS = 1.0  # between syncs to the disk, which take milliseconds each: what a power cut may cost
QUIET_SECONDS = 60.0  # after which a line without an end is not being written any more: its writer was killed
_BINARY = getattr(os, "O_BINARY", 0)


@dataclass
class _Seen:
    """What was read of a pack: its whole lines, up to `end`."""

    inode: int
    end: int = 0
    lines: int = 0


class Packs:
    """Runs in `folder`/packs/HOST-PID-RANDOM.runs, each a line: a digest of the rest, id, spec, info, curves, values.

    A pack is appended to by the process that made it and by no other: there are no locks, and any number may write. A
    line counts if its digest is that of the rest, so one that a kill or a full disk cut off is no run. Of two lines of
    one run the first counts. Lines go by rewriting: under other names, so that a writer that finds its pack gone after
    it has appended to it appends the same to a new one.
    """

    def __init__(self, folder: Path, name: str = "packs", *, durable: bool = True) -> None:
        self.folder = folder / name
        self._durable = durable  # else it is never synced
        self._lines: dict[str, StoredLine] = {}
        self._seen: dict[str, _Seen] = {}
        self._damaged: dict[Path, dict[int, tuple[str, DamageError]]] = {}  # by file and line, with the run's id
        self._own: Path | None = None
        self._synced: float | None = None  # when last; None where all of it is

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._lines or run_id in self.lines()

    def lines(self) -> Mapping[str, StoredLine]:
        """Where every run is, by id; packs are read on from where they ended the last time.

        Raises:
            StoreError: if the folder cannot be read.
        """
        return self._read_new(lambda run_id, line, raw: None)

    def _read_new(self, take: Callable[[str, StoredLine, bytes], None]) -> Mapping[str, StoredLine]:
        """The same; each line that counts is handed over as it is found, and is not read twice."""
        found = dict[str, os.stat_result]()
        for name in list_folder(self.folder):
            with suppress(FileNotFoundError):  # rewritten just now
                if name.endswith(SUFFIX):
                    found[name] = os.lstat(self.folder / name)
        for name, seen in self._seen.items():
            if name not in found or found[name].st_ino != seen.inode or found[name].st_size < seen.end:
                self._lines, self._seen, self._damaged = {}, {}, {}  # rewritten, by somebody else
                break
        for name, is_now in found.items():
            seen, file = self._seen.setdefault(name, _Seen(is_now.st_ino)), self.folder / name
            try:
                if is_now.st_size > seen.end or not stat.S_ISREG(is_now.st_mode):
                    self._read_on(file, seen, is_now.st_mtime, take)
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                damage = DamageError(file, describe_failure(error), "delete it to train its runs again")
                self._damaged[file] = {0: ("", damage)}
        return self._lines

    def damaged(self) -> dict[str, DamageError]:
        """What cannot be read, by the run's id; by its place where that is damaged too, or the run has another line."""
        each = [entry for of_file in self._damaged.values() for entry in of_file.values()]
        return {
            str(error.place) if run_id in self._lines else run_id or str(error.place): error for run_id, error in each
        }

    def read(self, run_id: str) -> RunResult:
        """Read one run.

        Raises:
            DamageError: if it is not there, or says what cannot be.
            StoreError: if it is newer than this bncli.
        """
        _, result = next(self.read_many([run_id]))
        if isinstance(result, StoreError):
            raise result
        return result

    def read_many(self, run_ids: Iterable[str]) -> Iterator[tuple[str, RunResult | StoreError]]:
        """Read those of many runs that are here, file after file; or say of one why it cannot be read."""
        asked = dict.fromkeys(run_ids)
        new = dict[str, RunResult | StoreError]()

        def take(run_id: str, line: StoredLine, raw: bytes) -> None:
            if run_id in asked:
                new[run_id] = self._parse(run_id, line, raw, whole=True)

        known = self._read_new(take)
        yield from new.items()
        wanted = [(known[run_id], run_id) for run_id in asked if run_id in known and run_id not in new]
        wanted.sort(key=lambda each: (each[0].file.name, each[0].start))
        for file, here in groupby(wanted, key=lambda each: each[0].file):
            with ExitStack() as stack:
                pack: BinaryIO | None = None
                for line, run_id in here:
                    try:
                        pack = pack or stack.enter_context(open_pack(file))
                        pack.seek(line.start)
                        raw = pack.read(line.size_byte)
                    except (OSError, ValueError) as error:
                        yield run_id, self._note(run_id, line, error)
                    else:
                        yield run_id, self._parse(run_id, line, raw)

    def _parse(self, run_id: str, line: StoredLine, raw: bytes, *, whole: bool = False) -> RunResult | StoreError:
        try:
            return read_line(line, raw, whole=whole)
        except StoreError as error:
            return error
        except Exception as error:  # as in `reading`
            return self._note(run_id, line, error)

    def _note(self, run_id: str, line: StoredLine, error: Exception) -> DamageError:
        """Note a line as damaged; it is no run any more."""
        damage = DamageError(line.place, describe_failure(error), REMEDY)
        self._damaged.setdefault(line.file, {})[line.number] = run_id, damage
        self._lines.pop(run_id, None)
        return damage

    def raw(self, run_id: str) -> bytes:
        """The line of a run that is here, as it is."""
        line = self.lines()[run_id]
        with open_pack(line.file) as pack:
            pack.seek(line.start)
            return pack.read(line.size_byte)

    def append(self, results: Sequence[RunResult]) -> None:
        """Store runs; a killed process loses none of them, a power cut those of the last second or so.

        Raises:
            StoreError: if they cannot be written, and what was stored before stays; if one has too many numbers.
        """
        self.append_lines([(result.info.id, write_line(result)) for result in results])

    def append_lines(self, lines: Sequence[tuple[str, bytes]]) -> None:
        """Store runs as lines of a pack, by id. Raises as `append`."""
        try:
            while lines and not self._append(lines):
                self._own = None
        except OSError as error:
            raise unwritable(self._own or self.folder, error) from None

    def sync(self) -> None:
        """Have what was appended outlive a power cut too.

        Raises:
            StoreError: if the disk does not take it.
        """
        try:
            if self._own and self._synced is not None:
                handle = os.open(self._own, os.O_WRONLY | _BINARY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        except FileNotFoundError:  # rewritten by another process, which has synced it
            pass
        except OSError as error:
            raise unwritable(self._own or self.folder, error) from None
        self._synced = None

    def rewrite(self, file: Path, drop: Container[str] = (), aside: Path | None = None) -> None:
        """Leave runs out of a pack, and what is damaged; whoever is killed meanwhile leaves every line in some pack.

        Args:
            file: the pack.
            drop: ids of runs.
            aside: folder to which the pack as it was moves; else it goes.

        Raises:
            OSError: if it cannot be done; the runs are still there.
        """
        before, after = self._new_name(), self._new_name()
        file.rename(before)  # from now on nobody appends to it
        working = beside(after)
        try:
            with working.open("xb") as kept:
                for _, raw in read_lines(before):
                    if is_whole(raw) and id_of(raw) not in drop:
                        kept.write(raw)
                kept.flush()
                os.fsync(kept.fileno())
                empty = not kept.tell()
            working.unlink() if empty else working.rename(after)
        except BaseException:
            working.unlink(missing_ok=True)
            raise
        set_aside(before, aside) if aside else before.unlink()
        sync_folder(self.folder)

    def mend(self, aside: Path) -> None:
        """Move packs in which something was damaged aside, and keep their other runs.

        Raises:
            OSError: if it cannot be done; they are then as they were.
        """
        for file, damaged in list(self._damaged.items()):
            with suppress(FileNotFoundError):  # another process was faster
                if file.is_symlink() or not file.is_file():
                    set_aside(file, aside)
                else:
                    self.rewrite(file, {run_id for run_id, _ in damaged.values()} - self._lines.keys(), aside)

    def _new_name(self) -> Path:
        return self.folder / f"{host_name()}-{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"

    def _read_on(self, file: Path, seen: _Seen, changed: float, take: Callable[[str, StoredLine, bytes], None]) -> None:
        for line, raw in read_lines(file, seen.end, seen.lines):
            damaged, run_id, why = self._damaged.setdefault(file, {}), id_of(raw), ""
            damaged.pop(line.number, None)  # it was seen while it was written
            if is_whole(raw):
                if self._lines.setdefault(run_id, line) is line:
                    take(run_id, line, raw)
            elif raw.endswith(b"\n"):
                why = "it is not what was written"
            elif time.time() - changed > QUIET_SECONDS:
                why = "it is cut off, as by a kill or a full disk"
            if why:
                damaged[line.number] = run_id, DamageError(line.place, why, REMEDY)
            if raw.endswith(b"\n"):
                seen.end, seen.lines = line.start + line.size_byte, line.number
        if not self._damaged.get(file):
            self._damaged.pop(file, None)

    def _append(self, lines: Sequence[tuple[str, bytes]]) -> bool:
        """Append to the own pack; False if it has gone meanwhile."""
        file, handle = self._open_own()
        try:
            start = end = os.fstat(handle).st_size
            try:
                _write(handle, b"".join(raw for _, raw in lines))
                if self._durable and (self._synced is None or time.monotonic() - self._synced >= SYNC_SECONDS):
                    os.fsync(handle)
                    self._synced = time.monotonic()
            except OSError:
                with suppress(OSError):  # no half of a line is left, and nothing is written behind it if one is
                    os.ftruncate(handle, start)
                raise
            inode = os.fstat(handle).st_ino
        finally:
            os.close(handle)
        try:
            if os.stat(file).st_ino != inode:  # noqa: PTH116 - of one handle with the number above
                return False
        except FileNotFoundError:
            return False
        seen = self._seen.setdefault(file.name, _Seen(inode))
        for run_id, raw in lines:
            seen.lines += 1
            self._lines.setdefault(run_id, StoredLine(file, seen.lines, end, len(raw)))
            end += len(raw)
        seen.end = end
        return True

    def _open_own(self) -> tuple[Path, int]:
        if self._own:
            with suppress(FileNotFoundError):
                handle = os.open(self._own, os.O_WRONLY | os.O_APPEND | _BINARY)
                if os.fstat(handle).st_size == self._seen.get(self._own.name, _Seen(0)).end:
                    return self._own, handle
                os.close(handle)  # somebody else has written to it
        self.folder.mkdir(parents=True, exist_ok=True)
        self._own, self._synced = self._new_name(), None
        handle = os.open(self._own, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        if self._durable:
            sync_folder(self.folder)
        return self._own, handle


def host_name() -> str:
    """This machine's name, as part of a file's."""
    return re.sub(r"[^\w-]", "-", socket.gethostname())[:60]


def unwritable(place: Path, error: OSError) -> StoreError:
    """What is said where a run cannot be written."""
    return StoreError(
        f"{place}: cannot write ({error.strerror}); runs stored before are intact: free the space or choose another"
        " --store, and run the same command again"
    )


def _write(handle: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(handle, left) :]


def list_folder(folder: Path) -> Sequence[str]:
    """The names in a folder of the store, ascending, without hidden ones and what is being written; none without it.

    Raises:
        StoreError: if it cannot be read.
    """
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.name[0] != ".")
    except FileNotFoundError:
        why = "a link to nowhere"
        if not folder.is_symlink():
            return []
    except OSError as error:
        why = str(error.strerror)
    raise StoreError(f"{folder}: cannot be read ({why}); mend that, or choose another --store")
