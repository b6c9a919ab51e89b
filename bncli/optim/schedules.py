"""Learning-rate schedules: by what the learning rate is multiplied at each step, counted from 0."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from bncli.config import Training
from bncli.optim import SCHEDULES


def factor_of(training: Training) -> Callable[[int], float]:
    """What multiplies the learning rate before step 0, 1, ...

    The first `warmup` steps rise evenly to 1, which the last of them has; the schedule's own steps count from there.
    """
    options: dict[str, Any] = dict(training.schedule.options)
    warmup: int = options.pop("warmup")
    main = partial(SCHEDULES.load(training.schedule.name), steps=training.steps - warmup, **options)
    return lambda step: (step + 1) / warmup if step < warmup else main(step - warmup)


def constant(step: int, steps: int) -> float:
    """1."""
    return 1.0


def steps(step: int, steps: int, every: int, factor: float) -> float:
    """Times `factor` after every so many steps."""
    return float(factor ** (step // every))


def exponential(step: int, steps: int, every: int, factor: float, faster: float) -> float:
    """Times `factor` in every so many steps, a little each step; `faster` = 6 needs a sixth of the steps."""
    return float(factor ** (faster * step / every))


def cosine(step: int, steps: int, final: float) -> float:
    """Half a cosine from 1 to `final`, which would be reached after the last step (Loshchilov & Hutter 2017)."""
    return final + (1 - final) * (1 + math.cos(math.pi * step / steps)) / 2
