"""Replacing the norms of anybody's model: what is found, what stands there afterwards, what is kept, what is refused."""

import copy
import pickle

import pytest
import torch
from architectures import Generator, UNet
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

import bncli
from bncli.errors import ConfigError
from bncli.norms import NORMS
from bncli.norms.sites.census import take_census


def replace(model, to, **options):
    return bncli.replace_norms(model, to, **options)


def conv_net(norm, *, bias=False):
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=bias), norm, nn.ReLU(inplace=True), pool, nn.Flatten(), nn.Linear(8, 4)
    )


def moved(norm):
    """The same norm with affine values that are not the initial ones, in float64."""
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return norm.double()


def gradients(model, x):
    x = x.clone().requires_grad_()
    y = model(x)
    weights = torch.linspace(0.1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad((y * weights).sum() + y.square().sum(), [x, *parameters.values()])
    return [y, *found], ["y", "x", *parameters]


def unbiased(norm):
    norm.bias = None
    return norm


SAME = {  # torch's layers, the norm of bncli that does the same, an input
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6, eps=1e-3), "batch", (5, 6)),
    "BatchNorm1d over positions": (lambda: nn.BatchNorm1d(6), "batch", (5, 6, 4)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(6, momentum=0.3), "batch", (4, 6, 3, 3)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(6), "batch", (2, 6, 2, 3, 2)),
    "BatchNorm2d without affine": (lambda: nn.BatchNorm2d(6, affine=False), "batch", (4, 6, 3, 3)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(6), "instance", (4, 6, 3, 3)),
    "InstanceNorm1d with affine": (lambda: nn.InstanceNorm1d(6, affine=True, eps=1e-2), "instance", (4, 6, 5)),
    "GroupNorm": (lambda: nn.GroupNorm(3, 6), "group", (4, 6, 3, 3)),
    "GroupNorm of rows": (lambda: nn.GroupNorm(2, 6), "group", (4, 6)),
    "LayerNorm": (lambda: nn.LayerNorm(6, eps=1e-6), "layer", (4, 6)),
    "LayerNorm of tokens": (lambda: nn.LayerNorm(6), "layer", (4, 7, 6)),
    "LayerNorm of several axes": (lambda: nn.LayerNorm((6, 3)), "layer", (4, 6, 3)),
    "InstanceNorm2d with running statistics": (
        lambda: nn.InstanceNorm2d(6, track_running_stats=True, momentum=0.3), "instance", (4, 6, 3, 3)
    ),
    "BatchNorm2d without running statistics": (lambda: nn.BatchNorm2d(6, track_running_stats=False), "batch", (4, 6, 3, 3)),
    "GroupNorm without a bias": (lambda: unbiased(nn.GroupNorm(2, 6)), "group", (4, 6, 3, 3)),
    "LayerNorm without a bias": (lambda: nn.LayerNorm(6, bias=False), "layer", (4, 7, 6)),
    "LayerNorm of maps, channels last": (lambda: nn.LayerNorm(6), "layer", (4, 3, 2, 6)),
    "RMSNorm of tokens": (lambda: nn.RMSNorm(6, eps=1e-6), "rms", (4, 7, 6)),
    "RMSNorm with torch's own eps": (lambda: nn.RMSNorm(6), "rms", (4, 6)),
}  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", SAME)
def test_the_same_norm_in_its_own_place_changes_no_output_and_no_gradient(case, training):
    make, to, shape = SAME[case]
    old = nn.Sequential(moved(make())).train(training)
    x = torch.randn(*shape, dtype=torch.float64) * 2 + 1
    new, report = replace(old, to, inputs=x)
    (expected, names), (found, found_names) = gradients(old, x), gradients(new, x)
    assert names == found_names
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert report.rows[0].new == to
    assert set(report.added) <= {"0.num_batches_tracked"}


def test_running_statistics_move_as_they_did():
    old = nn.Sequential(moved(nn.BatchNorm2d(6, momentum=None)))
    x = torch.randn(4, 6, 3, 3, dtype=torch.float64)
    new, _ = replace(old, "batch")
    for _ in range(3):
        old(x), new(x)
    for name, value in old.state_dict().items():
        torch.testing.assert_close(new.state_dict()[name], value)


