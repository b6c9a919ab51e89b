"""What a gate is told: limits like `steps_to_target:+10%`, and the baselines that measurements are held against."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bncli.errors import BncliError, ConfigError, unknown

_LIMIT = re.compile(r"(?:(.*)=)?\s*([\w.-]+)\s*:\s*([+-])\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(%?)\s*")


@dataclass(frozen=True)
class Limit:
    """How far a measure may move from its baseline, in one direction; the other direction is free."""

    measure: str
    change: float  # +0.1: it may rise by 10 % of the baseline (relative), or by 0.1 in its unit; -0.1: fall
    relative: bool
    pattern: str = "*"  # of the variants that it holds for

    @property
    def text(self) -> str:
        """`+10 %`, `-0.005`."""
        return f"{100 * self.change:+g} %" if self.relative else f"{self.change:+g}"

    def concerns(self, variant: str) -> bool:
        """Whether the limit holds for this variant."""
        return fnmatchcase(variant, self.pattern)


def limit_of(text: str, known: Iterable[str]) -> Limit:
    """Read one `--fail-if`: `MEASURE:+10%` of the baseline, `MEASURE:-0.005` in its unit, `VARIANTS=MEASURE:+10%`.

    Raises:
        ConfigError: if it is not that, or about no measure in `known`.
    """
    found = _LIMIT.fullmatch(text)
    if not found or float(found[4]) == 0:
        raise ConfigError(f"--fail-if {text}: expected MEASURE:+10% or MEASURE:-0.005, a change with its sign")
    pattern, name, sign, number, percent = found.groups()
    known = list(known)
    if name not in known:
        raise ConfigError(f"--fail-if {text}: {unknown('measure', name, known)}")
    change = float(f"{sign}{number}") / (100 if percent else 1)
    return Limit(name, change, bool(percent), pattern or "*")


def baseline_path(folder: Path, name: str) -> Path:
    """The file behind a baseline's name, `folder`/baselines/NAME.json, or behind a path to a JSON document."""
    return Path(name) if "/" in name or name.endswith(".json") else folder / "baselines" / f"{name}.json"


def save_baseline(folder: Path, name: str, text: str) -> Path:
    """Keep a JSON document as a baseline; one of that name is replaced.

    Raises:
        BncliError: if it cannot be written.
    """
    path = baseline_path(folder, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise BncliError(f"{path}: cannot write ({error.strerror})") from None
    return path


def read_baseline(folder: Path, name: str, schema: str) -> Mapping[str, Any] | None:
    """Read a baseline; None if there is none.

    Raises:
        BncliError: if the file is not a document of this schema.
    """
    path = baseline_path(folder, name)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BncliError(f"{path}: cannot be read ({error})") from None
    if not isinstance(document, dict) or document.get("schema") != schema:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise BncliError(f"{path}: expected a document with schema {schema!r}, got {found!r}")
    return document
