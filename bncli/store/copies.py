"""Copies of runs that have folders, as lines of few files: thousands are read from those, not from a folder each."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from bncli.errors import StoreError
from bncli.files import reading
from bncli.records import RunResult
from bncli.store.lines import OutdatedError, id_of, is_whole, read_line, read_lines, write_line
from bncli.store.packs import SUFFIX, Packs, list_folder

Stamp = tuple[int, ...]  # when a run's folder and each file in it was last changed (ns), and how long these are
REMEDY = "delete it: it holds copies, made anew when needed"


class Copies:
    """Runs in `folder`/copies/HOST-PID-RANDOM.runs, lines as in packs, each with the stamp of the folder that it is of.

    A copy counts while that folder has the stamp, and if its digest is that of the rest. Where none counts, for
    whatever reason, the run is read from its folder: so nothing is synced, and what cannot be written is not said.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "copies"
        self._runs = folder / "runs"
        self._lines = Packs(folder, "copies", durable=False)
        self._stale: list[Path] = []  # files of which nothing counted when they were last read

    def stamps(self, run_ids: Iterable[str]) -> dict[str, Stamp]:
        """Of those runs that have folders."""
        try:
            there = {*os.listdir(self._runs)}  # noqa: PTH208 - ten thousand names, no paths
        except OSError:
            return {}
        found = {}
        for run_id in run_ids:
            if run_id in there:
                with suppress(OSError):  # foreign, or set aside by another process
                    found[run_id] = stamp_of(f"{self._runs}/{run_id}")
        return found

    def read(self, stamps: Mapping[str, Stamp]) -> dict[str, RunResult]:
        """Those of many runs of which there is a copy that counts."""
        found = dict[str, RunResult]()
        self._stale = []
        for file in self.files():
            counted, outdated, damaged = len(found), False, False
            with suppress(OSError, ValueError):  # a foreign file, or one that has gone
                for line, raw in read_lines(file):
                    run_id = id_of(raw)
                    damaged = damaged or (raw.endswith(b"\n") and not is_whole(raw))
                    if run_id in stamps and run_id not in found and is_whole(raw):
                        try:
                            found[run_id] = read_line(line, raw, whole=True, stamp=stamps[run_id])
                        except OutdatedError:
                            outdated = True
                        except Exception:  # as in `reading`; there is the folder
                            continue
            if damaged:  # made anew when needed
                with suppress(OSError):
                    file.unlink()
            elif outdated and len(found) == counted:
                self._stale.append(file)
        return found

    def add(self, copies: Iterable[tuple[RunResult, Stamp]]) -> None:
        """Append copies, or do without: every run is in its own folder too."""
        with suppress(StoreError):
            if self.folder.is_symlink():
                return
            self._lines.append_lines([(run.info.id, write_line(run, stamp)) for run, stamp in copies])

    def drop_stale(self) -> None:
        """Remove the files of which nothing counted, as of a store copied without times; and what bncli made before."""
        for file in (*self._stale, self.folder.with_name("pack.npz")):
            with suppress(OSError):
                file.unlink()

    def files(self) -> list[Path]:
        """Every file of copies; none behind a link, which is not followed."""
        with suppress(StoreError):
            names = [] if self.folder.is_symlink() else list_folder(self.folder)
            return [self.folder / name for name in names if name.endswith(SUFFIX)]
        return []

    def check(self, file: Path) -> None:
        """Pass if every line of a file is what was written; a last one that a kill cut off is nothing.

        Raises:
            DamageError: if one is not.
        """
        with reading(file, REMEDY):
            for line, raw in read_lines(file):
                if raw.endswith(b"\n") and not is_whole(raw):
                    raise ValueError(f"line {line.number} is not what was written")


def stamp_of(place: Path | str) -> Stamp:
    """Raises OSError where a run's folder lacks a file."""
    folder, record, curves = (os.lstat(f"{place}{file}") for file in ("", "/record.json", "/curves.npz"))
    return folder.st_mtime_ns, record.st_mtime_ns, curves.st_mtime_ns, record.st_size, curves.st_size