@pytest.mark.parametrize("name", [name for name, row in NORMS.items() if row.side == "activation"])
@pytest.mark.parametrize("make", [Generator, UNet])
def test_every_norm_stands_in_a_generator_and_in_a_u_net_and_trains_there(name, make):
    x = torch.randn(4, *make.example)
    base = make()
    base(x)  # so that a frozen norm has statistics
    if name == "frozen" and make is UNet:
        with pytest.raises(ConfigError, match="has no running statistics that a frozen norm could use"):
            replace(base, name, inputs=x)
        return
    model, report = replace(base, name, inputs=x)
    assert len(report.replaced) == 3
    before = [p.clone() for p in model.parameters()]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).square().mean().backward()
    optimiser.step()
    assert all(p.isfinite().all() for p in model.parameters())
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


# --- what is found


class Shifted(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 1


class LlamaRMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return self.weight * x * x.square().mean(-1, keepdim=True).add(1e-6).rsqrt()


def test_a_subclass_with_its_own_forward_is_refused_by_name():
    model = conv_net(Shifted(8))
    with pytest.raises(ConfigError) as error:
        replace(model, "group")
    assert str(error.value).splitlines() == [
        "1: test_replace.Shifted is of a class that bncli does not know; name its channels in adapters=",
        "to leave what cannot be replaced as it is: strict=False, or where=",
    ]
    assert type(model[1]) is Shifted


def test_an_adapter_says_where_a_strangers_norm_has_its_channels():
    model = nn.Sequential(nn.Linear(4, 6), LlamaRMSNorm(6))
    adapters = {LlamaRMSNorm: lambda norm: (len(norm.weight), -1)}
    new, report = replace(model, "batch", adapters=adapters)
    assert report.rows[0].channels == 6
    y = new(torch.randn(5, 7, 4)).flatten(0, 1)
    torch.testing.assert_close(y.mean(0), torch.zeros(6), atol=1e-6, rtol=0)


def test_what_cannot_be_replaced_is_left_and_said_where_that_is_allowed():
    model, report = replace(nn.Sequential(Shifted(8), nn.BatchNorm2d(8)), "group", strict=False)
    assert [(row.path, row.new, row.refused) for row in report.rows] == [("0", "", True), ("1", "group", False)]
    assert type(model[0]) is Shifted


def test_a_forward_that_was_put_on_the_layer_itself_is_not_lost_silently():
    model = conv_net(nn.BatchNorm2d(8))
    model[1].forward = lambda x: x
    with pytest.raises(ConfigError, match="1: BatchNorm2d has a forward of its own"):
        replace(model, "group")


def test_a_block_that_is_named_after_its_norm_is_no_norm():
    class ConvNorm(nn.Sequential):
        pass

    model = ConvNorm(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
    assert [site.path for site in take_census(model).sites] == ["1"]


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, x):
        x = F.batch_norm(self.norm(self.conv(x)), None, None, training=True)
        return F.layer_norm(x, x.shape[1:])


def test_norms_that_are_no_modules_are_said_to_be_out_of_reach():
    _, report = replace(Functional(), "batch")
    assert report.functional == ("model: batch_norm", "model: layer_norm")
    assert "model: batch_norm: no module, out of reach" in str(report)


def test_a_model_without_norms_is_refused():
    with pytest.raises(ConfigError, match=r"^the model has no norm$"):
        replace(nn.Linear(3, 3), "group")


def test_a_lazy_norm_learns_its_channels_from_the_inputs():
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d())
    with pytest.raises(
        ConfigError, match="0: LazyConv2d does not know its size yet; give inputs, or call the model once"
    ):
        replace(model, "group")
    new, report = replace(model, "group", inputs=torch.randn(2, 3, 5, 5))
    assert (report.rows[0].old, report.rows[0].channels) == ("BatchNorm2d", 8)
    assert new(torch.randn(2, 3, 5, 5)).shape == (2, 8, 3, 3)


