"""A user's own model is probed as it is, between two checkpoints."""

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncli.errors import ConfigError
from bncli.shift import METRICS
from bncli.shift.probing import LIGHT, Probe, drift, probe


class Bottleneck(nn.Module):
    """As torchvision writes it: one in-place ReLU for both activations, and a block with two inputs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return self.relu(out)


class Net(nn.Module):
    """A residual network with dropout, whose block is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.block = Bottleneck(6)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.block(x, x)
        x = self.block(x, self.dropout(x))
        logits: Tensor = self.fc(x.mean((-2, -1)))
        return logits


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def trained(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(x), torch.arange(len(x)) % 3).backward()
        optimizer.step()


def test_sites_are_named_as_in_a_study_by_layer_and_place(model: Net, x: Tensor) -> None:
    seen = probe(model, x)
    assert list(seen.samples) == [
        "stem.0/layer", "stem.0/norm", "stem.0/activation",
        "block.conv1/layer", "block.conv1/norm", "block.conv1/activation",
        "block.conv2/layer", "block.conv2/norm", "block.conv2/activation",
        "block.conv1#2/layer", "block.conv1#2/norm", "block.conv1#2/activation",
        "block.conv2#2/layer", "block.conv2#2/norm", "block.conv2#2/activation",
        "fc/layer",
    ]  # fmt: skip
    assert [*seen.modules.values()][:3] == ["stem.0", "stem.1", "stem.2"]


