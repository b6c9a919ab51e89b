"""stdout and stderr, whatever they are: what they cannot take ends nothing, what is printed steers no terminal."""

import codecs
import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EBADF, EPIPE
from typing import Any

from bncli.errors import as_lines

UNSHOWN = "~"  # stands for a character that a stream's encoding has not
NOBODY_READS = 141  # what a shell says of a command whose reader left: 128 + SIGPIPE


class _Tolerant(io.RawIOBase):
    """A file that takes everything that is written; its first failure is kept."""

    def __init__(self, raw: io.RawIOBase, failure: OSError | None = None) -> None:
        self.raw, self.failure, self.wanted = raw, failure, False

    def write(self, content: Any) -> int:
        """Write all of it, and wait where the other side has no room just now; or none, once a write has failed."""
        rest = memoryview(content).cast("B")
        size, self.wanted = len(rest), True
        while rest and self.failure is None:
            try:
                taken = self.raw.write(rest)
                if taken is None:  # a pipe that somebody has set not to block
                    select.select([], [self.raw], [])
                rest = rest[taken or 0 :]
            except OSError as error:
                self.failure = error
        return size

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Of the file itself."""
        return self.raw.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.raw.isatty()


class Printed(io.TextIOWrapper):
    """What `print` writes: control characters are escaped. Rich, whose colours are such, writes beside it."""

    def __init__(self, file: _Tolerant, encoding: str, *, by_line: bool) -> None:
        how: Any = {"encoding": encoding, "errors": "bncli", "line_buffering": by_line, "write_through": True}
        self.file = file
        self.rich_proxied_file = io.TextIOWrapper(buffer := io.BufferedWriter(file), **how)  # the name rich asks for
        super().__init__(buffer, **how)

    def write(self, text: str) -> int:
        """Write a text that may have anybody's names in it."""
        super().write(as_lines(text))
        return len(text)


def guard_streams() -> None:
    """Put streams in the place of `sys.stdout` and `sys.stderr` that take everything, whatever has become of them.

    A closed one becomes the null device, so that no file that is opened later has its number and its output.
    """
    codecs.register_error("bncli", lambda error: (UNSHOWN * (error.end - error.start), error.end))  # type: ignore[attr-defined]
    closed = set[int]()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
    for number, name in enumerate(("stdout", "stderr"), 1):
        before = getattr(sys, name)
        if before is None or number in closed:
            raw, encoding = io.FileIO(number, "w", closefd=False), "utf-8"
            file = _Tolerant(raw, OSError(EBADF, os.strerror(EBADF)))
        elif hasattr(before, "buffer"):
            file, encoding = _Tolerant(getattr(before.buffer, "raw", before.buffer)), before.encoding
        else:
            continue  # somebody's own, in a notebook say
        setattr(sys, name, Printed(file, encoding, by_line=name == "stderr" or file.isatty()))


def raw_stdout() -> Any:
    """Where a document goes as it is, for a program to read; on a terminal its control characters are escaped."""
    return sys.stdout if sys.stdout.isatty() else getattr(sys.stdout, "rich_proxied_file", sys.stdout)


def settle(code: int) -> int:
    """The exit code of a command that ends with `code`; what it printed and could not be written is said on stderr."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    failure = sys.stdout.file.failure if isinstance(sys.stdout, Printed) and sys.stdout.file.wanted else None
    if failure is None:
        return code
    if failure.errno == EPIPE:
        return code or NOBODY_READS
    print(f"stdout: cannot write ({failure.strerror})", file=sys.stderr)
    return code or 2


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start a process that Ctrl-C does not reach: the command gets it, afterwards, and ends its processes itself."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