def test_a_synchronised_norm_becomes_one_that_runs_on_a_cpu():
    model, report = replace(conv_net(nn.SyncBatchNorm(8)), "batch")
    assert report.rows[0].old == "SyncBatchNorm"
    model(torch.randn(2, 3, 6, 6)).sum().backward()


def test_local_response_norm_takes_its_channels_from_its_input():
    _, report = replace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.LocalResponseNorm(2)), "batch")
    assert (report.rows[0].old, report.rows[0].channels) == ("LocalResponseNorm", 8)


def test_what_was_replaced_can_be_replaced_again_and_put_back():
    base = conv_net(nn.BatchNorm2d(8))
    model = base
    for to in ("group", "none", "rms", "zca", "layer", "frn", "batch"):
        model, report = replace(model, to)
        assert report.rows[0].new == to
    assert model.state_dict().keys() == {*base.state_dict(), "0.bias"} - {"0.bias"}
    assert type(model[1]).__name__ == "BatchNorm"


# --- where


def test_a_pattern_or_a_function_chooses():
    model = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)) for _ in range(3)))
    _, by_pattern = replace(model, "group", where="[12].*")
    _, by_function = replace(model, "group", where=lambda path, module: path > "1" and module.num_features == 8)
    assert [row.path for row in by_pattern.replaced] == [row.path for row in by_function.replaced] == ["1.1", "2.1"]
    assert by_pattern.rows[0].reason == "not chosen"


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"^where: chooses none of the 1 norms \(1\)$"):
        replace(conv_net(nn.BatchNorm2d(8)), "group", where="layer4.*")


def test_a_norm_that_was_not_chosen_may_be_of_an_unknown_class():
    model = nn.Sequential(Shifted(8), nn.BatchNorm2d(8))
    _, report = replace(model, "group", where="1")
    assert len(report.replaced) == 1


# --- what is kept


def test_a_model_is_copied_unless_it_is_to_be_changed_in_place():
    model = conv_net(nn.BatchNorm2d(8))
    copied, _ = replace(model, "group")
    assert type(model[1]) is nn.BatchNorm2d
    changed, _ = replace(model, "group", inplace=True)
    assert changed is model
    assert type(copied[1]) is type(model[1]) is NORMS.load("group")


def test_names_parameters_device_dtype_mode_and_flags_are_kept():
    model = conv_net(nn.BatchNorm2d(8, eps=1e-3, momentum=0.3)).half()
    model[1].eval()
    model[1].weight.requires_grad_(False)
    weight, bias = model[1].weight, model[1].bias
    replace(model, "group", inplace=True)
    assert model[1].weight is weight
    assert model[1].bias is bias
    assert (model[1].training, model[1].eps, model[1].weight.dtype) == (False, 1e-3, torch.float16)
    assert (weight.requires_grad, bias.requires_grad) == (False, True)
    assert [name for name, _ in model[1].named_parameters()] == ["weight", "bias"]


def test_an_optimiser_built_before_trains_what_stands_there_now():
    model = conv_net(nn.BatchNorm2d(8))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    _, report = replace(model, "group", inplace=True)
    known = {p for group in optimiser.param_groups for p in group["params"]}
    assert known == set(model.parameters())
    assert report.added == ()
    assert report.removed == ("1.num_batches_tracked", "1.running_mean", "1.running_var")


def test_parameters_that_an_optimiser_cannot_know_are_named():
    _, report = replace(conv_net(nn.BatchNorm2d(8)), "dyt")
    assert report.added == ("1.alpha",)


def test_a_checkpoint_of_before_loads_but_for_the_running_statistics():
    base = conv_net(nn.BatchNorm2d(8))
    new, report = replace(base, "group")
    problems = new.load_state_dict(base.state_dict(), strict=False)
    assert (problems.missing_keys, tuple(sorted(problems.unexpected_keys))) == ([], report.removed)


def test_a_learned_scale_of_0_stays_0():
    model = conv_net(nn.BatchNorm2d(8))
    nn.init.zeros_(model[1].weight)
    new, report = replace(model, "layer")
    assert not new[1].weight.any()
    assert report.rows[0].kept == ("weight", "bias")


