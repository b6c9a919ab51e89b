"""What an inspection says of the norms of a model, before and after a replacement."""

import json

import pytest
import torch
from torch import nn

import bncli
from bncli.errors import ConfigError
from bncli.norms import NORMS

MIXED = {"switchable", "switchable-whitening", "evonorm-b0", "online"}  # several kinds of statistics


def model():
    layers = (
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 4),
        nn.LayerNorm(4),
    )
    return nn.Sequential(*layers)


X = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_sizes_operations_and_outputs_are_said_before_and_after():
    found = bncli.inspect_model(model(), "group", inputs=X, where="1", groups=2)
    batch, layer = found.rows
    assert (batch.old, batch.new, layer.old, layer.new) == ("BatchNorm2d", "group", "LayerNorm", "")
    assert layer.reason == "not chosen"
    assert (batch.before.parameters, batch.before.buffers, batch.after.parameters, batch.after.buffers) == (
        16,
        16,
        16,
        0,
    )
    assert batch.before.shape == batch.after.shape == (5, 8, 2, 2)
    assert batch.before.operations == 8 * 5 * 8 * 2 * 2
    assert batch.before.mean == pytest.approx(0, abs=1e-6)
    assert batch.after.std == pytest.approx(1, abs=1e-2)
    assert (found.before.parameters, found.after.parameters) == (216 + 16 + 32 * 4 + 4 + 8, 216 + 16 + 32 * 4 + 4 + 8)
    products = 2 * 5 * 8 * 4 * 27 + 2 * 5 * 32 * 4
    assert found.before.operations == products + 8 * 5 * 32 + 5 * 32 + 8 * 5 * 4  # norm, ReLU, norm
    assert json.loads(json.dumps(found.document()))["rows"][0]["after"]["averages_over"] == 16


OVER = {  # of (5, 8, 2, 2): N = 5, C = 8, P = 4
    "batch": 20, "group": 16, "layer": 32, "rms": 32, "instance": 4, "none": 0, "dyt": 0, "ghost": 8, "zca": 20,
    "evonorm-s0": 16, "frn": 4, "instance-whitening": 4,
}  # fmt: skip


@pytest.mark.parametrize("name", OVER)
def test_how_many_values_a_norm_averages_over(name):
    options = {"groups": 2} if "groups" in NORMS[name].options else {"ghost_size": 2} if name == "ghost" else {}
    found = bncli.inspect_model(model(), name, inputs=X, where="1", **options)
    assert found.rows[0].before.averages_over == 20
    assert found.rows[0].after.averages_over == OVER[name]
    assert found.rows[1].before.averages_over == 4


@pytest.mark.parametrize(
    "name", [n for n, row in NORMS.items() if row.side == "activation" and n not in {"frozen", *MIXED}]
)
def test_every_norm_says_how_many_values_it_averages_over(name):
    found = bncli.inspect_model(model(), name, inputs=X, where="1")
    assert found.rows[0].after.averages_over is not None
    assert found.rows[0].after.operations > 0 or name == "none"


def test_without_inputs_they_are_guessed_and_said():
    found = bncli.inspect_model(nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)))
    assert (found.to, found.after, found.guessed, found.inputs) == ("", None, True, ((2, 3, 256),))
    assert found.rows[0].before.shape == (2, 8, 254)


def test_what_cannot_be_called_is_inspected_as_far_as_it_goes():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.layer = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, a, b):
            return self.norm(a) + self.layer(b)

    found = bncli.inspect_model(Two(), "rms")
    assert found.rows[0].before == bncli.inspect_model(Two()).rows[0].before
    assert (found.rows[0].before.operations, found.rows[0].after.parameters, found.inputs) == (None, 4, ())


def test_an_inspection_leaves_the_model_as_it_was():
    looked = model()
    state = {name: value.clone() for name, value in looked.state_dict().items()}
    before = torch.get_rng_state()
    bncli.inspect_model(looked, "batch", inputs=X)
    assert all(torch.equal(value, state[name]) for name, value in looked.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)
    assert type(looked[1]) is nn.BatchNorm2d


def test_what_cannot_be_replaced_is_said_with_its_reason():
    found = bncli.inspect_model(model(), "instance", inputs=X)
    assert found.rows[0].new == "instance"
    assert "a single location of each example" in found.rows[1].reason


def test_inputs_that_the_model_does_not_take_are_refused():
    with pytest.raises(ConfigError, match=r"^the model does not run on the inputs given: RuntimeError: "):
        bncli.inspect_model(model(), inputs=torch.randn(2, 5, 4, 4))
    with pytest.raises(ConfigError, match=r"^the model has no norm$"):
        bncli.inspect_model(nn.Linear(3, 3))