@pytest.mark.parametrize("training", [True, False])
def test_a_probe_leaves_model_and_generators_as_they_were(model: Net, x: Tensor, training: bool) -> None:
    model.stem.eval()  # a mode of its own
    modes = [module.training for module in model.modules()]
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    probe(model, x, training=training)
    assert all(tensor.equal(kept[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.get_rng_state().equal(generator)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_same_checkpoint_has_not_drifted(model: Net, x: Tensor) -> None:
    rows = drift(probe(model, x), probe(model, x), LIGHT[:3])
    assert len(rows) == 16 * 3
    assert all((row.mean, row.median, row.p90, row.within_noise) == (0, 0, 0, True) for row in rows)


@pytest.mark.parametrize("units", [slice(None), slice(1)])
def test_a_model_that_is_not_finite_is_never_within_noise(model: Net, x: Tensor, units: slice) -> None:
    healthy = probe(model, x, sites=["layer"])
    with torch.no_grad():
        model.stem[0].weight[units] = math.nan
    broken = probe(model, x, sites=["layer"])
    for before, after in ((healthy, broken), (broken, broken)):
        row = drift(before, after, ["w1"])[0]
        assert math.isnan(row.mean)
        assert not row.within_noise


def test_training_drifts_beyond_sampling_noise(model: Net, x: Tensor) -> None:
    before = probe(model, x, sites=["layer"])
    trained(model, x)
    rows = {(row.site, row.metric): row for row in drift(before, probe(model, x, sites=["layer"]), ["location-drift"])}
    assert not rows["block.conv1/layer", "location-drift"].within_noise
    assert rows["block.conv1/layer", "location-drift"].p90 >= rows["block.conv1/layer", "location-drift"].median


def test_in_training_mode_a_norm_hides_what_its_input_drifted(model: Net, x: Tensor) -> None:
    before = probe(model, x, training=True)
    with torch.no_grad():
        model.stem[0].weight *= 3
        model.stem[0].bias += 2
    rows = {
        (row.site, row.metric): row.mean for row in drift(before, probe(model, x, training=True), ["location-drift"])
    }
    assert rows["stem.0/layer", "location-drift"] > 1
    assert rows["stem.0/norm", "location-drift"] < 1e-3


def test_every_metric_of_a_pair_can_be_asked_for(model: Net, x: Tensor) -> None:
    names = [name for name, row in METRICS.items() if row.kind == "pair"]
    before = probe(model, x, sites=["norm"])
    trained(model, x)
    rows = drift(before, probe(model, x, sites=["norm"]), names)
    assert {row.metric for row in rows} == set(names)


def test_a_metric_of_another_kind_is_refused(model: Net, x: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"^metric 'whiteness' is of a sample, not of a pair of samples$"):
        drift(probe(model, x), probe(model, x), ["whiteness"])


def test_a_model_of_functions_alone_is_refused(x: Tensor) -> None:
    class Functions(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x)

    with pytest.raises(ConfigError, match=r"^the model has no layer, .* functions .* are not seen$"):
        probe(Functions(), x)


class Restless(nn.Module):
    """A model whose pass changes all that a pass can change, and may end in an error."""

    fails = False
    weight: nn.Parameter
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act = nn.BatchNorm1d(3), nn.ReLU(inplace=True)
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros(3))
        self.plain, self.calls, self.past, self.cache = torch.zeros(3), 0, ["start"], {"last": torch.zeros(3)}
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        self.calls += 1
        self.past.append("again")
        self.cache["more"] = x
        self.cache["last"].add_(1)
        self.plain.add_(1)
        self.seen = self.seen + 1  # another tensor
        self.register_buffer("made", x.mean(0))
        self.extra = nn.Linear(3, 3)
        self.weight.data.mul_(2)
        self.norm.running_mean.add_(math.nan)
        self.norm.eval() if self.training else self.norm.train()
        self.register_forward_hook(lambda *_: None)
        y: Tensor = self.act(self.norm(x)) * torch.rand(3) * torch.rand(3, generator=self.generator)
        y = y * random.random() * float(np.random.rand())
        if self.fails:
            raise RuntimeError("in the middle")
        return y


def state(model: Restless) -> list[object]:
    """All of it, as texts and lists that can be compared."""
    tensors = [*model.state_dict().values(), model.plain, model.cache["last"]]
    return [
        sorted(model.state_dict()), [tensor.tolist() for tensor in tensors], [module.training for module in model.modules()],
        [name for name, _ in model.named_modules()], sorted(vars(model)), model.calls, list(model.past), sorted(model.cache),
        len(model._forward_hooks), model.generator.get_state().tolist(), torch.get_rng_state().tolist(),
        random.getstate(), np.random.get_state()[1].tolist(), id(model.seen), id(model.past), id(model._forward_hooks),
    ]  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_whatever_a_model_changes_is_put_back_also_where_it_raises(training: bool, fails: bool) -> None:
    model, x = Restless(), torch.randn(4, 3)
    kept, before = x.clone(), state(model)
    model.fails = fails
    if fails:
        with pytest.raises(RuntimeError, match=r"^in the middle$"):
            probe(model, x, training=training)
    else:
        assert list(probe(model, x, training=training).samples) == ["input/norm", "input/activation"]
    model.fails = False
    del model.fails
    assert state(model) == before
    assert x.equal(kept)


def test_a_backward_pass_under_way_is_not_disturbed(model: Net, x: Tensor) -> None:
    loss = model(x).square().sum()
    probe(model, x)
    loss.backward()


class Named(nn.Module):
    """A model that takes a mapping, or its entries by keyword, and gives a mapping without a tensor at its top."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(3, 4), nn.LayerNorm(4)

    def forward(self, batch: dict[str, object] | None = None, *, ids: Tensor | None = None) -> dict[str, object]:
        tokens = ids if batch is None else batch["tokens"]
        x = tokens[0] if isinstance(tokens, list) else tokens
        assert isinstance(x, Tensor)
        hidden = self.norm(self.fc(x.mul_(2)))
        return {"hidden": (hidden,), "text": "none"}


@pytest.mark.parametrize("how", ["keyword", "dict", "list in a dict"])
def test_inputs_may_be_keywords_dicts_and_lists_and_stay_as_they_are(how: str) -> None:
    x = torch.randn(5, 3)
    kept, model = x.clone(), Named()
    if how == "keyword":
        seen = probe(model, ids=x)
    else:
        seen = probe(model, {"tokens": x if how == "dict" else [x], "name": "a batch"})
    assert seen.examples == 5
    assert seen.samples["fc/layer"].equal(F.linear(2 * kept, model.fc.weight, model.fc.bias))
    assert x.equal(kept)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_in_any_precision_are_probed(model: Net, x: Tensor, dtype: torch.dtype) -> None:
    before = probe(model.to(dtype), x.to(dtype), sites=["norm"])
    with torch.no_grad():
        model.stem[0].bias += 1
    rows = drift(before, probe(model, x.to(dtype), sites=["norm"]), ["percentile-drift"])
    assert {sample.dtype for sample in before.samples.values()} == {dtype}
    assert all(math.isfinite(row.mean) for row in rows)


def test_two_probes_in_different_precision_can_be_compared(model: Net, x: Tensor) -> None:
    before = probe(model, x)
    rows = drift(before, probe(model.double(), x.double()), ["ks", "w1"])
    assert max(row.mean for row in rows if row.metric == "w1") < 1e-5


@pytest.mark.nightly
def test_a_compiled_model_is_seen_as_it_was_written(model: Net, x: Tensor) -> None:
    expected = probe(model, x)
    compiled = torch.compile(model, backend="eager")
    model.block.compile(backend="eager")
    model.stem = torch.compile(model.stem, backend="eager")
    compiled(x)
    seen = probe(compiled, x)
    assert list(seen.samples) == list(expected.samples)
    assert "_compiled_call_impl" in vars(model.block)


def test_a_model_without_parameters_is_probed() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3, affine=False, track_running_stats=False), nn.Tanh())
    assert list(probe(model, torch.randn(4, 3)).samples) == ["input/norm", "input/activation"]


def test_a_checkpoint_on_which_activations_are_nan_is_probed(model: Net, x: Tensor) -> None:
    rows = drift(probe(model, x), probe(model, x * math.nan), ["w1"])
    assert all(math.isnan(row.mean) for row in rows)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU())


BATCH = torch.randn(6, 3)


@pytest.mark.parametrize(
    ("model", "inputs", "how", "message"),
    [
        (nn.ReLU, [BATCH], {}, "model: expected a torch.nn.Module, got the class ReLU itself"),
        (torch.relu, [BATCH], {}, "model: expected a torch.nn.Module, got a builtin_function_or_method"),
        (net(), [], {}, "inputs: expected what the model is called with, a tensor (N, ...) among it; there is none"),
        (net(), [[1.0, 2.0]], {}, "inputs: expected what the model is called with, a tensor (N, ...) among it; there is none"),
        (net(), [BATCH[:0]], {}, "inputs: expected at least 2 examples, as fewer have no distribution; got 0"),
        (net(), [BATCH[:1]], {}, "inputs: expected at least 2 examples, as fewer have no distribution; got 1"),
        (net(), [BATCH], {"sites": ["nrom"]}, "sites: no site is called 'nrom'; did you mean 'norm'? (known: layer, norm, activation)"),
        (net(), [BATCH], {"sites": "norm"}, "sites: expected a list of texts, as in ['...'], got 'norm'"),
        (net(), [BATCH], {"sites": []}, "sites: expected at least one of layer, norm, activation, got none"),
        (net(), [BATCH], {"training": "yes"}, "training: expected True or False, got 'yes'"),
        (nn.Sequential(nn.LazyLinear(4)), [BATCH], {}, "model: 0.weight has no shape yet, as its layer is lazy; call the model once first"),
        (net().to("meta"), [BATCH], {}, "model: 0.weight is on the meta device and has no values; load its weights first"),
        (
            nn.Linear(3, 4), [BATCH], {"sites": ["norm"]},
            "the model has no layer, no norm and no activation that is a module of torch or bncli that has a place 'norm': "
            "functions (F.relu) are not seen",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_probed_is_one_line(
    model: nn.Module, inputs: list[Tensor], how: dict[str, bool], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        probe(model, *inputs, **how)
    assert str(raised.value) == message


def made(names: list[str], rows: int = 8, examples: int = 4) -> Probe:
    return Probe({name: torch.randn(rows, 2) for name in names}, examples, {})


@pytest.mark.parametrize(
    ("before", "after", "how", "message"),
    [
        (BATCH, made(["a/norm"]), {}, "before: expected what probe() gave, got a Tensor"),
        (made(["a/norm"]), {"a/norm": BATCH}, {}, "after: expected what probe() gave, got a dict"),
        (
            made(["a/norm"]), made([f"{name}/norm" for name in "bcde"]), {},
            "the two probes share no site: before has a/norm and after has b/norm, c/norm, d/norm, ...; "
            "probe models whose layers have the same names, with the same `sites`",
        ),
        (
            made(["a/norm"]), made(["a/norm"], 6), {},
            "site a/norm: before is of shape (8, 2) (values, channels) and after of (6, 2); "
            "a drift is of the same channels and the same examples",
        ),
        (made(["a/norm"]), made(["a/norm"], 6, 3), {}, "before is of 4 examples and after of 3: probe both times the same ones"),
        (made(["a/norm"]), made(["a/norm"]), {"metrics": "w1"}, "metrics: expected a list of texts, as in ['...'], got 'w1'"),
        (made(["a/norm"]), made(["a/norm"]), {"seed": "1"}, "seed: expected a whole number, got '1'"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(before: Probe, after: Probe, how: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        drift(before, after, **how)
    assert str(raised.value) == message
