"""Every optimiser equals torch.optim's, lane by lane."""

from typing import Any

import pytest
import torch

from bncli.optim import OPTIMIZERS
from bncli.optim.optimizers import SGD, Hyper

THEIRS: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
LR, DECAY, MOMENTUM = [0.1, 0.01, 0.3], [0.0, 0.1, 0.01], [0.0, 0.9, 0.5]


def ours(name: str, start: torch.Tensor, grads: torch.Tensor, options: dict[str, Any], decay: list[float]) -> Any:
    hyper = Hyper(*(torch.tensor(v, dtype=torch.float64) for v in (LR, decay, MOMENTUM)), [any(decay)], options)  # type: ignore[arg-type]
    parameter = start.clone()
    optimizer = OPTIMIZERS.load(name)
    state = optimizer.init([parameter], hyper)
    for grad in grads:
        optimizer.update([parameter], [grad.clone()], state, hyper)
    return parameter


@pytest.mark.parametrize("decay", [[0.0] * 3, DECAY])
@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("sgd", {"nesterov": False}, {}),
        ("sgd", {"nesterov": True}, {}),
        ("adam", {"beta1": 0.8, "beta2": 0.99, "eps": 1e-6}, {"betas": (0.8, 0.99), "eps": 1e-6}),
        ("adamw", {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}, {"betas": (0.9, 0.999), "eps": 1e-8}),
    ],
)
def test_every_lane_equals_torchs_optimiser(
    name: str, options: dict[str, Any], theirs: dict[str, Any], decay: list[float]
) -> None:
    torch.manual_seed(0)
    start, grads = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(20, 3, 4, 5, dtype=torch.float64)
    found = ours(name, start, grads, options, decay)
    for lane in range(3):
        expected = start[lane].clone().requires_grad_()
        more = dict(theirs)
        if name == "sgd":
            more = {"momentum": MOMENTUM[lane], "nesterov": options["nesterov"] and MOMENTUM[lane] > 0}
        optimizer = THEIRS[name]([expected], lr=LR[lane], weight_decay=decay[lane], **more)
        for grad in grads[:, lane]:
            expected.grad = grad.clone()
            optimizer.step()
        torch.testing.assert_close(found[lane], expected.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lanes", [(), (3,)], ids=["plain", "lanes"])
def test_a_parameter_that_is_one_number_is_updated(lanes: tuple[int, ...]) -> None:
    parameter, gradient = torch.ones(lanes), torch.full(lanes, 2.0)
    rate, zero = torch.full(lanes, 0.25), torch.zeros(lanes)
    hyper = Hyper(lr=rate, weight_decay=zero, momentum=zero, decays=[False], options={"nesterov": False})
    SGD.update([parameter], [gradient], SGD.init([parameter], hyper), hyper)
    assert torch.equal(parameter, torch.full(lanes, 0.5))