def test_a_value_that_has_no_place_is_said_to_be_lost():
    model = conv_net(nn.BatchNorm2d(8))
    nn.init.ones_(model[1].bias)
    _, report = replace(model, "rms")
    assert "the old bias is lost: the new norm has none" in report.rows[0].notes


def test_hooks_and_their_handles_are_kept():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
    seen = []
    handle = model[1].register_forward_hook(lambda module, args, output: seen.append(type(module).__name__))
    model[1].register_full_backward_hook(lambda module, *gradients: seen.append("backward"))
    _, report = replace(model, "group", inplace=True)
    seen.clear()
    model(torch.randn(2, 3, 6, 6)).sum().backward()
    assert seen == ["GroupNorm", "backward"]
    assert "hooks" in report.rows[0].kept
    handle.remove()
    seen.clear()
    model(torch.randn(2, 3, 6, 6))
    assert seen == []


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.blocks = nn.ModuleList([self.norm, nn.Sequential(nn.Linear(4, 4), self.norm)])

    def forward(self, x):
        return self.blocks[1](self.blocks[0](x))


@pytest.mark.parametrize("inplace", [True, False])
def test_a_shared_norm_stays_one_norm_under_all_its_paths(inplace):
    model, report = replace(Shared(), "layer", inplace=inplace)
    assert model.norm is model.blocks[0] is model.blocks[1][1]
    assert (report.rows[0].path, report.rows[0].also) == ("norm", ("blocks.0", "blocks.1.1"))
    assert not any(isinstance(module, nn.BatchNorm1d) for module in model.modules())


def test_norms_that_share_a_parameter_still_do():
    model = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4))
    model[1].weight = model[0].weight
    new, _ = replace(model, "batch")
    assert new[0].weight is new[1].weight


def test_a_norm_in_a_plain_list_is_refused_with_its_place():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(4)
            self.chain = [self.norm]

    with pytest.raises(ConfigError, match=r"norm: BatchNorm1d is held by chain as well: use nn\.ModuleList"):
        replace(Listed(), "layer")


def test_a_model_that_is_a_norm_itself_comes_back_as_another_module():
    model = nn.BatchNorm1d(4)
    new, report = replace(model, "layer", inplace=True)
    assert type(new) is NORMS.load("layer")
    assert report.notes == ("the model itself is a norm: what is returned is another module",)


def test_generators_buffers_and_everything_but_the_norms_are_left_as_they_were():
    model = conv_net(nn.BatchNorm2d(8))
    state, before = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    new, _ = replace(model, "noisy-batch", inputs=torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, state[name]) for name, value in new.state_dict().items() if not name.startswith("1."))


def test_copies_swapped_to_different_norms_share_every_bit_of_what_is_no_norm():
    base = conv_net(nn.BatchNorm2d(8))
    models = {to: replace(base, to)[0] for to in ("group", "batch", "rms", "zca")}
    for model in models.values():
        assert torch.equal(model[0].weight, base[0].weight)
        assert torch.equal(model[5].weight, base[5].weight)


def test_inputs_are_left_as_they_were():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4), nn.LayerNorm(4))
    x = torch.randn(3, 4)
    before = x.clone()
    replace(model, "rms", inputs=x)
    assert torch.equal(x, before)


def test_what_fails_leaves_a_model_as_it_was_in_place_too():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 6), Shifted(6))
    with pytest.raises(ConfigError):
        replace(model, "group", groups=2, inplace=True)
    assert type(model[1]) is nn.BatchNorm1d


def test_a_replaced_norm_prints_pickles_and_copies():
    model, _ = replace(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)), "batch")
    assert repr(model[1]) == (
        "BatchNorm(6, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, impl=auto, channels last)"
    )
    x = torch.randn(3, 5, 4)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        torch.testing.assert_close(twin(x), model(x))


# --- biases: `none` is a fair arm


def test_none_gets_the_bias_that_the_norm_had_made_needless_and_batch_norm_takes_it_back():
    base = conv_net(nn.BatchNorm2d(8))
    bare, report = replace(base, "none")
    assert report.bias_added == ("0",)
    assert torch.equal(bare[0].bias, torch.zeros(8))
    again, report = replace(bare, "batch")
    assert report.bias_dropped == ("0",)
    assert again[0].bias is None


