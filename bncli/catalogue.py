"""Names and what they stand for: rows of lazy strings, so that listing or checking a name imports no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from bncli.errors import ConfigError, problems_of, unknown

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class Always:
    """Of an option or a key: it is part of every run's id."""


@dataclass(frozen=True)
class Option:
    """One option of a row: its type with range (as pydantic reads it), its default, what it means."""

    type: Any
    default: Any
    meaning: str
    # of an option that is younger than stored runs: the value that means what those did; it enters no id
    before: Any = Always

    def range(self) -> str:
        """What the option may be, in words: `number > 0`, `coupled or paper`."""
        return _range(self.type)


@dataclass(frozen=True)
class Row:
    """One entry: where its code lives ("module:attribute"), one line about it, the options it takes."""

    target: str
    summary: str
    options: Mapping[str, Option] = field(default_factory=dict)
    numerics: int = 2  # raised when the same options give other numbers: runs stored before are then not used


R = TypeVar("R", bound=Row)


class Catalogue(Mapping[str, R], Generic[R]):
    """Rows by name; a wrong name is answered with the nearest right one."""

    def __init__(self, kind: str, rows: Mapping[str, R]) -> None:
        self.kind = kind
        self._rows = dict(rows)

    def __getitem__(self, name: str) -> R:
        if name not in self._rows:
            raise ConfigError(unknown(self.kind, name, self._rows))
        return self._rows[name]

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, name: str) -> Any:
        """Import what `name` stands for; this is where torch comes in."""
        module, _, attribute = self[name].target.partition(":")
        return getattr(import_module(module), attribute)

    def options(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given`, checked and with the defaults filled in.

        Raises:
            ConfigError: with every unknown, mistyped or out-of-range option.
        """
        model = _options_model(self.kind, name, tuple(self[name].options.items()))
        try:
            return model.model_validate(dict(given)).model_dump(mode="json")
        except ValidationError as error:
            known = self[name].options
            raise ConfigError(*problems_of(error.errors(), lambda path: () if path else known)) from None


@cache
def _options_model(kind: str, name: str, options: tuple[tuple[str, Option], ...]) -> type[BaseModel]:
    fields: dict[str, Any] = {key: (option.type, option.default) for key, option in options}
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return create_model(f"{kind} {name}", __config__=config, **fields)


_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null"}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def _range(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        inner, *limits = get_args(kind)
        found = [limit for field in limits for limit in getattr(field, "metadata", ())]
        bounds = [f"{sign} {getattr(b, key):g}" for b in found for key, sign in _SIGNS.items() if hasattr(b, key)]
        return " ".join([_range(inner), " and ".join(bounds)]).strip()
    if get_origin(kind) is Literal:
        return " or ".join(
            str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in get_args(kind)
        )
    if get_origin(kind) in (UnionType, Union):
        return " or ".join(_range(part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {_range(get_args(kind)[0])}"
    return _KINDS.get(kind, "see its meaning")
