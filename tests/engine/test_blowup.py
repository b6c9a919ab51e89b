"""Which layer blew up first, and that looking for it changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from bncli.config import Study
from bncli.engine.log import first_overflows
from bncli.engine.network import Network
from bncli.engine.train import train
from bncli.plan import Job, runs_of

Tiny = Callable[..., Study]


def network(tiny: Tiny, lanes: int) -> Network:
    study = tiny(variants={"batch": "batch"}, reference="batch", seeds=lanes)
    return Network(tuple(runs_of(study, "cpu")), "cpu")


def weights(made: Network) -> list[str]:
    return [name for name in made.parameters if name in made.weights]


@pytest.mark.parametrize("lanes", [1, 3])
def test_an_output_that_overflows_is_the_first_in_the_order_of_layers(tiny: Tiny, lanes: int) -> None:
    made = network(tiny, lanes)
    x = torch.ones(*made.lanes, 40, 784)
    layers = [layer.name for layer in made.layers(torch.ones(40, 784))]
    assert first_overflows(made, x) == [""] * lanes
    with torch.no_grad():
        for name in weights(made)[1:]:
            made.parameters[name].view(lanes, -1)[-1] = 3e38
    assert first_overflows(made, x) == [""] * (lanes - 1) + [layers[1]]


@pytest.mark.parametrize("lanes", [1, 3])
def test_of_parameters_that_are_not_finite_the_last_layer_was_the_first_in_the_gradient(tiny: Tiny, lanes: int) -> None:
    made = network(tiny, lanes)
    layers = [layer.name for layer in made.layers(torch.ones(40, 784))]
    with torch.no_grad():
        for name in weights(made)[:2]:
            made.parameters[name].view(lanes, -1)[0, 3] = torch.nan
    assert first_overflows(made, torch.ones(*made.lanes, 40, 784)) == [layers[1]] + [""] * (lanes - 1)


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_run_that_diverges_says_its_layer_and_the_others_go_on_as_before(tiny: Tiny, lanes: int) -> None:
    model: dict[str, Any] = {"name": "mlp", "hidden": [16, 16], "activation": "relu"}
    calm = tuple(runs_of(tiny(variants={"none": "none"}, model=model, seeds=lanes), "cpu"))
    wild = (*calm[:-1], replace(calm[-1], training=calm[-1].training.model_copy(update={"lr": 1e12})))
    expected, found = train(Job(calm)), train(Job(wild))
    assert found[-1].info.status == "diverged"
    assert found[-1].info.layer in {layer.name for layer in network(tiny, 1).layers(torch.ones(40, 784))}
    assert [run.info.layer for run in found[:-1]] == [""] * (lanes - 1)
    assert [run.records for run in found[:-1]] == [run.records for run in expected[:-1]]