def test_a_norm_with_a_shift_of_its_own_changes_no_bias():
    for bias in (True, False):
        model, report = replace(conv_net(nn.BatchNorm2d(8), bias=bias), "group")
        assert (report.bias_added, report.bias_dropped) == ((), ())
        assert (model[0].bias is not None) == bias


def test_where_batch_norm_stood_a_needless_bias_may_stay():
    model, report = replace(conv_net(nn.BatchNorm2d(8), bias=True), "batch")
    assert report.bias_dropped == ()
    assert model[0].bias is not None


def test_a_model_that_cannot_be_called_keeps_its_biases_and_says_so():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)

        def forward(self, images, mask):
            return self.norm(self.conv(images)) * mask

    model = Strange()
    _, report = replace(model, "none")
    assert report.bias_added == ()
    assert report.notes[0].startswith("no forward pass came to norm (TypeError: ")
    _, report = replace(model, "none", inputs={"images": torch.randn(2, 3, 5, 5), "mask": torch.ones(())})
    assert report.bias_added == ("conv",)


class PreActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.relu, self.conv = nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = x + 0
        return x + self.conv(self.relu(self.norm(x)))


@pytest.mark.parametrize("given", [True, False])
def test_no_norm_keeps_an_activation_in_place_from_reaching_what_the_norm_was_given(given):
    x = torch.randn(2, 3, 4, 4)
    model, _ = replace(PreActivation(), "none", inputs=x if given else None)
    torch.testing.assert_close(model(x), x + model.conv(x.relu()))


def test_no_norm_copies_nothing_where_nobody_would_notice():
    model, _ = replace(conv_net(nn.BatchNorm2d(8)), "none")
    x = torch.randn(2, 8, 3, 3)
    assert model[1](x) is x


def test_weights_are_normalised_in_the_layer_before():
    model, report = replace(conv_net(nn.BatchNorm2d(8)), "weight")
    assert torch.nn.utils.parametrize.is_parametrized(model[0], "weight")
    assert report.bias_added == ("0",)
    with pytest.raises(ConfigError, match="0: BatchNorm1d has no linear layer or convolution right before it"):
        replace(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4)), "weight")


# --- groups


@pytest.mark.parametrize(
    ("channels", "asked", "found"),
    [(72, {"groups": 32}, 24), (64, {"groups": 32}, 32), (24, {"groups": 32}, 12), (7, {"groups": 2}, 1),
     (16, {"channels_per_group": 4}, 4), (18, {"channels_per_group": 4}, 3), (8, {"channels_per_group": 16}, 1)],
)  # fmt: skip
def test_groups_that_do_not_fit_become_the_largest_number_that_does(channels, asked, found):
    model, report = replace(nn.Sequential(nn.Conv2d(3, channels, 1), nn.BatchNorm2d(channels)), "group", **asked)
    assert model[1].groups == report.rows[0].options["groups"] == found
    if asked.get("groups") not in (None, found):
        assert report.rows[0].notes == (f"{asked['groups']} groups do not fit {channels} channels: {found} groups",)
    assert f"{found} groups" in str(report)


def test_a_group_of_one_value_is_not_made():
    model, _ = replace(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), "group", groups=8)
    assert model[1].groups == 4
    one = nn.Sequential(nn.Linear(4, 1), nn.BatchNorm1d(1))
    with pytest.raises(ConfigError, match="1: BatchNorm1d gives norm 'group' 1 value of each example"):
        replace(one, "group")


def test_a_single_location_is_found_by_the_inputs_before_training():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    assert replace(model, "instance")[1].replaced
    with pytest.raises(ConfigError, match="1: BatchNorm2d gives norm 'instance' a single location of each example"):
        replace(model, "instance", inputs=torch.randn(2, 3, 3, 3))
    with pytest.raises(ConfigError, match="1: GroupNorm gives norm 'batch' fewer than 2 values of each channel"):
        replace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)), "batch", inputs=torch.randn(1, 3, 3, 3))


