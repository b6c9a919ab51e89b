"""Code by one text, as a command line gives it: FILE.py:NAME or MODULE:NAME."""

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


def name_code(table: str, text: object) -> list[NamedCode]:
    """The code that a text names, to be registered; nothing where it is a name of the catalogue."""
    return [NamedCode(table, text)] if isinstance(text, str) and ":" in text else []


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
