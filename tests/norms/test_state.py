"""Where a norm's parameters and buffers are created, what they are called, and how they start again, as torch's do."""

import copy
import inspect
import sys
import types

import pytest
import torch
from torch import nn
from torch.nn.utils import skip_init

import bncli
from bncli.catalogue import Catalogue
from bncli.models.mlp import ResidualMLP
from bncli.models.unit import Normaliser
from bncli.norms import NORMS, norm, normalise
from bncli.norms.rows import NormRow

ACTIVATION = {name: row for name, row in NORMS.items() if row.side == "activation"}
RUNNING = [name for name, row in ACTIVATION.items() if row.buffers != "0"]
STATE = {  # what saved networks name
    "none": "",
    "batch": "weight bias running_mean running_var num_batches_tracked",
    "batch-mean": "bias running_mean num_batches_tracked",
    "batch-var": "weight bias running_var num_batches_tracked",
    "batch-l1": "weight bias running_mean running_scale num_batches_tracked",
    "ghost": "weight bias running_mean running_var num_batches_tracked",
    "sync": "weight bias running_mean running_var num_batches_tracked",
    "renorm": "weight bias running_mean running_std num_batches_tracked",
    "power": "weight bias running_square control num_batches_tracked",
    "noisy-batch": "weight bias running_mean running_var num_batches_tracked",
    "frozen": "weight bias running_mean running_var num_batches_tracked",
    "detached": "running_mean running_spread num_batches_tracked",
    "layer": "weight bias",
    "rms": "weight",
    "scale": "scale",
    "instance": "weight bias",
    "group": "weight bias",
    "switchable": "mean_weight var_weight weight bias running_mean running_var num_batches_tracked",
    "online": "weight bias running_mean running_var control_scale control_mean",
    "frn": "weight bias tau learned_eps",
    "evonorm-b0": "weight bias v running_var num_batches_tracked",
    "evonorm-s0": "weight bias v",
    "dyt": "alpha weight bias",
    "derf": "alpha shift weight bias",
    "zca": "weight bias running_mean running_cov num_batches_tracked",
    "pca": "weight bias running_mean running_cov num_batches_tracked",
    "zca-cor": "weight bias running_mean running_cov num_batches_tracked",
    "cholesky": "weight bias running_mean running_cov num_batches_tracked",
    "iternorm": "weight bias running_mean running_cov num_batches_tracked",
    "group-whitening": "weight bias",
    "instance-whitening": "weight bias",
    "switchable-whitening": "mean_weight cov_weight weight bias running_mean running_cov num_batches_tracked",
    "deconv": "running_mean running_cov num_batches_tracked",
}
VARIANTS = [
    *((name, {}) for name in ACTIVATION),
    ("batch", {"affine": "shift"}),
    ("batch", {"track_running_stats": False}),
    ("instance", {"track_running_stats": True}),
    ("layer", {"over": "channels", "affine": "scale"}),
    ("detached", {"by": "centring"}),
    ("detached", {"by": "whitening"}),
    ("instance-whitening", {"by": "zca", "group_size": 4}),
    ("switchable-whitening", {"of": "bw-iw-bn-in-ln", "tie": True}),
    ("dyt", {"alpha0": 0.7}),
    *((name, {"group_size": 4}) for name, row in ACTIVATION.items() if "group_size" in row.options),
]

every_norm = pytest.mark.parametrize("name", ACTIVATION)
running_norm = pytest.mark.parametrize("name", RUNNING)
every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS)


def build(name, **options):
    if "groups" in NORMS[name].options:
        options["groups"] = 2
    return norm(name, 6, **options)


