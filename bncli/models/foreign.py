"""Networks that bncli did not write, whose norms are replaced: their rows, and what was found out of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Annotated, Any

from pydantic import Field

from bncli.catalogue import Catalogue, Option, Pixels
from bncli.errors import ConfigError, Problem, typed_path
from bncli.models.rows import ModelRow

LISTS = ("torchvision", "timm")  # packages whose models a preset may name: their own lists, and no code
SIZES = (  # parameters of a class or function that are given by the data
    "shape", "features", "in_features", "in_channels", "in_chans", "outputs", "classes", "num_classes", "n_classes",
)  # fmt: skip
Plain = bool | int | float | str | None
_ARGUMENT = Plain | Annotated[list[Plain], Field(strict=False)]

WHOLE: dict[str, Option] = {
    "weights": Option(
        str | None, None, "file of trained weights: a state_dict; null: drawn anew from each seed", place="path"
    ),
    "checksum": Option(str | None, None, "SHA-256 of the weights' file; another is refused; null: of the one there"),
    "sites": Option(str | None, None, "pattern on the paths of the norms that are replaced, layer4.*; null: all"),
    "resize": Option(
        Annotated[tuple[Pixels, Pixels], Field(strict=False)] | None,
        None,
        "[height, width] to which images are resized",
    ),
    "repeat": Option(bool, False, "grey images are given to it as three channels alike"),
}
LISTED: dict[str, Option] = {
    **WHOLE, "arguments": Option(dict[str, _ARGUMENT] | None, None, "keywords for the package's function: {width: 2}"),
}  # fmt: skip
_REFUSED = ("pretrain", "weight", "checkpoint", "cfg", "config", "path", "file", "url", "dir", "scriptable", "progress")


@dataclass(frozen=True)
class NetworkFacts:
    """What a network with some norm in place of its own is like, for one shape of examples: found by building it."""

    parameters: int = 0  # trainable numbers
    seconds: float = 0.0  # of a training step on this machine, one thread, for each example
    norms: tuple[str, ...] = ()  # classes of the norms that were replaced
    functional: tuple[str, ...] = ()  # norms that are no modules, which nothing replaces
    notes: tuple[str, ...] = ()  # what was done to it, in lines
    problem: str = ""  # why it cannot be trained so; "" if it can


class ModelCatalogue(Catalogue[ModelRow]):
    """Models by name; `torchvision:NAME` and `timm:NAME` are those of the packages' own lists."""

    def __init__(self, kind: str, rows: Mapping[str, ModelRow]) -> None:
        super().__init__(kind, rows)
        self._facts: dict[str, NetworkFacts] = {}

    def __getitem__(self, name: str) -> ModelRow:
        package, _, model = name.partition(":")
        return _listed(package) if package in LISTS and model else super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        package, _, model = name.partition(":") if isinstance(name, str) else ("", "", "")
        return bool(package in LISTS and model) or super().__contains__(name)

    def options(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given`, checked, with defaults, and the absolute path and checksum of trained weights.

        Raises:
            ConfigError: with every wrong option, or if there are no such weights.
        """
        options = super().options(name, given)
        for key in options.get("arguments") or ():
            if any(word in key.lower() for word in _REFUSED):
                message = f"{key} may load or download things; trained weights are given by weights: FILE"
                raise ConfigError(Problem(("arguments",), message))
        if not self[name].whole or options["weights"] is None:
            return options
        path = typed_path(options["weights"]).absolute()
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ConfigError(Problem(("weights",), f"{path}: {error.strerror}")) from None
        if options["checksum"] not in (None, found):
            message = f"{path.name} has the checksum {found}, and not {options['checksum']}; leave it out to use it"
            raise ConfigError(Problem(("checksum",), message))
        return {**options, "weights": str(path), "checksum": found}

    def facts(self, key: str) -> NetworkFacts | None:
        """What was found out of a network; None if nothing was yet."""
        return self._facts.get(key)

    def learn(self, key: str, facts: NetworkFacts) -> None:
        """Take down what was found out."""
        self._facts[key] = facts


def facts_from(plain: Mapping[str, Any]) -> NetworkFacts:
    """What `asdict` made of facts, as facts."""
    told: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
    return NetworkFacts(**told)


@cache
def _listed(package: str) -> ModelRow:
    """The row of every model of a package.

    Raises:
        ConfigError: if the package is not installed.
    """
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        raise ConfigError(f"{package} is not installed: pip install {package}") from None
    return ModelRow(
        "bncli.models.build:make_listed", f"a model of {package}'s own list, its norms replaced", LISTED,
        locations=True, lanes=False, traced=False, whole=True, origin=f"{package} {version}",
        code=f"{package} {version}", adapter="bncli.models.build:adapt_listed",
    )  # fmt: skip
