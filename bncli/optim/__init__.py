"""Losses, optimisers and learning-rate schedules: rows of strings, no torch."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from bncli.catalogue import Catalogue, Count, Fraction, Natural, Option, Positive, Row

Momentum = Annotated[float, Field(ge=0, lt=1)]

_ADAM = {
    "beta1": Option(Momentum, 0.9, "decay of the gradient's average", "share a step"),
    "beta2": Option(Momentum, 0.999, "decay of the squared gradient's average", "share a step"),
    "eps": Option(Positive, 1e-8, "added to the root of the second moment", "gradient"),
}


@dataclass(frozen=True)
class LossRow(Row):
    """A loss's row: a function of outputs (N, K) and targets, (N,) classes or (N, K) numbers, that gives its mean."""

    unit: str = ""
    classes: bool = False  # it needs classes


LOSSES: Catalogue[LossRow] = Catalogue("loss", {
    "cross_entropy": LossRow(
        "bncli.optim.losses:cross_entropy", "of classes: minus the logarithm of the right one's probability",
        unit="nats", classes=True,
    ),
    "squared_error": LossRow(
        "bncli.optim.losses:squared_error", "mean of squared differences; a class is 1 where it is right, else 0",
        unit="squared error",
    ),
})  # fmt: skip

OPTIMIZERS: Catalogue[Row] = Catalogue("optimizer", {
    "sgd": Row(
        "bncli.optim.optimizers:SGD", "stochastic gradient descent",
        {
            "momentum": Option(Momentum, 0.0, "weight of the old velocity", "share"),
            "nesterov": Option(bool, False, "look ahead along the velocity"),
        },
    ),
    "adam": Row("bncli.optim.optimizers:ADAM", "Adam; weight decay is added to the gradient", _ADAM),
    "adamw": Row("bncli.optim.optimizers:ADAMW", "Adam with decoupled weight decay", _ADAM),
})  # fmt: skip

WARMUP = {"warmup": Option(Natural, 0, "even rise before it begins", "steps")}
_EVERY = {
    "every": Option(Count, 10_000, "until the rate is `factor` times what it was", "steps"),
    "factor": Option(Fraction, 0.1, "what the rate is multiplied by in that time", "factor"),
}

SCHEDULES: Catalogue[Row] = Catalogue("schedule", {
    "constant": Row("bncli.optim.optimizers:constant", "the learning rate as it is", WARMUP),
    "step": Row("bncli.optim.optimizers:steps", "falls by a factor at once, every so many steps", _EVERY | WARMUP),
    "exponential": Row(
        "bncli.optim.optimizers:exponential", "falls by a factor in so many steps, a little each step",
        {
            **_EVERY,
            "faster": Option(
                Positive, 1.0,
                "how many times faster; 6 in section 4.2.1 of Ioffe & Szegedy 2015", "factor"
            ),
            **WARMUP,
        },
    ),
    "cosine": Row(
        "bncli.optim.optimizers:cosine", "half a cosine down to a final fraction at the last step",
        {"final": Option(Annotated[float, Field(ge=0, le=1)], 0.0, "of the rate, at the end", "share"), **WARMUP},
    ),
})  # fmt: skip
