"""Writing a file that a flag names."""

import sys
from pathlib import Path

from bncli.errors import BncliError


def write(place: str, text: str, flag: str, *, append: bool = False, after: str = "") -> None:
    """Write `text` to a file, or to stdout for `-`.

    Args:
        place: a path, or -.
        text: what is written.
        flag: that named the place, as it was given.
        append: to what is there.
        after: what the message says besides.

    Raises:
        BncliError: that names the flag, if the file cannot be written.
    """
    if place == "-":
        sys.stdout.write(text)
        return
    try:
        with Path(place).open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise BncliError(f"{flag}: cannot write ({error.strerror}){after}") from None
