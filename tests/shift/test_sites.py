"""Activations taken from networks that know nothing of it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

import bncli
from bncli.engine.layers import layers_of, outputs_of
from bncli.models import MODELS
from bncli.models.unit import Normaliser
from bncli.norms import NORMS
from bncli.norms.batch import BatchNorm, NoNorm
from bncli.shift import PLACES
from bncli.shift.sites import Site, is_activation, is_norm, observed


class Block(nn.Module):
    """Residual, as torchvision writes it: one activation for two places, all in place, two inputs."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x, shortcut):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += shortcut
        return self.relu(y)


class Net(nn.Module):
    """A stem with a functional activation, a block with two inputs, a head in containers."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.block = Block(4)
        self.head = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(144, 5), nn.Sequential(nn.Tanh())))

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)), inplace=True)
        return self.head(self.block(x, shortcut=x))


def images(examples=2):
    return torch.randn(examples, 3, 8, 8)


def look(model, *inputs, **how):
    with observed(model, **how) as found:
        model(*inputs)
    return {site.name: value for site, value in found.items()}


def test_sites_are_places_behind_layers_in_the_order_in_which_they_are_passed():
    assert list(look(Net(), images())) == [
        "conv/layer", "conv/norm",
        "block.conv1/layer", "block.conv1/norm", "block.conv1/activation",
        "block.conv2/layer", "block.conv2/norm", "block.conv2/activation",
        "head.1.0/layer", "head.1.0/norm", "head.1.0/activation",
    ]  # fmt: skip


def test_a_site_knows_the_module_that_is_looked_at():
    model = Net()
    with observed(model) as found:
        model(images())
    assert [site.module for site in found] == [
        "conv", "bn", "block.conv1", "block.bn1", "block.relu", "block.conv2", "block.bn2", "block.relu",
        "head.1.0", "head.1.1.0", "head.1.1.0",
    ]  # fmt: skip


def test_values_are_those_of_the_pass_also_where_they_are_overwritten():
    model, x = Net(), images()
    found = look(model, x)
    conv = model.conv(x)
    bn = model.bn(conv)
    inner = model.block.bn1(model.block.conv1(bn.relu()))
    second = model.block.bn2(model.block.conv2(inner.relu()))
    end = (second + bn.relu()).relu()
    expected = [
        conv,
        bn,
        model.block.conv1(bn.relu()),
        inner,
        inner.relu(),
        model.block.conv2(inner.relu()),
        second,
        end,
    ]
    for (name, value), wanted in zip(found.items(), expected, strict=False):
        assert torch.equal(value, wanted.permute(0, 2, 3, 1).reshape(-1, 4)), name


def test_locations_become_samples_example_by_example():
    found = look(nn.Sequential(NoNorm(2)), torch.arange(24.0).view(2, 2, 3, 2))
    assert found["input/norm"].tolist()[:7] == [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11], [12, 18]]


def test_fewer_locations_are_evenly_spaced():
    x = torch.arange(10.0).view(1, 1, 10)
    assert look(NoNorm(1), x, locations=4)["input/norm"].flatten().tolist() == [0, 3, 6, 9]


def test_hooks_are_gone_afterwards():
    model = Net()
    look(model, images())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_hooks_are_gone_after_an_error():
    model = Net()
    with pytest.raises(RuntimeError), observed(model):
        model(torch.randn(2, 7, 8, 8))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_outputs_and_gradients_are_what_they_are_without():
    model, x = Net(), images()
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    with observed(model):
        found = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_collected_values_need_no_gradient():
    assert not any(value.requires_grad for value in look(Net(), images()).values())


def test_lanes_under_vmap_equal_one_network_at_a_time():
    models = [Net(), Net()]
    parameters, buffers = stack_module_state(models)
    x = images()

    def run(p, b, x):
        with observed(models[0]) as found:
            functional_call(models[0], (p, b), (x,))
        return found

    together = vmap(run, in_dims=(0, 0, None))(parameters, buffers, x)
    for lane, model in enumerate(models):
        for name, value in look(model, x).items():
            found = next(v for site, v in together.items() if site.name == name)
            torch.testing.assert_close(found[lane], value)


def test_a_module_under_two_names_is_seen_under_its_first():
    shared = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 2), shared, nn.Linear(2, 2), shared)
    with observed(model, ["activation"]) as found:
        model(torch.randn(3, 2))
    assert [(site.name, site.module) for site in found] == [("0/activation", "1"), ("2/activation", "1")]


def test_a_layer_that_runs_twice_and_a_second_norm_behind_it_are_numbered():
    layer, norm = nn.Linear(2, 2), nn.BatchNorm1d(2)
    model = nn.Sequential(layer, norm, nn.ReLU(), norm, layer, norm, nn.LayerNorm(2))
    assert list(look(model, torch.randn(3, 2))) == [
        "0/layer", "0/norm", "0/activation", "0/norm#2", "0#2/layer", "0#2/norm", "0#2/norm#2",
    ]  # fmt: skip


def test_where_no_norm_is_the_place_of_the_norm_is_what_reaches_the_activation():
    plain = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True), nn.Linear(2, 2))
    x = torch.randn(3, 2)
    found = look(plain, x)
    assert list(found) == ["0/layer", "0/norm", "0/activation", "2/layer"]
    assert torch.equal(found["0/norm"], plain[0](x))


def test_a_norm_behind_the_activation_takes_the_place_of_the_norm():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.BatchNorm1d(2))
    x = torch.randn(3, 2)
    found = look(model, x)
    assert list(found) == ["0/layer", "0/activation", "0/norm"]
    model[2].reset_running_stats()
    assert torch.equal(found["0/norm"], model(x))


@pytest.mark.parametrize("norm", [Normaliser(), Normaliser(of_channels=BatchNorm, absorbs_bias=True)])
@pytest.mark.parametrize("model", ["mlp", "convnet", "deep-linear", "residual-mlp", "resnet", "inception-bn"])
def test_a_site_has_the_name_and_the_values_that_it_has_in_a_study(model, norm):
    shape = (1, 28, 28) if MODELS[model].locations else 784
    network = MODELS.load(model)(shape, 10, norm, **MODELS.options(model, {}))
    x = torch.randn(4, 784)
    layers = layers_of(network, x)
    places = {f"{layer.name}/{place}": layer.site(place) for layer in layers for place in PLACES}
    with outputs_of(network, set(places.values())) as outputs, observed(network.eval()) as found:
        network(x)
    seen = {site.name: value for site, value in found.items()}
    assert [name.partition("/")[0] for name in seen if name.endswith("/layer")] == [layer.name for layer in layers]
    for layer in layers:
        normalised = bool(layer.norm) and is_norm(network.get_submodule(layer.norm))
        for place in ["layer", *["norm"] * normalised, *["activation"] * bool(layer.activation)]:
            expected = outputs[layer.site(place)].movedim(1, -1).flatten(0, -2)
            assert torch.equal(seen[f"{layer.name}/{place}"], expected), (layer, place)


@pytest.mark.parametrize("wrap", [lambda x: (x, None), lambda x: [x], lambda x: {"hidden": x, "weights": None}])
def test_a_layer_may_give_tuples_lists_and_dicts(wrap):
    class Wrapped(nn.Linear):
        def forward(self, x):
            return wrap(super().forward(x))

    model, x = Wrapped(2, 2), torch.randn(3, 2)
    (given,) = look(model, x).values()
    assert torch.equal(given, nn.functional.linear(x, model.weight, model.bias))


def test_attention_and_recurrent_layers_are_layers():
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad():
        names = list(look(encoder, torch.randn(3, 5, 8)))
    assert names[:3] == ["self_attn/layer", "self_attn/norm", "linear1/layer"]
    assert look(nn.GRU(4, 6, batch_first=True), torch.randn(3, 5, 4))["input/layer"].shape == (15, 6)


def test_an_input_may_come_by_keyword_among_others():
    class Conditional(nn.BatchNorm1d):
        def forward(self, *, label, input):
            return super().forward(input)

    class Wrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = Conditional(2)

        def forward(self, x):
            return self.norm(label=torch.tensor([0, 1, 2]), input=x)

    x = torch.randn(3, 2)
    assert torch.equal(look(Wrap(), x)["input/norm"], F.batch_norm(x, None, None, training=True))


def test_behind_linear_layers_and_layer_norms_channels_are_the_last_axis():
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.LayerNorm(4))
    x = torch.randn(2, 5, 3)
    found = look(model, x)
    assert torch.equal(found["0/activation"], model[:2](x).flatten(0, 1))
    assert torch.equal(found["0/norm"], model(x).flatten(0, 1))


def test_a_layer_norm_that_moved_its_channels_to_the_second_axis_is_understood():
    class LayerNorm2d(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    assert look(LayerNorm2d(3), torch.randn(2, 3, 4, 5))["input/norm"].shape == (40, 3)


@pytest.mark.parametrize("name", [name for name, row in NORMS.items() if row.side == "activation"])
def test_every_norm_of_the_zoo_is_recognised(name):
    assert is_norm(bncli.norm(name, 64))


@pytest.mark.parametrize("name", ["weight", "weight-std", "scaled-weight-std"])
def test_norms_of_weights_are_no_sites(name):
    model = nn.Sequential(bncli.normalise(nn.Linear(3, 8), name), nn.ReLU())
    assert list(look(model, torch.randn(4, 3))) == ["0/layer", "0/norm", "0/activation"]


@pytest.mark.parametrize(
    "norm", [nn.SyncBatchNorm(4), nn.InstanceNorm1d(4), nn.GroupNorm(2, 4), nn.RMSNorm(4), NoNorm(4)]
)
def test_norms_of_torch_and_none_are_recognised(norm):
    assert is_norm(norm)


@pytest.mark.parametrize("module", [nn.Identity(), nn.Linear(2, 2), nn.ReLU(), nn.Dropout(), nn.MaxPool2d(2)])
def test_other_modules_are_no_norms(module):
    assert not is_norm(module)


def test_activations_of_single_numbers_are_recognised_and_softmax_and_attention_are_not():
    assert all(is_activation(a) for a in (nn.ReLU(), nn.SiLU(), nn.PReLU(), nn.Hardswish()))
    assert not any(is_activation(a) for a in (nn.Softmax(-1), nn.MultiheadAttention(4, 2), nn.Identity()))


def test_a_users_own_norm_is_named_by_a_function():
    class Own(nn.Module):
        def forward(self, x):
            return x / x.norm()

    model = nn.Sequential(Own())
    assert look(model, torch.randn(3, 2)) == {}
    assert list(look(model, torch.randn(3, 2), norms=lambda m: isinstance(m, Own))) == ["input/norm"]


def test_what_lies_within_a_norm_is_not_seen():
    class WithActivation(nn.BatchNorm1d):
        def __init__(self):
            super().__init__(2)
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(super().forward(x))

    assert list(look(WithActivation(), torch.randn(3, 2))) == ["input/norm"]


def test_a_site_is_a_plain_value():
    assert Site("conv", "norm") == Site("conv", "norm", 1, 1, module="bn")


def test_channels_of_positions_are_found_in_anybodys_vision_transformer():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.cut, self.up, self.act, self.down = nn.Conv2d(1, 6, 2, 2), nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 5)
            self.before, self.norm = nn.LayerNorm(6), nn.LayerNorm(5)

        def forward(self, x):
            positions = self.before(self.cut(x).flatten(2).transpose(1, 2))
            return self.norm(self.down(self.act(self.up(positions))))

    network, x = Patches(), torch.randn(4, 1, 6, 6)
    with outputs_of(network, {"cut", "before", "up", "act", "down", "norm", "norm (input)"}) as taken:
        given = network(x)
    assert {name: tuple(values.shape) for name, values in taken.items()} == {
        "cut": (4, 6, 3, 3), "before": (4, 6, 9), "up": (4, 7, 9), "act": (4, 7, 9), "down": (4, 5, 9),
        "norm": (4, 5, 9), "norm (input)": (4, 5, 9),
    }  # fmt: skip
    assert torch.equal(taken["norm"].movedim(1, -1), given)
