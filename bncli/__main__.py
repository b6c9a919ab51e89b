"""`python -m bncli`, and the script `bncli`: one command from its first import to its exit code, signals included."""

import signal  # isort: skip - first: until its handlers are set an interrupt is a traceback
import atexit
import os
import sys
import time
from types import FrameType

PATIENCE_SECONDS = 2.0  # several Ctrl-C within are one; another one afterwards ends the command at once


class _Signals:
    """What interrupted the command, and when; it then ends in order, with what is done stored and shown."""

    def __init__(self) -> None:
        self.code, self.since, self.leaving = 0, 0.0, False
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):  # else to be ignored, say
                signal.signal(number, self.take)
                atexit.register(signal.signal, number, signal.SIG_IGN)  # last of all: Python ends, and takes no more

    def take(self, number: int, frame: FrameType | None) -> None:
        """Raise what ends the command; in an import, which may turn that into anything, end it at once."""
        first, now = not self.code, time.monotonic()
        if first:
            self.code, self.since = 128 + number, now
        if self.leaving or (first and _is_importing(frame)) or now - self.since > PATIENCE_SECONDS:
            try:
                os.write(2, b"\x1b[?25hinterrupted\n" if os.isatty(2) else b"interrupted\n")  # a bar hides the cursor
            finally:
                os._exit(self.code)
        if first:
            raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _run() -> int:
    """Run the command line; while it is imported nothing becomes garbage, and looking for it takes 6 % of `--help`."""
    import gc

    gc.disable()
    from bncli.streams import guard_streams

    guard_streams()
    from bncli.cli import main as run

    gc.freeze()
    gc.enable()
    try:
        run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def main() -> None:
    """Run a command and exit with its code, or with that of the signal that ended it."""
    signals, code = _Signals(), 0
    try:
        code = _run()
    except BaseException:
        if not signals.code:
            raise  # a bug of ours
    signals.leaving = True
    from bncli.streams import settle

    sys.exit(settle(signals.code or code))


if __name__ == "__main__":
    main()
