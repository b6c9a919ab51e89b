"""Rows for what a plug-in gives as a mere function: options from its signature, and honest defaults for the rest."""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from bncli.catalogue import Catalogue, Option, Row
from bncli.data import DataRow
from bncli.errors import ConfigError, did_you_mean
from bncli.models.foreign import SIZES, WHOLE
from bncli.models.rows import ModelRow, guess_layers
from bncli.norms.rows import NormRow
from bncli.optim import WARMUP, LossRow
from bncli.shift.rows import MetricRow

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")  # no colon and no slash: a preset cannot name code
_OURS = ("device", "dtype")  # of a norm or a model: where it is, not what it is
_ADAPTERS = "bncli.plugins.adapters"


@dataclass(frozen=True)
class PluginEntry:
    """One name of a plug-in: its row, and what completes the row when the name is first looked up."""

    table: str
    name: str
    row: Row
    finish: Callable[[], Row] | None = None


@dataclass(frozen=True)
class _Given:
    """A function that came without a row."""

    target: str
    function: Callable[..., Any]
    parameters: Mapping[str, inspect.Parameter]
    what: str  # "plug-in my.py: norm 'mine'"
    foreign: bool = False  # not written for bncli: what no preset can hold keeps its default

    def row(self, of: type[Any], taken: Sequence[str], **fields: Any) -> Any:
        """A row whose options are the parameters that are not `taken` by what bncli gives."""
        doc = inspect.getdoc(self.function) or ""
        meanings = _meanings("\n".join([doc, inspect.getdoc(getattr(self.function, "__init__", None)) or ""]))
        options = {}
        for name, parameter in self.parameters.items():
            if name in taken or name.startswith("_") or parameter.kind in _STARS:
                continue
            try:
                options[name] = _option(parameter, meanings.get(name, ""), self.what)
            except ConfigError:
                if not self.foreign or parameter.default is parameter.empty:
                    raise
        summary = doc.partition("\n")[0].strip().rstrip(".") or "(its function has no docstring)"
        return of(self.target, summary, options, **fields)

    def first(self, least: int, most: int, expected: str) -> list[str]:
        """Names of the parameters that come first and have no default."""
        names = [n for n, p in self.parameters.items() if p.kind in _PLACES and p.default is p.empty]
        if not least <= len(names) <= most:
            raise ConfigError(f"{self.what}: {expected}, got {_written(self.parameters)}")
        return names

    def needs(self, expected: str, *alternatives: tuple[str, ...]) -> None:
        """Refuse a function that lacks one of these parameters."""
        if not all(any(name in self.parameters for name in names) for names in alternatives):
            raise ConfigError(f"{self.what}: {expected}, got {_written(self.parameters)}")


_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_PLACES = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _norm(given: _Given) -> NormRow:
    places = [name for name, p in given.parameters.items() if p.kind in _PLACES][:1]
    if not places:
        raise ConfigError(f"{given.what}: must take the channels first, got {_written(given.parameters)}")
    row: NormRow = given.row(
        NormRow, [*places, *_OURS], family="plug-in", citation="", formula="", over="", evaluation="unknown",
        parameters="?", buffers="?", batch_statistics=True, lanes=False, traced=False,
    )  # fmt: skip
    return row


def _model(given: _Given) -> ModelRow:
    """With a parameter `norm`, a network that takes norms; else one that has its own, which are replaced."""
    whole = "norm" not in given.parameters
    places = ("norm", "shape", "features", "outputs", "classes")
    if not whole:
        given.needs("must take shape or features, outputs or classes, and norm", places[1:3], places[3:])
    row: ModelRow = replace(given, foreign=whole).row(
        ModelRow, [*(SIZES if whole else places), *_OURS], sizes=guess_layers, text=lambda options, shape, layers: "",
        locations=whole or "shape" in given.parameters, lanes=False, traced=False, whole=whole,
        adapter="bncli.models.build:adapt_whole" if whole else f"{_ADAPTERS}:adapt_model",
    )  # fmt: skip
    return replace(row, options={**row.options, **WHOLE}) if whole else row


def _data(given: _Given) -> DataRow:
    given.needs("must take the keyword device", ("device",))
    row: DataRow = given.row(DataRow, ["device"], adapter=f"{_ADAPTERS}:adapt_data")
    return row


def _metric(given: _Given) -> MetricRow:
    samples = given.first(1, 2, "must take one sample, or two of the same examples")
    row: MetricRow = given.row(
        MetricRow, samples, kind="pair" if len(samples) == 2 else "sample", per="unit", unit="", low=-math.inf,
        formula="", citation="", adapter=f"{_ADAPTERS}:adapt_metric",
    )  # fmt: skip
    return row


