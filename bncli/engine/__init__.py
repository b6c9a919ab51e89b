"""Runs in, records out: the training engine. This file lists its optimisers and imports no torch."""

from typing import Annotated

from pydantic import Field

from bncli.catalogue import Catalogue, Option, Positive, Row

Momentum = Annotated[float, Field(ge=0, lt=1)]

_ADAM = {
    "beta1": Option(Momentum, 0.9, "decay of the gradient's average"),
    "beta2": Option(Momentum, 0.999, "decay of the squared gradient's average"),
    "eps": Option(Positive, 1e-8, "added to the root of the second moment"),
}

OPTIMIZERS: Catalogue[Row] = Catalogue("optimizer", {
    "sgd": Row(
        "bncli.engine.optimizers:SGD", "stochastic gradient descent",
        {
            "momentum": Option(Momentum, 0.0, "weight of the old velocity"),
            "nesterov": Option(bool, False, "look ahead along the velocity"),
        },
    ),
    "adam": Row("bncli.engine.optimizers:ADAM", "Adam; weight decay is added to the gradient", _ADAM),
    "adamw": Row("bncli.engine.optimizers:ADAMW", "Adam with decoupled weight decay", _ADAM),
})  # fmt: skip
