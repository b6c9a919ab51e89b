"""Every key of a preset: where it stands, what it may be, what it means; read off the models, for docs and mistakes."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from bncli.catalogue import Key, Meaning, Spelling, range_in_words, written
from bncli.errors import ConfigError, Path, suggest_key


@cache
def annotations_of(model: type[BaseModel]) -> dict[str, Any]:
    """The types of a model's keys, as they are written there."""
    hints = get_type_hints(model, include_extras=True)
    return {name: hints[name] for name in model.model_fields}


def list_keys(model: type[BaseModel]) -> list[Key]:
    """The keys of one model, in its order."""
    found = []
    for name, kind in annotations_of(model).items():
        field = model.model_fields[name]
        meaning = next((each for each in field.metadata if isinstance(each, Meaning)), Meaning(""))
        value = field.get_default(call_default_factory=True)
        of_each = isinstance(value, BaseModel) and not hasattr(value, "name")
        default = "required" if field.is_required() else "that of each key" if of_each else written(value)
        found.append(Key(name, range_in_words(kind), default, meaning.unit, meaning.text))
    return found


def sections(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every place of a preset that holds keys, with its model: "", `training`, `training.augment`, `variants.NAME`."""
    yield place, model
    for name, kind in annotations_of(model).items():
        below, steps = _model_in(kind)
        if below:
            yield from sections(below, ".".join(filter(None, (place, name, *steps))))


def keys_at(root: type[BaseModel], path: Path) -> list[str]:
    """The keys known at a path below `root`; none where anything may be called anything."""
    model: type[BaseModel] | None = root
    rest = list(path)
    while rest and model:
        kind = annotations_of(model).get(str(rest.pop(0)))
        model, steps = _model_in(kind)
        del rest[: len(steps) + _listed(kind)]
    return list(model.model_fields) if model else []


def places_of(root: type[BaseModel]) -> list[str]:
    """Every key with its place, outer ones first: `seeds`, `training.lr`, `variants.NAME.norm`."""
    found = [".".join(filter(None, (place, key))) for place, model in sections(root) for key in model.model_fields]
    return sorted(found, key=lambda key: key.count("."))


def list_sections(models: Mapping[str, type[BaseModel]]) -> dict[str, list[Key]]:
    """The keys of every section of every kind of preset, by its dotted place; those of the first need no prefix.

    Names that a preset makes up are left out: a variant's keys are those of `variants`.
    """
    first, found = next(iter(models)), {}
    for kind, root in models.items():
        for place, model in sections(root):
            parts = [kind] * (kind != first or not place) + [
                part for part in place.split(".") if part not in ("", "NAME")
            ]
            found[".".join(parts)] = list_keys(model)
    return found


def look_up(models: Mapping[str, type[BaseModel]], asked: str) -> list[Key]:
    """What a section holds, or one key, asked for as `training`, `training.lr`, `bench.cases`, `study`.

    Raises:
        ConfigError: if there is none, with the nearest.
    """
    found = list_sections(models)
    first = next(iter(models))
    single = {f"{place}.{key.name}".removeprefix(f"{first}."): [key] for place, keys in found.items() for key in keys}
    known = single | found
    if asked not in known:
        near = suggest_key(asked, [], list(known))
        raise ConfigError(f"no key or section is called {asked!r}{near} (sections: {', '.join(found)})")
    return known[asked]


def _model_in(kind: Any) -> tuple[type[BaseModel] | None, tuple[str, ...]]:
    """The model whose keys a value of this type has, and the names that a preset makes up before them."""
    if get_origin(kind) is Annotated:
        inner, *marks = get_args(kind)
        return (None, ()) if any(isinstance(mark, Spelling) for mark in marks) else _model_in(inner)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind, ()
    for inner in get_args(kind):
        model, steps = _model_in(inner)
        if model:
            return model, ("NAME", *steps) if get_origin(kind) is dict else steps
    return None, ()


def _listed(kind: Any) -> bool:
    """Whether a number stands in a path behind a key of this type."""
    if get_origin(kind) is Annotated:
        return _listed(get_args(kind)[0])
    return get_origin(kind) in (tuple, list)
