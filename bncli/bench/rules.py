"""What a gate tolerates: `--fail-if "ratio:+5%"`, for all cases or for those that match a pattern."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bncli.bench.cases import matches
from bncli.errors import ConfigError, unknown

# What may be limited, and the yardstick it is a ratio to; "against" is the same case in the other environment.
MEASURES: Mapping[str, str] = {"ratio": "native", "copy": "copy", "time": "against"}

_FORM = re.compile(r"(?:(?P<pattern>.*)=)?(?P<measure>[^:=]*):\+(?P<limit>\d+(?:\.\d*)?)%")


@dataclass(frozen=True)
class Rule:
    """Cases that match `pattern` may not have become slower by more than the fraction `limit`."""

    pattern: str
    measure: str  # a key of MEASURES
    limit: float

    def __str__(self) -> str:
        return f"{self.pattern}={self.measure}:+{100 * self.limit:g}%".removeprefix("*=")


def read_rule(text: str) -> Rule:
    """`ratio:+5%` or `batch/*=ratio:+5%`; ratio is to torch's batch norm, copy to a copy of the same bytes.

    Raises:
        ConfigError: if it says something else.
    """
    found = _FORM.fullmatch(text)
    if not found:
        raise ConfigError(f"--fail-if {text!r}: must look like 'ratio:+5%' or 'PATTERN=ratio:+5%'")
    if found["measure"] not in MEASURES:
        raise ConfigError(f"--fail-if {text!r}: {unknown('measure', found['measure'], MEASURES)}")
    if float(found["limit"]) == 0:
        raise ConfigError(f"--fail-if {text!r}: must tolerate more than 0%, which noise alone exceeds")
    return Rule(found["pattern"] or "*", found["measure"], float(found["limit"]) / 100)


def limits(rules: Sequence[Rule], cases: Iterable[str]) -> dict[tuple[str, str], Rule]:
    """The rule for every (case, measure) that has one; where several match, the last of them.

    Raises:
        ConfigError: for a rule that matches no case.
    """
    cases = list(cases)
    for rule in rules:
        if not any(matches(case, rule.pattern) for case in cases):
            some = ", ".join([*cases[:3], *["..."] * (len(cases) > 3)])
            raise ConfigError(f"--fail-if '{rule}': no case matches (cases: {some})")
    return {(case, rule.measure): rule for rule in rules for case in cases if matches(case, rule.pattern)}
