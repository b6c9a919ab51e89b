"""What a gate for learning is told: limits like `steps_to_target:+10%`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bncli.errors import ConfigError, unknown

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
