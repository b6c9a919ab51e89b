"""Where tables go."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160  # a pipe or a file has no width of its own; COLUMNS overrules


def stdout() -> "Console":
    """A console on stdout; NO_COLOR, FORCE_COLOR and COLUMNS are respected by rich."""
    import os

    from rich.console import Console

    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    return Console(width=width, highlight=False, soft_wrap=False)