def test_groups_are_said_once():
    with pytest.raises(ConfigError, match=r"^groups and channels_per_group say the same; give one of them$"):
        replace(conv_net(nn.BatchNorm2d(8)), "group", groups=2, channels_per_group=4)


# --- layouts


def test_batch_norm_in_place_of_a_layer_norm_takes_each_channel_of_the_last_axis():
    model, _ = replace(nn.Sequential(nn.LayerNorm(6)), "batch")
    y = model(torch.randn(3, 4, 5, 6) * 3 + 1)
    torch.testing.assert_close(y.mean((0, 1, 2)), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.var((0, 1, 2), correction=0), torch.ones(6), atol=1e-4, rtol=0)


def test_group_norm_in_place_of_a_layer_norm_averages_over_the_tokens_too_and_says_so():
    x = torch.randn(3, 5, 6)
    model, report = replace(nn.Sequential(nn.LayerNorm(6)), "group", groups=2, inputs=x)
    torch.testing.assert_close(model(x), F.group_norm(x.transpose(1, 2), 2).transpose(1, 2))
    assert "averages over the locations of an example" in report.rows[0].notes[0]


def test_a_sequence_that_comes_first_does_not_mix_the_examples():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=False)
    x = torch.randn(5, 3, 8)
    new, _ = replace(layer, "group", groups=2, inputs={"src": x})
    torch.testing.assert_close(new(x)[:, :1], new(x[:, :1]))


def test_layer_norm_has_two_meanings_on_images_and_each_place_keeps_its_own():
    x = torch.randn(2, 6, 3, 3)
    maps, _ = replace(nn.Sequential(nn.BatchNorm2d(6)), "layer")
    torch.testing.assert_close(maps(x), F.group_norm(x, 1))
    tokens, _ = replace(nn.Sequential(nn.LayerNorm(6)), "layer")
    last = x.movedim(1, -1)
    torch.testing.assert_close(tokens(last), F.layer_norm(last, (6,)))


def test_a_layer_norm_over_channels_and_pixels_is_one_of_each_example():
    x = torch.randn(2, 6, 3, 3)
    model, _ = replace(nn.Sequential(nn.LayerNorm((6, 3, 3))), "layer", inputs=x)
    torch.testing.assert_close(model(x), F.layer_norm(x, (6, 3, 3)))
    with pytest.raises(ConfigError, match=r"normalises over axes \(5, 6\), and which of them holds the channels"):
        replace(nn.Sequential(nn.LayerNorm((5, 6))), "batch")


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), nn.LayerNorm((5, 6)), nn.RMSNorm(6)])
def test_a_norm_of_each_location_comes_back_after_another_stood_in_its_place(norm):
    base, x = nn.Sequential(norm), torch.randn(3, 5, 6)
    for others in ("batch", "group", "none") if norm.normalized_shape == (6,) else ("rms",):
        other, _ = replace(base, others)
        back, _ = replace(other, "layer" if isinstance(norm, nn.LayerNorm) else "rms", eps=norm.eps or 1e-6)
        torch.testing.assert_close(back(x), base(x))


def test_what_a_layer_norm_takes_its_statistics_over_may_be_chosen():
    x = torch.randn(3, 5, 6)
    whole, _ = replace(nn.Sequential(nn.LayerNorm(6)), "layer", over="sample")
    torch.testing.assert_close(whole(x), F.layer_norm(x, (5, 6)))
    image = torch.randn(2, 6, 3, 3)
    located, _ = replace(nn.Sequential(nn.BatchNorm2d(6)), "layer", over="channels")
    torch.testing.assert_close(located(image).movedim(1, -1), F.layer_norm(image.movedim(1, -1), (6,)))
    with pytest.raises(ConfigError, match="0: BatchNorm2d has its channels on the second axis; over: channels takes"):
        replace(nn.Sequential(nn.BatchNorm2d(6)), "layer", over="last")


