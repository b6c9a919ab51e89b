"""Names and what they stand for: rows of lazy strings, so that listing or checking a name imports no torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from operator import attrgetter
from types import UnionType
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from bncli.errors import ConfigError, problems_of, unknown


@dataclass(frozen=True)
class Meaning:
    """What a key of a preset means, in its annotation, with the unit of a quantity: documentation is made of it."""

    text: str
    unit: str = ""

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        """The schema of the key with what it means."""
        return {**handler(core), "description": f"{self.text} [{self.unit}]" if self.unit else self.text}


@dataclass(frozen=True, eq=False)
class Spelling:
    """Of a type that is written in a form, or several, of its own: which, in words and as JSON Schema."""

    words: str
    schema: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        """What is written, whatever it becomes."""
        return dict(self.schema)


def _whole(given: Any) -> Any:
    """A number without a fraction, however it is written: 1e3 is 1000."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


WHOLE = BeforeValidator(_whole)  # of an int, after its range
MOST = 10**9  # of anything that is counted: nothing sensible lies beyond
LARGEST = 1e30  # of a number: float32 holds it, and its square where it is a divisor
Natural = Annotated[int, Field(ge=0, le=MOST), WHOLE]
Count = Annotated[int, Field(ge=1, le=MOST), WHOLE]
Pixels = Annotated[int, Field(ge=1, le=8_192), WHOLE]  # of a side of an image
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, Field(gt=0, le=1)]


STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # of options: what plain JSON can hold


class Always:
    """Of an option or a key: it is part of every run's id."""


@dataclass(frozen=True)
class Option:
    """One option of a row: its type with range (as pydantic reads it), its default, what it means."""

    type: Any
    default: Any
    meaning: str
    unit: str = ""  # of a quantity, in words
    # of an option that is younger than stored runs: the value that means what those did; it enters no id
    before: Any = Always
    # of an option that says where something lies and not what it is, which enters no id: a path, or another name
    place: Literal["", "path", "name"] = ""

    def range(self) -> str:
        """What the option may be, in words: `number > 0`, `coupled or paper`."""
        return range_in_words(self.type)


@dataclass(frozen=True)
class Key:
    """One key of a preset, or one option of a part, in words."""

    name: str
    range: str  # what it may be: `whole number >= 1`
    default: str  # as a preset has it; `required` where there is none
    unit: str  # of a quantity; "" of anything else
    meaning: str


@dataclass(frozen=True)
class Row:
    """One entry: where its code lives ("module:attribute"), one line about it, the options it takes."""

    target: str
    summary: str
    options: Mapping[str, Option] = field(default_factory=dict)
    numerics: int = 2  # raised when the same options give other numbers: runs stored before are then not used
    lanes: bool = field(default=True, kw_only=True)  # runs under torch.func.vmap
    traced: bool = field(default=True, kw_only=True)  # what changes from step to step is in tensors, changed in place
    origin: str = field(default="bncli", kw_only=True)  # who brings it: bncli, a plug-in's file, a package and version
    code: str = field(default="", kw_only=True)  # hash of the plug-in that brings it; what is bncli's counts by name
    adapter: str = field(default="", kw_only=True)  # "module:attribute" that makes our target of a plug-in's function

    def list_options(self) -> list[Key]:
        """Its options in words."""
        found = self.options.items()
        return [Key(key, each.range(), written(each.default), each.unit, each.meaning) for key, each in found]


R = TypeVar("R", bound=Row)


