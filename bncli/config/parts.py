"""What every preset is made of: frozen models, and parts that are a name with options."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_serializer

from bncli.catalogue import Catalogue, Spelling
from bncli.config.keys import keys_at, places_of
from bncli.errors import ConfigError, Path, Problem, problems_of
from bncli.norms import NORMS


@dataclass(frozen=True)
class Listed:
    """Of a list whose single value may be written without the brackets: how it is documented."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        """A list, or one item of it."""
        listed = handler(core)
        return {"anyOf": [listed, listed["items"]]}


def _each_once(given: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(given)) < len(given):
        raise ValueError(f"each counts once, got {list(given)}")
    return given


ONCE = AfterValidator(_each_once)  # of a list whose repeated values would be computed or shown twice


@dataclass(frozen=True)
class Before:
    """Of a key that is younger than stored runs, in its annotation: the value that means what those did."""

    value: Any


class Frozen(BaseModel):
    """A part of a preset: no unknown keys, no coercion, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


DEFINED = "defined as"  # in a JSON schema, of what docs/generate.py defines: its name


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


def part_of(catalogue: Catalogue[Any], default: str | None = None) -> tuple[BeforeValidator, Spelling]:
    """What reads a part of `catalogue`; `default` is the name of one that is given by its options alone."""

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
        return Part(name=name, options=catalogue.options(name, options))

    words = f"name of {'an' if catalogue.kind[0] in 'aeio' else 'a'} {catalogue.kind}, or {{name: NAME, OPTION: value}}"
    return BeforeValidator(parse), Spelling(words, {DEFINED: catalogue.kind})


NormPart = Annotated[Part, *part_of(NORMS)]
M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], given: Any, prefix: Path = ()) -> M:
    """`given` as a `model`.

    Args:
        model: a frozen model.
        given: a plain tree.
        prefix: where `given` stands.

    Raises:
        ConfigError: with every problem that was found.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = problems_of(error.errors(), partial(keys_at, model), places_of(model))
        raise ConfigError(*(Problem(prefix + p.path, p.message) for p in found)) from None
