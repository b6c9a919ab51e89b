"""Fixup and SkipInit: what a residual network is at the start, and where its first gradients go."""

import copy

import pytest
import torch
from torch import nn

import bncli
from bncli.errors import ConfigError
from bncli.models.mlp import ResidualMLP
from bncli.models.unit import Normaliser, initialise
from bncli.norms import normalise

BLOCKS, WIDTH = 4, 12
every_norm = pytest.mark.parametrize("name", ["fixup", "skipinit"])


def plain(blocks=BLOCKS, bias="auto"):
    model = ResidualMLP(20, 5, Normaliser(), width=WIDTH, blocks=blocks, activation="relu", init="he", bias=bias)
    initialise(model, model.init, 0)
    return model.double()


def build(name, **options):
    return normalise(plain(**options), name)


def gradients(model):
    loss = nn.functional.cross_entropy(model(torch.randn(16, 20).double()), torch.arange(16) % 5)
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def living(model):
    """Names of the parameters that have a gradient."""
    return {name for name, gradient in gradients(model).items() if gradient.any()}


@every_norm
def test_every_branch_gives_0_at_the_start(name):
    u = torch.randn(3, WIDTH).double()
    assert all(torch.equal(branch(u), torch.zeros_like(u)) for branch in build(name).branches)


@every_norm
def test_at_the_start_every_block_is_its_shortcut(name):
    model, shallow, x = build(name), plain(blocks=0), torch.randn(3, 20).double()
    for part in ("first", "head", "readout"):
        setattr(shallow, part, getattr(model, part))
    assert torch.equal(model(x), shallow(x))


def test_skipinit_keeps_the_draws():
    before, after = dict(plain().named_parameters()), dict(build("skipinit").named_parameters())
    assert all(torch.equal(after[name], parameter) for name, parameter in before.items())
    assert after.keys() - before.keys() == {f"branches.{i}.multiplier.multiplier" for i in range(BLOCKS)}


def test_of_a_branch_skipinits_first_gradient_sees_only_the_multiplier():
    expected = {f"branches.{i}.multiplier.multiplier" for i in range(BLOCKS)}
    assert {name for name in living(build("skipinit")) if name.startswith("branches")} == expected


def test_skipinits_first_gradient_is_the_branchs_along_the_shortcuts():
    """dL/dmultiplier = <dL/du, branch(u)>: all blocks see the same u and the same dL/du."""
    model, x, weights = build("skipinit"), torch.randn(9, 20).double(), torch.randn(9, 5).double()
    (model(x) * weights).sum().backward()
    u = model.first(x).detach().requires_grad_()
    (model.readout(model.head(u)) * weights).sum().backward()
    for branch in model.branches:
        expected = (u.grad * branch[:-1](u.detach())).sum()
        torch.testing.assert_close(branch.multiplier.multiplier.grad, expected.detach())


def test_fixup_scales_the_inner_layers_of_a_branch_and_zeroes_the_last():
    before, after = plain(), build("fixup")
    for old, new in zip(before.branches, after.branches, strict=True):
        torch.testing.assert_close(new.linear1.weight, old.linear1.weight * BLOCKS**-0.5)
        assert not new.linear2.weight.any()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_fixup_scales_by_the_power_of_the_paper(layers):
    """L^(-1 / (2m - 2)) for L branches of m layers; a branch of one layer has none to scale."""
    model = plain()
    weight = torch.eye(WIDTH).double()
    for i in range(BLOCKS):
        model.branches[i] = nn.Sequential(*(nn.Linear(WIDTH, WIDTH).double() for _ in range(layers)))
        for layer in model.branches[i]:
            layer.weight.data = weight.clone()
    *inner, last = (m for m in normalise(model, "fixup").branches[0] if isinstance(m, nn.Linear))
    assert not last.weight.any()
    for layer in inner:
        torch.testing.assert_close(layer.weight, weight * BLOCKS ** (-1 / (2 * layers - 2)))


def test_fixup_puts_a_scalar_bias_before_every_layer_and_activation():
    kinds = [type(module).__name__ for module in build("fixup").branches[0]]
    assert kinds == ["ScalarBias", "ReLU", "ScalarBias", "Linear"] * 2 + ["Multiplier"]
    assert [type(module).__name__ for module in build("fixup").head] == ["ScalarBias", "ReLU", "ScalarBias"]


def test_fixup_learns_five_scalars_for_each_branch_instead_of_its_biases():
    count = sum(p.numel() for p in build("fixup").parameters())
    expected = (20 + 1) * WIDTH + BLOCKS * (2 * WIDTH * WIDTH + 5) + 2 + (WIDTH + 1) * 5
    assert count == expected


def test_fixups_first_gradient_moves_only_the_readout():
    assert living(build("fixup")) == {"readout.weight", "readout.bias"}


def test_fixups_second_gradient_reaches_the_last_layers_of_the_branches_and_not_the_inner_ones():
    model = build("fixup")
    nn.init.normal_(model.readout.weight)
    found = {name.partition(".linear")[2] for name in living(model) if ".linear" in name and name.endswith("weight")}
    assert found == {"2.weight"}


def test_fixups_update_does_not_grow_with_depth():
    """The paper's aim: a step of SGD changes the logits by as much in a deep network as in a shallow one."""

    def change(blocks):
        torch.manual_seed(0)
        model, x = build("fixup", blocks=blocks), torch.randn(64, 20).double()
        nn.init.normal_(model.readout.weight, std=0.3)
        before = model(x)
        nn.functional.cross_entropy(before, torch.arange(64) % 5).backward()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("branches"):
                    parameter -= 0.01 * parameter.grad
        return (model(x) - before).norm().item()

    assert change(64) == pytest.approx(change(4), rel=0.5)


@every_norm
def test_a_copy_is_its_own_network(name):
    model, x = build(name), torch.randn(3, 20).double()
    expected, twin = model(x), copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.data += 1
    assert torch.equal(model(x), expected)


@every_norm
def test_a_state_dict_carries_everything(name):
    model, other, x = build(name), build(name), torch.randn(3, 20).double()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


@every_norm
def test_new_parameters_have_the_dtype_of_the_network(name):
    assert {p.dtype for p in normalise(plain().bfloat16(), name).parameters()} == {torch.bfloat16}


@every_norm
def test_a_network_without_branches_is_refused(name):
    with pytest.raises(ConfigError) as caught:
        normalise(nn.Linear(4, 3), name)
    assert str(caught.value) == (
        f"norm '{name}': expected a residual network with branches, head and readout; Linear has no branches and no head"
        " and no readout"
    )


@every_norm
def test_a_branch_without_a_layer_is_refused(name):
    model = plain()
    model.branches[1] = nn.Sequential(nn.ReLU())
    with pytest.raises(ConfigError, match=f"^norm '{name}': expected a linear or convolution layer in each branch"):
        normalise(model, name)


@every_norm
def test_it_cannot_be_built_from_channels(name):
    with pytest.raises(ConfigError) as caught:
        bncli.norm(name, 64)
    assert str(caught.value) == (
        f"norm '{name}' acts on a residual network, not on 64 channels; use bncli.norms.normalise(model, '{name}')"
    )
