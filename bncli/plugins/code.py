"""Code by one text, as a command line gives it: FILE.py:NAME or MODULE:NAME."""

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bncli.catalogue import Catalogue
from bncli.errors import ConfigError, did_you_mean
from bncli.plugins.modules import find, load
from bncli.plugins.rows import KINDS


@dataclass(frozen=True)
class NamedCode:
    """One function, class or object of a file or module, as a command line names it, for a catalogue."""

    table: str  # "MODELS"
    text: str  # "FILE.py:NAME" or "MODULE:NAME"

    @property
    def name(self) -> str:
        """What the catalogue calls it: "net.Net" of net.py:Net.

        Raises:
            ConfigError: if the text is of another form.
        """
        place, name = split_code(self.text, f"{KINDS[self.table].flag} {self.text}")
        home = Path(place).stem if place.endswith(".py") else place
        return re.sub(r"[^\w.+-]", "_", f"{home}.{name}").lstrip("_.+-")


def code_text(given: object, what: str) -> str:
    """FILE.py:NAME of a class or function; a text is itself.

    Raises:
        ConfigError: for what has no place at the top of a file, and so no worker finds; `what` begins the message.
    """
    if isinstance(given, str | Path):
        return str(given)
    name = getattr(given, "__qualname__", "")
    try:
        file = inspect.getsourcefile(given)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(
            f"{what}: expected a text, as FILE.py:NAME, or a class or function, got {type(given).__name__}; each run"
            " makes its own"
        ) from None
    if not file or not Path(file).is_file() or not name.replace(".", "").isidentifier():
        raise ConfigError(f"{what}: {name or given!r} is not at the top of a file, where worker processes can find it")
    return f"{file}:{name}"


def split_code(text: str, what: str) -> tuple[str, str]:
    """("FILE.py", "NAME") of "FILE.py:NAME", or ("MODULE", "NAME") of "MODULE:NAME".

    Raises:
        ConfigError: if it is neither; `what` begins the message: "--kernel".
    """
    place, colon, name = text.rpartition(":")
    if not (colon and place and name.replace(".", "").isidentifier()):
        raise ConfigError(f"{what}: expected FILE.py:NAME or MODULE:NAME, got {text!r}")
    return place, name


def resolve_code(text: str, what: str, known: Catalogue[Any] | None = None) -> Any:
    """What a name of a catalogue, FILE.py:NAME or MODULE:NAME stands for; names of the catalogue come first.

    Raises:
        ConfigError: if there is no such thing, in one line; `what` begins it: "--kernel".
    """
    if known is not None and (text in known or ":" not in text):
        return known.load(text)
    place, name = split_code(text, what)
    return attribute_of(load(find(place, f"{what} {text}"), f"{what} {text}").module, name, f"{what} {text}", place)


def attribute_of(module: Any, name: str, what: str, place: str) -> Any:
    """What a dotted name of a module is.

    Raises:
        ConfigError: if it has none; `what` begins the message, `place` is the module in words.
    """
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = did_you_mean(part, [each for each in dir(found) if not each.startswith("_")])
            raise ConfigError(f"{what}: {place} has no {name!r}{near}")
        found = getattr(found, part)
    return found