class Catalogue(Mapping[str, R], Generic[R]):
    """Rows by name, bncli's own and those of plug-ins; a wrong name is answered with the nearest right one.

    Listing names reads nothing but what is registered; only a name that is not among them has `installed` look into
    installed packages, once.
    """

    installed: ClassVar[Callable[[], Sequence[str]]] = staticmethod(lambda: ())
    """Registers the plug-ins of installed packages and says which cannot be used; set by `bncli.plugins`."""

    def __init__(
        self, kind: str, rows: Mapping[str, R], derived: "tuple[Catalogue[Any], Callable[[str, Any], R]] | None" = None
    ) -> None:
        """`derived` is another catalogue, and what a row that is added to it is here."""
        self.kind = kind
        self.own: dict[str, R] = dict(rows)
        self.added: dict[str, R] = {}
        self._unfinished: dict[str, Callable[[], R]] = {}
        self._derived = derived

    def add(self, name: str, row: R, finish: Callable[[], R] | None = None) -> None:
        """Add a plug-in's row, or one that `finish` replaces when the name is first looked up."""
        self.added[name] = row
        if finish:
            self._unfinished[name] = finish

    def discard(self, name: str) -> None:
        """Take back what `add` did."""
        self.added.pop(name, None)
        self._unfinished.pop(name, None)

    def listed(self) -> Iterator[tuple[str, R]]:
        """Names and rows for a listing: a row that is not finished stays as it is, so that no data set is loaded."""
        yield from {**self.own, **self.added}.items()
        if self._derived:
            catalogue, derive = self._derived
            yield from ((name, derive(name, row)) for name, row in catalogue.added.items())

    def __getitem__(self, name: str) -> R:
        if name in self.own:
            return self.own[name]
        problems = () if name in self else Catalogue.installed()
        if name not in self and (":" in name or name.endswith(".py")):
            how = f"--{self.kind} FILE.py:NAME" if self.kind in ("model", "loss", "task") else "--plugin FILE.py"
            raise ConfigError(f"{self.kind} {name!r}: a preset cannot name code; give it by the command line, {how}")
        if name not in self:
            raise ConfigError("; ".join([unknown(self.kind, name, self), *problems]))
        if name in self._unfinished:
            self.added[name] = self._unfinished[name]()
            del self._unfinished[name]
        if name in self.added or self._derived is None:
            return self.added[name]
        catalogue, derive = self._derived
        return derive(name, catalogue[name])

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.added or bool(self._derived and name in self._derived[0].added)

    def __iter__(self) -> Iterator[str]:
        return iter([*self.own, *self.added, *(self._derived[0].added if self._derived else ())])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def load(self, name: str) -> Any:
        """Import what `name` stands for; this is where torch comes in.

        Raises:
            ConfigError: if a plug-in's row points nowhere.
        """
        row = self[name]
        try:
            found = resolve(row.target)
        except (ImportError, AttributeError, LookupError) as error:
            if row.origin == "bncli":
                raise
            raise ConfigError(
                f"plug-in {row.origin}: {self.kind} {name!r}: its target {row.target!r} is not there ({error})"
            ) from None
        return resolve(row.adapter)(name, found, row) if row.adapter else found

    def changed(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are not at their defaults."""
        known = self[name].options
        return {key: value for key, value in options.items() if value != known[key].default}

    def options(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given`, checked and with the defaults filled in.

        Raises:
            ConfigError: with every unknown, mistyped or out-of-range option.
        """
        model = options_model(self.kind, name, self[name].options)
        try:
            return model.model_validate(dict(given)).model_dump(mode="json", by_alias=True)
        except ValidationError as error:
            known = self[name].options
            raise ConfigError(*problems_of(error.errors(), lambda path: () if path else known)) from None


def resolve(target: str) -> Any:
    """Import "module:attribute", or "module:TABLE[name]" of a plug-in's table."""
    module, _, attribute = target.partition(":")
    attribute, bracket, key = attribute.partition("[")
    found = attrgetter(attribute)(import_module(module))
    return found[key.removesuffix("]")] if bracket else found


def options_model(kind: str, name: str, options: Mapping[str, Option]) -> type[BaseModel]:
    """The options of a row as a pydantic model, which reads them by alias."""
    return _options_model(kind, name, tuple(options.items()))


@cache
def _options_model(kind: str, name: str, options: tuple[tuple[str, Option], ...]) -> type[BaseModel]:
    # by alias, as an option may be called like something of pydantic's own: model_config, json
    fields: dict[str, Any] = {
        f"option_{n}": (Annotated[option.type, Field(alias=key), Meaning(option.meaning, option.unit)], option.default)
        for n, (key, option) in enumerate(options)
    }
    return create_model(f"{kind} {name}", __config__=STRICT, **fields)


_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null"}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def range_in_words(kind: Any) -> str:
    """What a type, as pydantic reads it, may be: `whole number >= 1`, `list of text or null`."""
    if get_origin(kind) is Annotated:
        inner, *limits = get_args(kind)
        if forms := [limit.words for limit in limits if isinstance(limit, Spelling)]:
            return forms[-1]
        found = [limit for field in limits for limit in getattr(field, "metadata", ())]
        ends = [(sign, getattr(b, key)) for b in found for key, sign in _SIGNS.items() if hasattr(b, key)]
        bounds = [f"{sign} {end:g}" for sign, end in ends if sign != "<=" or end < MOST]
        return " ".join([range_in_words(inner), " and ".join(bounds)]).strip()
    if get_origin(kind) is Literal:
        return " or ".join(
            str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in get_args(kind)
        )
    if get_origin(kind) in (UnionType, Union):
        return " or ".join(range_in_words(part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        several = f"{len(rest) + 1} of " if ... not in rest else ""
        return f"list of {several}{range_in_words(first)}"
    if get_origin(kind) is dict:
        return f"{{NAME: {range_in_words(get_args(kind)[1])}}}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "keys"
    return _KINDS.get(kind, "see its meaning")


def written(value: Any) -> str:
    """A value as a preset has it; of a part its name."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
        value = value.get("name", value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {written(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"
