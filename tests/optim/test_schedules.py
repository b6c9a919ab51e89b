"""Every schedule equals torch's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs

from bncli.config import Study
from bncli.config.study import Training
from bncli.engine.train import Sign, train
from bncli.errors import ConfigError
from bncli.optim.optimizers import factor_of
from bncli.plan import Job, runs_of

Tiny = Callable[..., Study]


def factor_by(recipe: Training) -> Callable[[int], float]:
    return factor_of(recipe.schedule.name, recipe.schedule.options, recipe.steps)


STEPS, LR = 40, 0.3
THEIRS: dict[str, tuple[dict[str, Any], Callable[[Any, int], Any]]] = {
    "constant": ({}, lambda o, steps: theirs.ConstantLR(o, factor=1.0)),
    "step": ({"every": 7, "factor": 0.3}, lambda o, steps: theirs.StepLR(o, 7, 0.3)),
    "cosine": ({"final": 0.05}, lambda o, steps: theirs.CosineAnnealingLR(o, steps, 0.05 * LR)),
    "exponential": (
        {"every": 30, "factor": 0.1, "faster": 6.0}, lambda o, steps: theirs.ExponentialLR(o, 0.1 ** (6 / 30))
    ),
}  # fmt: skip


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.filterwarnings("ignore:The epoch parameter")  # torch's own SequentialLR uses it
def test_a_schedule_equals_torchs_with_and_without_warmup(name: str, warmup: int) -> None:
    options, build = THEIRS[name]
    ours = factor_by(Training(steps=STEPS, schedule={"name": name, "warmup": warmup, **options}))  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=LR)
    scheduler = build(optimizer, STEPS - warmup)
    if warmup:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=LR)
        rise = theirs.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
        scheduler = theirs.SequentialLR(optimizer, [rise, build(optimizer, STEPS - warmup)], [warmup])
    for step in range(STEPS):
        assert LR * ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_decay_six_times_faster_needs_a_sixth_of_the_steps() -> None:
    slow, fast = (
        factor_by(Training(schedule={"name": "exponential", "every": 600, "factor": 0.5, "faster": faster}))  # type: ignore[arg-type]
        for faster in (1.0, 6.0)
    )
    assert fast(100) == pytest.approx(slow(600)) == pytest.approx(0.5)


def test_training_follows_the_schedule_and_says_its_rate(tiny: Tiny) -> None:
    recipe = {"steps": 30, "batch_size": 40, "lr": 0.4, "schedule": {"name": "step", "every": 10, "factor": 0.5}}
    signs: list[Sign] = []
    train(Job(tuple(runs_of(tiny(training=recipe), "cpu")[:3])), signs.append)
    assert [sign.lr for sign in signs] == pytest.approx([0.4, 0.4, 0.2, 0.1])


def test_a_warmup_as_long_as_training_is_a_mistake(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="warmup must be below the 30 steps of training, got 30"):
        tiny(training={"steps": 30, "batch_size": 40, "schedule": {"warmup": 30}})


def test_an_unknown_schedule_is_answered_with_the_nearest(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="did you mean 'cosine'"):
        tiny(training={"schedule": "cosin"})
