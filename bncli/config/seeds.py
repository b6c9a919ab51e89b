"""Which seeds a study has, from each of the forms in which they are written."""

import re
from collections.abc import Mapping
from typing import Any

from bncli.catalogue import Spelling

LOOKS = (5, 8, 10, 15, 20, 30, 50, 75, 100)  # numbers of seeds at which a study is reported until it is decided
MOST_SEEDS = 50  # of such a study, where nothing else is said

_SOME = r"\d+(\s*\.\.\s*\d+)?"
_LISTED = rf"\s*{_SOME}(\s*,\s*{_SOME})*\s*,?\s*"
SEEDS = Spelling("how many, list, FIRST..LAST, or {until: decided, max: how many}", {"anyOf": [
    {"type": "integer", "minimum": 1},
    {"type": "string", "pattern": f"^{_LISTED}$"},
    {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
    {"type": "object", "required": ["until"], "additionalProperties": False,
     "properties": {"until": {"const": "decided"}, "max": {"type": "integer", "minimum": 1}}},
]})  # fmt: skip


def read_seeds(given: object) -> Any:
    """`5` is 0..4; `0..9` counts both ends; `0,5` and lists are themselves; `{until: decided, max: 9}` is 0..8 at most.

    Raises:
        ValueError: for what is none of these.
    """
    if isinstance(given, Mapping):
        if given.get("until") != "decided" or not given.keys() <= {"until", "max"}:
            raise ValueError(f"must be {{until: decided, max: {MOST_SEEDS}}}, got {dict(given)!r}")
        return read_seeds(given.get("max", MOST_SEEDS))
    if isinstance(given, str) and ("," in given or ".." in given) and re.fullmatch(_LISTED, given):
        parts = [[int(end) for end in part.split("..")] for part in given.split(",") if part.strip()]
        return tuple(seed for part in parts for seed in range(part[0], part[-1] + 1))
    many: object = given
    if isinstance(given, str) and re.fullmatch(r"\s*\d+(\.0*)?([eE]\+?\d)?\s*", given):
        many = float(given)
    if isinstance(many, float) and many.is_integer():
        many = int(many)
    if isinstance(many, int) and not isinstance(many, bool):
        if many < 1:
            raise ValueError(f"must be one seed or more, got {many}")
        return tuple(range(many))
    if isinstance(given, list | tuple):
        return tuple(given)
    raise ValueError(f"must be a number of seeds, a range like 0..9 or a list, got {given!r}")
