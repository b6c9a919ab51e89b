"""What every part of a study is made of: frozen data, and names with options out of a catalogue."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_serializer

from bncli.catalogue import Catalogue
from bncli.errors import ConfigError


class Frozen(BaseModel):
    """Plain data that is checked when it is made and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Part(Frozen):
    """A name with options, written `name` or `{name: ..., option: ...}`; every option is filled in."""

    name: str
    options: dict[str, Any]

    @model_serializer
    def flat(self) -> dict[str, Any]:
        """As it is written in YAML."""
        return {"name": self.name, **self.options}


def part_of(catalogue: Catalogue[Any], default: str | None = None) -> BeforeValidator:
    """Read a name with options against a catalogue; without a name it is `default`."""

    def parse(given: object) -> object:
        if isinstance(given, Part):
            return given
        if isinstance(given, str):
            given = {"name": given}
        if isinstance(given, Mapping) and default:
            given = {"name": default, **given}
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise ConfigError(f"must be a {catalogue.kind}'s name or {{name: ..., option: ...}}, got {given!r}")
        options = {key: value for key, value in given.items() if key != "name"}
        return Part(name=given["name"], options=catalogue.options(given["name"], options))

    return BeforeValidator(parse)