def test_torchs_encoder_layer_calls_the_new_norm_in_evaluation_too():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    new, report = replace(layer, "batch")
    called = []
    for norm in (new.norm1, new.norm2):
        norm.register_forward_hook(lambda *_: called.append(1))
    with torch.no_grad():
        new(torch.randn(2, 5, 8))
        assert called == [1, 1]
        for norm in (new.norm1, new.norm2):
            norm._forward_hooks.clear()
        new.norm1.running_mean.fill_(5.0)
        moved_by_5 = new(torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)))
        new.norm1.running_mean.zero_()
        assert not torch.allclose(moved_by_5, new(torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))))
    assert report.notes == ("the model itself: torch's fused evaluation, which calls no norm, is off",)


def test_what_is_probed_at_a_replaced_norm_is_what_the_norm_gave_and_by_its_channels():
    x = torch.randn(4, 3, 6, 6)
    model, _ = replace(conv_net(nn.BatchNorm2d(8)), "group", groups=4)
    seen = bncli.probe(model, x).samples["0/norm"]
    assert seen.shape[1] == 8
    assert (seen < 0).any()  # in spite of the ReLU in place behind it
    tokens, _ = replace(nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6)), "batch")
    assert bncli.probe(tokens, torch.randn(4, 7, 5)).samples["0/norm"].shape == (28, 6)
    again, _ = replace(tokens, "layer")
    assert bncli.probe(again, torch.randn(4, 7, 5)).samples["0/norm"].shape == (28, 6)


def test_a_norm_in_evaluation_stays_there_while_the_rest_is_trained():
    model = conv_net(nn.BatchNorm2d(8))
    model[1].eval()
    new, _ = replace(model, "batch", inputs=torch.randn(2, 3, 6, 6))
    before = {name: buffer.clone() for name, buffer in new.named_buffers()}
    new(torch.randn(2, 3, 6, 6)).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in new.named_buffers())


# --- what is refused


def test_a_frozen_norm_wants_statistics_of_a_trained_model():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(ConfigError, match="1: BatchNorm1d has running statistics of an untrained model"):
        replace(model, "frozen")
    model(torch.randn(8, 4))
    new, report = replace(model, "frozen")
    assert torch.equal(new[1].running_mean, model[1].running_mean)
    assert "running statistics" in report.rows[0].kept
    x = torch.randn(3, 4)
    torch.testing.assert_close(new.train()(x), model.eval()(x))


def test_unknown_norms_options_and_networks_are_refused_before_anything_is_done():
    model = conv_net(nn.BatchNorm2d(8))
    with pytest.raises(ConfigError, match="no norm is called 'gruop'; did you mean 'group'"):
        replace(model, "gruop")
    with pytest.raises(ConfigError, match="group: no such key"):
        replace(model, "group", group=3)
    with pytest.raises(ConfigError, match="norm 'fixup' changes whole residual networks"):
        replace(model, "fixup")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("resnet18", "group"), "model: expected a torch module, got str"),
     ((nn.BatchNorm1d(4), 3), "to: expected a norm's name or a function of the channels, got int"),
     ((nn.BatchNorm1d(4), nn.Identity, 3), "where: expected a pattern or a function of path and module, got int")],
)  # fmt: skip
def test_arguments_of_a_wrong_type_are_one_line(arguments, message):
    model, to, *where = arguments
    with pytest.raises(ConfigError) as error:
        replace(model, to, where=where[0] if where else None)
    assert str(error.value) == message


@pytest.mark.parametrize("wrapper", ["DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"])
@pytest.mark.parametrize("part", [False, True])
def test_a_wrapped_model_is_refused(wrapper, part):
    norm = type("MyNorm", (type(wrapper, (), {}), nn.BatchNorm1d), {})(4)  # as fully_shard makes of a class
    model = nn.Sequential(nn.Linear(4, 4), norm) if part else norm
    with pytest.raises(ConfigError, match=f"^the model is wrapped in {wrapper} already; replace its norms before$"):
        replace(model, "group")


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_compiled_norm_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    scripted = torch.jit.trace(model, torch.randn(2, 4), check_trace=False)
    with pytest.raises(ConfigError, match=r"is compiled by torch\.jit; replace before that"):
        replace(scripted, "batch", inplace=True)