def _optimizer(given: _Given) -> Row:
    row: Row = given.row(Row, (), lanes=False, traced=False, adapter=f"{_ADAPTERS}:adapt_optimizer")
    return row


def _schedule(given: _Given) -> Row:
    given.needs("must take step and steps", ("step",), ("steps",))
    row: Row = given.row(Row, ("step", "steps"))
    return row


def _task(given: _Given) -> Row:
    places = [name for name, p in given.parameters.items() if p.kind in _PLACES][:1]
    if not places or given.parameters[places[0]].default is not inspect.Parameter.empty:
        raise ConfigError(f"{given.what}: must take run first, without a default, got {_written(given.parameters)}")
    row: Row = given.row(Row, places, lanes=False, traced=False)
    return row


def _loss(given: _Given) -> LossRow:
    row: LossRow = given.row(
        LossRow, given.first(2, 2, "must take outputs and targets"), unit="", lanes=False, traced=False
    )
    return row


def _any(given: _Given) -> Row:
    row: Row = given.row(Row, given.first(0, 99, ""))
    return row


@dataclass(frozen=True)
class _Kind:
    """One of the tables that a plug-in may have."""

    module: str  # whose catalogue of the same name it adds to
    row: Callable[[_Given], Row]
    finish: str = ""  # "module:attribute" of what measures the fields that no function tells
    always: Mapping[str, Option] = field(default_factory=dict)  # options that every row has, given or not
    flag: str = "--plugin"  # by which a command line names one alone


KINDS = {
    "NORMS": _Kind("bncli.norms", _norm),
    "MODELS": _Kind("bncli.models", _model, flag="--model"),
    "DATASETS": _Kind("bncli.data", _data, f"{_ADAPTERS}:measure_data"),
    "METRICS": _Kind("bncli.shift", _metric, f"{_ADAPTERS}:measure_metric"),
    "OPTIMIZERS": _Kind("bncli.optim", _optimizer),
    "SCHEDULES": _Kind("bncli.optim", _schedule, always=WARMUP),
    "LOSSES": _Kind("bncli.optim", _loss, flag="--loss"),
    "TASKS": _Kind("bncli.tasks", _task, flag="--task"),
    "EXECUTORS": _Kind("bncli.executors", _any),
}


def catalogue(table: str) -> Catalogue[Any]:
    """The catalogue that a table of a plug-in adds to."""
    found: Catalogue[Any] = getattr(import_module(KINDS[table].module), table)
    return found


def read_tables(module: Any, origin: str, code: str, what: str) -> list[PluginEntry]:
    """Every name that a plug-in's module adds, with its row.

    Raises:
        ConfigError: if it has no table, or something in one that is neither a row nor a function.
    """
    tables = {table: vars(module)[table] for table in KINDS if table in vars(module)}
    if not tables:
        near = next((hint for name in vars(module) if name.isupper() and (hint := did_you_mean(name, KINDS))), "")
        raise ConfigError(f"{what}: has none of {', '.join(KINDS)}{near or '; NORMS = {name: function} is one'}")
    found = []
    for table, values in tables.items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"{what}: {table} must be a dictionary {{name: function or row}}, got {_short(values)}")
        for name, value in values.items():
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise ConfigError(f"{what}: {table}: a name has letters, digits and _ . + - only, got {name!r}")
            target = f"{module.__name__}:{table}[{name}]"
            found.append(read_entry(table, name, value, target, (origin, code), what))
    return found


def read_entry(table: str, name: str, value: Any, target: str, whose: tuple[str, str], what: str) -> PluginEntry:
    """What a plug-in gives for one name of a table, with its row.

    Args:
        table: "NORMS".
        name: that the catalogue is to have.
        value: a row, or a function.
        target: where the value is found again: "module:attribute" or "module:TABLE[name]".
        whose: the plug-in's origin and the hash of its code.
        what: begins the messages: "plug-in my.py".

    Raises:
        ConfigError: if it is neither a row nor a function that can be one.
    """
    kind, known, (origin, code) = KINDS[table], catalogue(table), whose
    here = f"{what}: {known.kind} {name!r}"
    if isinstance(value, Row):
        wanted = type(next(iter(known.own.values()), value))
        if not isinstance(value, wanted):
            raise ConfigError(f"{here}: must be a {wanted.__name__} or a function, got a {type(value).__name__}")
        targets = {key: getattr(value, key, "") for key in ("target", "describe", "fetch")}
        module = target.partition(":")[0]
        here_in: dict[str, Any] = {key: f"{module}{text}" for key, text in targets.items() if text.startswith(":")}
        options = {key: _checked(f"{here}: option {key!r}", option) for key, option in value.options.items()}
        row = replace(value, **here_in, options={**options, **kind.always}, origin=origin, code=code)
        return PluginEntry(table, name, row)
    if not callable(value):
        raise ConfigError(f"{here}: must be a function or a row, got {_short(value)}")
    given = _Given(target, value, _parameters(value, here), here)
    made = kind.row(given)
    row = replace(made, options={**made.options, **kind.always}, origin=origin, code=code)
    if not kind.finish:
        return PluginEntry(table, name, row)
    module_of, _, attribute = kind.finish.partition(":")
    return PluginEntry(table, name, row, lambda: getattr(import_module(module_of), attribute)(name, value, row))


