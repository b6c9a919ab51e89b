"""Networks that take a norm factory: what there is, and what a study must know of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bncli.catalogue import Catalogue, Count, Option, Row


def _initialisation(given: Any) -> Any:
    if given in ("he", "glorot"):
        return given
    if isinstance(given, dict) and list(given) == ["normal"] and isinstance(given["normal"], int | float):
        if given["normal"] > 0:
            return {"normal": float(given["normal"])}
        raise ValueError(f"normal must be > 0, got {given['normal']}")
    raise ValueError(f"must be 'he', 'glorot' or {{normal: STANDARD_DEVIATION}}, got {given!r}")


_ACTIVATION = Literal["sigmoid", "tanh", "relu", "gelu", "identity"]
_INIT = Annotated[Any, BeforeValidator(_initialisation)]
_INIT_MEANING = "weights: he (normal), glorot (uniform) or {normal: standard deviation}; biases start at 0"
_BIAS = Option(Literal["auto", "always"], "auto", "auto leaves a bias out where the norm after it would cancel it")


@dataclass(frozen=True)
class ModelRow(Row):
    """A model's row."""

    widths: Callable[[Mapping[str, Any], int, int], list[int]] = lambda options, features, outputs: []
    """The width of every layer, from the input on: for the study's one-line description and the cost estimate."""

    locations: bool = False  # its norms see (N, C, ...) and not (N, C)
    layers: bool = True  # it has layers with weights before its norms
    residual: bool = False  # it has residual branches


MODELS: Catalogue[ModelRow] = Catalogue("model", {
    "mlp": ModelRow(
        "bncli.models.mlp:MLP", "fully connected: linear, norm, activation for each hidden layer, then linear",
        {
            "hidden": Option(Annotated[tuple[Count, ...], Field(strict=False)], (100, 100, 100), "units per layer"),
            "activation": Option(_ACTIVATION, "sigmoid", "after each norm"),
            "init": Option(_INIT, "glorot", _INIT_MEANING),
            "bias": _BIAS,
        },
        widths=lambda options, features, outputs: [features, *options["hidden"], outputs],
    ),
    "residual-mlp": ModelRow(
        "bncli.models.residual_mlp:ResidualMLP", "linear layers with shortcuts around (norm, activation, linear) twice",
        {
            "width": Option(Count, 100, "units per layer"),
            "blocks": Option(Count, 4, "residual blocks of two linear layers"),
            "activation": Option(_ACTIVATION, "relu", "after each norm"),
            "init": Option(_INIT, "he", _INIT_MEANING),
            "bias": _BIAS,
        },
        widths=lambda options, features, outputs: [
            features, *[options["width"]] * (2 * options["blocks"] + 1), outputs,
        ],
        residual=True,
    ),
    "shift": ModelRow(
        "bncli.models.shift:Shift", "one layer that adds a learned bias, then a norm: Ioffe & Szegedy 2015, section 2",
        widths=lambda options, features, outputs: [features, features],
        layers=False,
    ),
})  # fmt: skip