def state(module):
    """All that it holds, buffers that are not saved included."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def trained(name, **options):
    """After three steps of training, every parameter and running statistic moved."""
    module = build(name, **options)
    for _ in range(3):
        x = (2 * torch.randn(12, 6, 5) + 3).requires_grad_()
        module(x).square().sum().backward()  # whose backward pass moves statistics too, if the norm is online
    for parameter in module.parameters():
        parameter.data += 0.3
    return module


def same(module, other):
    found, expected = state(module), state(other)
    assert found.keys() == expected.keys()
    return [key for key in expected if not torch.equal(found[key], expected[key])] == []


@every_norm
def test_device_and_dtype_are_keywords_with_torchs_defaults_and_no_options(name):
    parameters = inspect.signature(NORMS.load(name)).parameters
    assert list(parameters)[-2:] == ["device", "dtype"]
    assert all(parameters[key].default is None for key in ("device", "dtype"))
    assert not {"device", "dtype"} & NORMS[name].options.keys()


@every_norm
def test_names_in_a_saved_network_stay_what_they_were(name):
    assert list(build(name).state_dict()) == STATE[name].split()


@every_variant
def test_everything_is_created_on_the_device_and_in_the_type_asked_for(name, options):
    found = state(build(name, **options, device="meta", dtype=torch.float64))
    assert {tensor.device.type for tensor in found.values()} <= {"meta"}
    counters = {key: tensor.dtype for key, tensor in found.items() if not tensor.is_floating_point()}
    assert counters in ({}, {"num_batches_tracked": torch.int64})
    assert {tensor.dtype for key, tensor in found.items() if key not in counters} <= {torch.float64}


@every_variant
def test_without_them_torchs_defaults_hold(name, options):
    with torch.device("meta"):
        found = state(build(name, **options))
    assert {(tensor.device.type, tensor.is_floating_point() and tensor.dtype) for tensor in found.values()} <= {
        ("meta", torch.float32),
        ("meta", False),
    }


@every_variant
def test_created_in_float64_is_converted_to_it(name, options):
    created, converted = build(name, **options, dtype=torch.float64), build(name, **options).double()
    for key, tensor in state(created).items():
        torch.testing.assert_close(tensor, state(converted)[key], rtol=1e-7, atol=0)  # 1e-4 and 0.7 are no float32
    x = torch.randn(12, 6, 5, dtype=torch.float64)
    torch.manual_seed(1)
    y = created(x)
    torch.manual_seed(1)
    torch.testing.assert_close(y, converted(x))
    assert y.dtype == torch.float64


@every_variant
def test_reset_parameters_makes_it_as_new(name, options):
    module, fresh = trained(name, **options), build(name, **options)
    if state(fresh).keys() - {"identity"}:
        assert not same(module, fresh)
    kept = {key: tensor.data_ptr() for key, tensor in state(module).items()}
    if name != "none":
        module.reset_parameters()
    assert same(module, fresh)
    assert {key: tensor.data_ptr() for key, tensor in state(module).items()} == kept  # in place
    x = torch.randn(12, 6, 5)
    assert torch.equal(module.eval()(x), fresh.eval()(x))


@running_norm
def test_reset_running_stats_puts_back_what_is_tracked_and_nothing_that_is_learned(name):
    module, fresh = trained(name), build(name)
    learned = copy.deepcopy(dict(module.named_parameters()))
    x = torch.randn(12, 6, 5)
    module.eval()(x)  # what a whitening keeps of the statistics before is to be forgotten
    module.reset_running_stats()
    assert all(torch.equal(buffer, fresh.get_buffer(key)) for key, buffer in module.named_buffers())
    assert all(torch.equal(parameter, learned[key]) for key, parameter in module.named_parameters())
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(module(x), fresh.eval()(x))


@every_norm
def test_running_statistics_can_be_reset_exactly_where_there_are_some(name):
    tracks = name in RUNNING or "track_running_stats" in NORMS[name].options
    assert hasattr(NORMS.load(name), "reset_running_stats") == tracks
    assert hasattr(NORMS.load(name), "reset_parameters") == bool(STATE[name])


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_resets_as_torchs_does(affine):
    ours, theirs = bncli.norm("batch", 6, affine=affine), nn.BatchNorm1d(6, affine=affine)
    for reset in ("reset_running_stats", "reset_parameters"):
        for module in (ours, theirs):
            module.load_state_dict({key: torch.full_like(value, 7) for key, value in module.state_dict().items()})
            getattr(module, reset)()
        expected = theirs.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
        assert ours.state_dict().keys() == expected.keys()


@every_variant
def test_made_on_meta_and_moved_it_is_as_new_after_reset_parameters(name, options):
    module = build(name, **options, device="meta").to_empty(device="cpu")
    for tensor in state(module).values():
        tensor.data.fill_(9)  # what lies in memory that nobody has written
    if name != "none":
        module.reset_parameters()
    assert same(module, build(name, **options))


def test_torch_can_skip_the_initialisation():
    assert skip_init(NORMS.load("batch"), 6, eps=0.1).running_mean.shape == (6,)


@every_norm
def test_behind_a_layer_a_norm_is_where_the_layer_is_and_in_its_type(name):
    options = {"groups": 2} if "groups" in NORMS[name].options else {}
    _, made = normalise(nn.Conv1d(4, 6, 1, device="meta", dtype=torch.bfloat16), name, **options)
    assert {tensor.device.type for tensor in state(made).values()} <= {"meta"}
    assert {tensor.dtype for tensor in state(made).values()} <= {torch.bfloat16, torch.int64}


@pytest.mark.parametrize("name", [name for name, row in NORMS.items() if row.side == "weight"])
def test_a_norm_of_weights_adds_what_it_learns_where_the_layer_is_and_in_its_type(name):
    layer = normalise(nn.Linear(4, 6, device="meta", dtype=torch.float64), name)
    assert {(tensor.device.type, tensor.dtype) for tensor in state(layer).values()} == {("meta", torch.float64)}


@pytest.mark.parametrize("name", [name for name, row in NORMS.items() if row.side == "network"])
def test_a_norm_of_networks_adds_what_it_learns_where_the_network_is_and_in_its_type(name):
    model = ResidualMLP(5, 3, Normaliser(), width=4, blocks=2, activation="relu", init="he", bias="auto")
    model = normalise(model.to("meta", torch.float64), name)
    assert any("multiplier" in key for key in state(model))
    assert {(tensor.device.type, tensor.dtype) for tensor in state(model).values()} == {("meta", torch.float64)}


class Plain(nn.Module):
    """Somebody's norm, without the keywords."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))


def test_a_norm_that_does_not_know_the_keywords_is_moved(monkeypatch):
    home = types.ModuleType("somebodys")
    home.Plain = Plain
    monkeypatch.setitem(sys.modules, "somebodys", home)
    row = NormRow("somebodys:Plain", "plain", family="none", citation="", formula="", over="", evaluation="")
    monkeypatch.setattr("bncli.norms.NORMS", Catalogue("norm", {"plain": row}))
    weight = norm("plain", 6, device="meta", dtype=torch.float64).weight
    assert (weight.device.type, weight.dtype) == ("meta", torch.float64)
    assert norm("plain", 6).weight.device.type == "cpu"


@pytest.mark.parametrize("name", ["zca", "zca-cor", "cholesky", "pca", "iternorm", "deconv", "switchable-whitening"])
def test_covariances_start_as_identities_and_the_last_group_is_filled_up(name):
    module = build(name, group_size=4)
    assert torch.equal(module.running_cov, torch.stack([torch.eye(4), torch.diag(torch.tensor([1.0, 1, 0, 0]))]))
