"""What a gate tolerates: `--fail-if "[PATTERN=]MEASURE:+10%"`, one grammar for studies and for kernels."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from bncli.errors import ConfigError, did_you_mean, unknown

# What `bncli bench` may limit, and what it is a ratio to; "against" is the same case in the other environment.
BENCH_MEASURES: Mapping[str, str] = {"ratio": "native", "copy": "copy", "time": "against"}
BENCH_FACTS = ("peak", "error")  # what it may limit beside times: memory, and how far results are from the truth

_LIMIT = re.compile(r"(?:(.*)=)?\s*([\w.-]+)\s*:\s*([+-]?)\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(%?)\s*")


@dataclass(frozen=True)
class Limit:
    """How far a measure may move from its baseline, in one direction; the other direction is free."""

    measure: str
    change: float  # +0.1: it may rise by 10 % of the baseline (relative), or by 0.1 in its unit; -0.1: fall
    relative: bool
    pattern: str = "*"  # of the variants or cases that it holds for
    absolute: bool = False  # `change` is the highest value, and compared with nothing

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.pattern}={self.measure}:{self.text.replace(' ', '')}".removeprefix("*=")

    @property
    def text(self) -> str:
        """`+10 %`, `-0.005`, and of a highest value `1e-05`."""
        if self.absolute:
            return f"{self.change:g}"
        return f"{100 * self.change:+g} %" if self.relative else f"{self.change:+g}"


def read_limit(text: str, known: Iterable[str], better: Mapping[str, str] = {}, *, slower: bool = False) -> Limit:
    """Read one `--fail-if`: `MEASURE:+10%` of the baseline, `MEASURE:-0.005` in its unit, `PATTERN=MEASURE:+10%`.

    Args:
        text: as it was typed.
        known: measures that may be limited.
        better: "higher" or "lower" by measure: a limit is to the other side; a measure without may have both.
        slower: of kernels: how much slower something may become, `+N%`, and the highest `error:1e-5`.

    Raises:
        ConfigError: if it is not that, about no measure in `known`, or would tolerate anything.
    """
    forms = "[PATTERN=]MEASURE:+10% or MEASURE:-0.005, a change with its sign"
    form = "[PATTERN=]MEASURE:+5% or error:1e-5" if slower else forms
    found = _LIMIT.fullmatch(text)
    absolute = bool(slower and found and found[2] == "error")
    wanted = {("", "")} if absolute else {("+", "%")} if slower else {(sign, end) for sign in "+-" for end in ("", "%")}
    if not found or (found[3], found[5]) not in wanted:
        raise ConfigError(f"--fail-if {text}: expected {form}")
    pattern, name, sign, number, percent = found.groups()
    known = list(known)
    if name not in known:
        raise ConfigError(f"--fail-if {text}: {unknown('measure', name, known)}")
    try:
        change = float(f"{sign}{number}") / (100 if percent else 1)
    except ValueError:
        raise ConfigError(f"--fail-if {text}: {number} is not a number; expected {form}") from None
    if change == 0:
        raise ConfigError(f"--fail-if {text}: must tolerate more than 0, which noise alone exceeds; expected {form}")
    if not math.isfinite(change) or (percent and change <= -1):
        raise ConfigError(f"--fail-if {text}: tolerates anything; expected {form}, below 100 % where it is a fall")
    limit = Limit(name, change, bool(percent), pattern or "*", absolute)
    require_worse(limit, better.get(name))
    return limit


def require_worse(limit: Limit, better: str | None) -> None:
    """Refuse a limit to the side that is better, "higher" or "lower": it would hold whatever became worse.

    Raises:
        ConfigError: if it is to that side.
    """
    if better == ("higher" if limit.change > 0 else "lower"):
        turned = str(replace(limit, change=-limit.change, pattern="*"))
        raise ConfigError(
            f"--fail-if {limit}: {better} is better, and a limit says how much worse it may become: {turned}"
        )


def limits_by_name(
    limits: Sequence[Limit], names: Iterable[str], matches: Callable[[str, str], bool] = fnmatchcase
) -> dict[tuple[str, str, bool], Limit]:
    """The limit of every (name, measure, whether it is of a rise) that has one; where several match, the last.

    A pattern that is one of the names, whole, is for that name alone.

    Raises:
        ConfigError: for a limit that matches no name.
    """
    names = list(names)

    def holds(limit: Limit, name: str) -> bool:
        return name == limit.pattern if limit.pattern in names else matches(name, limit.pattern)

    for limit in limits:
        if not any(holds(limit, name) for name in names):
            some = ", ".join([*names[:3], *["..."] * (len(names) > 3)])
            near = did_you_mean(limit.pattern, names)
            raise ConfigError(f"--fail-if {limit}: nothing here matches {limit.pattern}{near} (known: {some})")
    return {(name, limit.measure, limit.change > 0): limit for limit in limits for name in names if holds(limit, name)}