def test_a_function_of_the_channels_may_stand_for_a_norm():
    model, report = replace(conv_net(nn.BatchNorm2d(8)), lambda channels: nn.GroupNorm(2, channels))
    assert type(model[1]) is nn.GroupNorm
    assert report.rows[0].new == "<lambda>"
    with pytest.raises(ConfigError, match=r"1: BatchNorm2d cannot be replaced: GroupNorm\(8\) raised TypeError"):
        replace(conv_net(nn.BatchNorm2d(8)), nn.GroupNorm)


# --- elsewhere than here


def test_norms_are_found_and_replaced_on_the_meta_device():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 72, 3, bias=False), nn.BatchNorm2d(72))
    new, report = replace(model, "none")
    assert report.bias_added == ("0",)
    assert all(p.device.type == "meta" for p in new.parameters())
    new, report = replace(model, "group")
    assert (new[1].weight.device.type, report.rows[0].options["groups"]) == ("meta", 24)


def test_a_report_is_a_document():
    import json

    _, report = replace(conv_net(nn.BatchNorm2d(8)), "group", groups=3)
    document = json.loads(json.dumps(report.document()))
    assert document["rows"][0]["options"]["groups"] == 2
    assert str(report).splitlines()[:3] == [
        "1 of 1 norms replaced by group",
        "  1: BatchNorm2d -> group of 8 channels, 2 groups; keeps weight, bias",
        "    3 groups do not fit 8 channels: 2 groups",
    ]


# --- the factory


def test_a_factory_is_a_function_of_the_channels():
    make = bncli.factory("group", groups=8)
    assert (make(64).groups, make(12).groups) == (8, 6)
    assert make(16, eps=1e-3).eps == 1e-3
    assert pickle.loads(pickle.dumps(make)) == make
    assert repr(make) == "NormFactory(name='group', axis=1, options={'groups': 8})"


def test_a_factory_for_the_last_axis():
    make = bncli.factory("batch", axis=-1)
    y = make(6)(torch.randn(3, 5, 6) + 2)
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(6), atol=1e-6, rtol=0)


def test_a_factory_refuses_what_it_could_not_make():
    with pytest.raises(ConfigError, match="no norm is called 'gruop'"):
        bncli.factory("gruop")
    with pytest.raises(ConfigError, match="norm 'weight' acts on the weights of layers"):
        bncli.factory("weight")
    with pytest.raises(ConfigError, match=r"factory\('batch'\): axis must be 1 or -1, got 2"):
        bncli.factory("batch", axis=2)


@pytest.mark.parametrize("to", ["batch", "group", "rms"])
def test_models_with_replaced_norms_train_as_lanes(to):
    def made(seed):
        torch.manual_seed(seed)
        base = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 6), nn.RMSNorm(6))
        return replace(base, to, **({"groups": 2} if to == "group" else {}))[0].double()

    models, x = [made(0), made(1)], torch.randn(4, 7, 5, dtype=torch.float64)
    parameters, buffers = stack_module_state(models)
    shell = copy.deepcopy(models[0])
    together = vmap(lambda p, b: functional_call(shell, (p, b), (x,)))(parameters, buffers)
    for one, model in zip(together, models, strict=True):
        torch.testing.assert_close(one, model(x))


def test_a_model_with_replaced_norms_is_traced_whole():
    base = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Flatten(2), Last()
    )
    x = torch.randn(2, 3, 5, 5)
    model, _ = replace(base, "layer", inputs=x)
    traced = torch.export.export(model.eval(), (x,)).module()
    torch.testing.assert_close(traced(x), model(x))


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)

    def forward(self, x):
        return self.norm(x.transpose(1, 2))


def test_one_example_alone_and_no_example_are_refused_where_a_batch_is_needed():
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
    for x in (torch.randn(4), torch.randn(0, 4)):
        assert replace(model, "rms", inputs=x)[1].replaced
        with pytest.raises(ConfigError, match="1: LayerNorm gives norm 'batch' fewer than 2 values of each channel"):
            replace(model, "batch", inputs=x)
