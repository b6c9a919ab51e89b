"""What every preset is made of: frozen models, and parts that are a name with options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_serializer

from bncli.catalogue import Catalogue
from bncli.errors import ConfigError, Path, Problem, problems_of
from bncli.norms import NORMS


@dataclass(frozen=True)
class Before:
    """Of a key that is younger than stored runs, in its annotation: the value that means what those did."""

    value: Any


class Frozen(BaseModel):
    """A part of a preset: no unknown keys, no coercion, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Part(Frozen):
    """A name with options, written `name` or `{name: ..., option: ...}`; every option is filled in."""

    name: str
    options: dict[str, Any]

    @model_serializer
    def flat(self) -> dict[str, Any]:
        """As it is written in YAML."""
        return {"name": self.name, **self.options}


def listed(given: object) -> object:
    """A single name where a list of names is expected, as a list."""
    return [given] if isinstance(given, str) else given


def part_of(catalogue: Catalogue[Any], default: str | None = None) -> BeforeValidator:
    """Reads a part of `catalogue`; `default` is the name of one that is given by its options alone."""

    def parse(given: object) -> object:
        if isinstance(given, Part):
            return given
        if isinstance(given, str):
            given = {"name": given}
        if isinstance(given, Mapping) and default:
            given = {"name": default, **given}
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise ConfigError(f"must be a {catalogue.kind}'s name or {{name: ..., option: ...}}, got {given!r}")
        name, options = given["name"], {key: value for key, value in given.items() if key != "name"}
        if ":" in name and name not in catalogue:
            why = "a preset never names code, which is for the command line (FILE.py:NAME) and for plug-ins"
            raise ConfigError(f"no {catalogue.kind} is called {name!r}: {why}")
        return Part(name=name, options=catalogue.options(name, options))

    return BeforeValidator(parse)


NormPart = Annotated[Part, part_of(NORMS)]
M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], given: Any, keys_at: Callable[[Path], list[str]], prefix: Path = ()) -> M:
    """`given` as a `model`.

    Args:
        model: a frozen model.
        given: a plain tree.
        keys_at: the keys known at a path and near it, for suggestions.
        prefix: where `given` stands.

    Raises:
        ConfigError: with every problem that was found.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = problems_of(error.errors(), keys_at)
        raise ConfigError(*(Problem(prefix + p.path, p.message) for p in found)) from None
