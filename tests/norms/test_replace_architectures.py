"""Networks as they are in the wild: every norm found, replaced by itself without a difference, and by all others."""

import pytest
import torch
from architectures import OWN, TIMM, TORCHVISION, timm, torchvision
from torch import nn

from bncli import factory, replace_norms
from bncli.errors import ConfigError
from bncli.norms import NORMS
from bncli.norms.sites.census import take_census
from bncli.plugins.models import build_model

NETWORKS = {**OWN, **TORCHVISION, **TIMM}
QUICK = ("generator", "u-net", "densenet", "mobilenet_v2", "convnext", "vit", "swin", "timm/vit_tiny")
OTHERS = [name for name, row in NORMS.items() if row.side != "network"]


def some(*more):
    """Every network: the quick ones by default, the others by night."""
    return [
        pytest.param(
            name, *each, id="-".join([name, *each]), marks=[] if name in QUICK and quick else pytest.mark.nightly
        )
        for name in NETWORKS
        for each, quick in (more or [((), True)])
    ]


def build(name):
    make, shape = NETWORKS[name]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return make(), torch.randn(4, *shape)


def count_norms(model, name):
    """By the classes themselves, of which bncli's census knows the names only."""
    kinds = [nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm]
    if name not in OWN:
        kinds.append(torchvision().ops.FrozenBatchNorm2d)
    if name in TIMM:
        layers = timm().layers
        kinds += [layers.RmsNorm, layers.RmsNorm2d, layers.SimpleNorm, layers.SimpleNorm2d]
    foreign = [module for module in model.modules() if not type(module).__module__.startswith("bncli.")]
    return sum(isinstance(module, tuple(kinds)) for module in foreign)


def first(output):
    return output["out"] if isinstance(output, dict) else output


@pytest.mark.parametrize("name", some())
def test_as_many_norms_are_found_and_replaced_as_there_are(name):
    model, x = build(name)
    expected = count_norms(model, name)
    changed, report = replace_norms(model, "none", inputs=x)
    assert len(report.replaced) == expected > 0
    assert count_norms(changed, name) == 0
    assert report.functional == ()
    assert len(take_census(changed, x).sites) == expected


def replace_by_itself(model, x):
    """Each norm by the one of bncli that does the same."""
    kinds = {site.path: site.kind for site in take_census(model, x).sites}
    for kind in set(kinds.values()):
        model, _ = replace_norms(model, kind, inputs=x, where=lambda path, module, kind=kind: kinds[path] == kind)
    return model


@pytest.mark.parametrize("name", some())
def test_the_same_norms_give_the_same_outputs_and_gradients(name):
    model, x = build(name)
    model, x = model.double(), x.double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.rand_like(parameter)
    changed = replace_by_itself(model, x)
    assert count_norms(changed, name) == 0
    found = []
    for each in (model, changed):
        torch.manual_seed(0)  # for the depth that is stochastic
        y = first(each(x))
        y = y / y.detach().abs().amax()
        names, parameters = zip(*each.named_parameters(), strict=True)
        found.append([names, y, *torch.autograd.grad(y.square().sum(), parameters)])
    (names, *expected), (names_now, *values) = found
    assert names == names_now
    for a, b in zip(values, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * max(1.0, b.abs().max().item()))


def test_every_norm_of_timm_is_known_by_its_name():
    layers = timm().layers
    homes = ("norm", "norm_act", "evo_norm", "filter_response_norm", "grn")
    for home in (getattr(layers, name) for name in homes):
        for name, kind in vars(home).items():
            if isinstance(kind, type) and kind.__module__ == home.__name__ and "Norm" in name:
                made = kind(32)
                assert "does not know" not in take_census(made).sites[0].refusal, name


TIMM_NORMS = {  # and the axis of the channels
    "BatchNormAct2d": 1, "FrozenBatchNormAct2d": 1, "GroupNorm": 1, "GroupNorm1": 1, "GroupNormAct": 1,
    "LayerNorm": -1, "LayerNormAct": -1, "LayerNorm2d": 1, "LayerNormAct2d": 1, "RmsNorm": -1, "RmsNormAct": -1,
    "RmsNorm2d": 1, "RmsNormAct2d": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", TIMM_NORMS)
def test_a_norm_of_timm_is_replaced_by_itself_with_its_activation(name):
    old = getattr(timm().layers, name)(8, **({"num_groups": 4} if name in ("GroupNorm", "GroupNormAct") else {}))
    old = old.double()
    for tensor in (*old.parameters(), *old.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    x = torch.randn(3, 8, 4, 5, dtype=torch.float64).movedim(1, TIMM_NORMS[name])
    model = nn.Sequential(old)
    new = replace_by_itself(model, x)
    assert count_norms(new, "timm/resnet18") == 0
    torch.testing.assert_close(new(x), model(x), rtol=1e-9, atol=1e-9)
    other, report = replace_norms(model, "none", inputs=x)
    assert ("act" in report.rows[0].kept) == ("Act" in name)
    assert (other(x) < 0).any() == ("Act" not in name)


def test_a_factory_is_a_norm_layer_of_torchvisions_models():
    models = torchvision().models
    resnet = models.resnet18(num_classes=4, norm_layer=factory("group", groups=24))
    assert {m.groups for m in resnet.modules() if type(m) is NORMS.load("group")} == {16}  # of 64, 128, 256 and 512
    assert resnet(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    swin = models.SwinTransformer(
        [4, 4], 16, [1, 1], [2, 4], [2, 2], num_classes=4, norm_layer=factory("batch", axis=-1)
    )
    assert count_norms(swin, "swin") == 0
    swin(torch.randn(2, 3, 32, 32)).sum().backward()


@pytest.mark.parametrize(("name", "to"), some(*(((to,), to in ("batch", "group", "zca")) for to in OTHERS)))
def test_a_step_is_trained_with_every_norm_in_every_network(name, to):
    model, x = build(name)
    if to == "frozen":
        with torch.no_grad():
            model.train()(x)  # gives it statistics, where it is batch norm that stands there
    model, report = replace_norms(model, to, inputs=x, strict=False)
    allowed = ("a single location", "right before it", "no running statistics", "got ConvTranspose2d")
    assert all(any(words in row.reason for words in allowed) for row in report.rows if row.reason)
    if not report.replaced:
        assert to in ("frozen", "weight", "weight-std", "scaled-weight-std")
        return
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    first(model.train()(x)).square().mean().backward()
    optimiser.step()
    norms = [p for row in report.replaced for p in model.get_submodule(row.path).parameters(recurse=False)]
    assert all(p.grad is not None for p in norms if p.numel() > 1)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_model_of_a_list_is_built_by_its_name(package):
    _ = timm() if package == "timm" else torchvision()
    model = build_model(f"{package}:resnet18", num_classes=4)
    assert model.fc.out_features == 4
    with pytest.raises(ConfigError, match=rf"{package} has no model 'resnet81'; did you mean 'resnet"):
        build_model(f"{package}:resnet81")