def _parameters(function: Callable[..., Any], what: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function, eval_str=True).parameters
    except (NameError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"{what}: its annotations cannot be read ({error}); import what they name") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: its parameters cannot be read ({error}); give it a row") from None


def _option(parameter: inspect.Parameter, meaning: str, what: str) -> Option:
    """A parameter as an option of a preset.

    Raises:
        ConfigError: if it has no default, or a type that no preset can hold.
    """
    here, default = f"{what}: parameter {parameter.name!r}", parameter.default
    if default is parameter.empty:
        raise ConfigError(f"{here}: has no default; what bncli does not give must have one")
    try:
        kind = _type(_of_value(default) if parameter.annotation is parameter.empty else parameter.annotation)
    except (TypeError, IndexError):  # a bare List has nothing inside
        written = inspect.formatannotation(parameter.annotation)
        said = f"the default {default!r}" if parameter.annotation is parameter.empty else f"the type {written}"
        raise ConfigError(
            f"{here}: no preset can hold {said}; annotate it as bool, int, float, str, Literal or a tuple of these,"
            " or begin its name with _"
        ) from None
    return _checked(here, Option(kind, default, meaning))


def _checked(here: str, option: Option) -> Option:
    """An option whose default is one of its values, as they are stored: 1.0 for a float, a tuple for a list.

    Raises:
        ConfigError: if it is not.
    """
    try:
        adapter = TypeAdapter[Any](option.type, config=ConfigDict(strict=True, allow_inf_nan=False))
        return replace(option, default=_tuples(adapter.validate_python(option.default)))
    except (ValidationError, OverflowError):
        raise ConfigError(
            f"{here}: its default must be {option.range()} that a preset can hold, got {option.default!r:.60}"
        ) from None


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _of_value(default: Any) -> Any:
    if default is None:
        raise TypeError
    if isinstance(default, list | tuple) and default and len({type(item) for item in default}) == 1:
        return tuple[type(default[0]), ...]  # type: ignore[misc]
    return type(default)


def _type(annotation: Any) -> Any:
    """An annotation as pydantic is to read it: strictly, but for lists, which YAML has and tuples are read from.

    Raises:
        TypeError: for one that plain YAML cannot hold.
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in (bool, int, float, str, None, NoneType) or origin is Literal:
        return annotation
    if origin is Annotated:
        return Annotated[(_type(inner[0]), *inner[1:])]
    if origin in (Union, UnionType):
        return Union[tuple(_type(part) for part in inner)]  # noqa: UP007 - made of a list
    if origin in (list, Sequence):
        return Annotated[tuple[_type(inner[0]), ...], Field(strict=False)]  # type: ignore[misc]
    if origin is tuple:
        return Annotated[tuple[tuple(p if p is ... else _type(p) for p in inner)], Field(strict=False)]  # type: ignore[misc]
    raise TypeError


_ARGUMENT = re.compile(r"^ +(\w+)(?: \([^)]*\))?: +(\S.*)$")


def _meanings(doc: str) -> dict[str, str]:
    """What a docstring says of each argument: lines `name: meaning` of its part "Args:", as Google writes them."""
    found, inside, last = dict[str, str](), False, ""
    for line in doc.splitlines():
        if line.strip() in ("Args:", "Arguments:"):
            inside, depth = True, 0
        elif inside and line.strip() and not line.startswith(" "):
            inside = False
        elif inside and (match := _ARGUMENT.match(line)) and (not found or len(line) - len(line.lstrip()) <= depth):
            last, depth = match[1], len(line) - len(line.lstrip())
            found[last] = match[2]
        elif inside and last and line.strip():
            found[last] += f" {line.strip()}"
    return {name: text.rstrip(".") for name, text in found.items()}


def _written(parameters: Mapping[str, inspect.Parameter]) -> str:
    return f"({', '.join(parameters)})"


def _short(value: object) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 60 else text[:57] + "..."
