"""A user's own model is probed as it is, between two checkpoints."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncli.errors import ConfigError
from bncli.shift import METRICS
from bncli.shift.probing import LIGHT, drift, probe


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


def test_sites_are_named_like_the_module_and_its_call(model: Net, x: Tensor) -> None:
    assert list(probe(model, x).samples) == [
        "stem.1 before-norm", "stem.1 after-norm", "stem.2 after-activation",
        "block.bn1 before-norm", "block.bn1 after-norm", "block.relu after-activation",
        "block.bn2 before-norm", "block.bn2 after-norm", "block.relu#2 after-activation",
        "block.bn1#2 before-norm", "block.bn1#2 after-norm", "block.relu#3 after-activation",
        "block.bn2#2 before-norm", "block.bn2#2 after-norm", "block.relu#4 after-activation",
    ]  # fmt: skip


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
    assert len(rows) == 15 * 3
    assert all((row.mean, row.median, row.p90, row.within_noise) == (0, 0, 0, True) for row in rows)


@pytest.mark.parametrize("units", [slice(None), slice(1)])
def test_a_model_that_is_not_finite_is_never_within_noise(model: Net, x: Tensor, units: slice) -> None:
    healthy = probe(model, x, where=["before-norm"])
    with torch.no_grad():
        model.stem[0].weight[units] = math.nan
    broken = probe(model, x, where=["before-norm"])
    for before, after in ((healthy, broken), (broken, broken)):
        row = drift(before, after, ["w1"])[0]
        assert math.isnan(row.mean)
        assert not row.within_noise


def test_training_drifts_beyond_sampling_noise(model: Net, x: Tensor) -> None:
    before = probe(model, x, where=["before-norm"])
    trained(model, x)
    rows = {
        (row.site, row.metric): row for row in drift(before, probe(model, x, where=["before-norm"]), ["location-drift"])
    }
    assert not rows["block.bn1 before-norm", "location-drift"].within_noise
    assert rows["block.bn1 before-norm", "location-drift"].p90 >= rows["block.bn1 before-norm", "location-drift"].median


def test_in_training_mode_a_norm_hides_what_its_input_drifted(model: Net, x: Tensor) -> None:
    before = probe(model, x, training=True)
    with torch.no_grad():
        model.stem[0].weight *= 3
        model.stem[0].bias += 2
    rows = {
        (row.site, row.metric): row.mean for row in drift(before, probe(model, x, training=True), ["location-drift"])
    }
    assert rows["stem.1 before-norm", "location-drift"] > 1
    assert rows["stem.1 after-norm", "location-drift"] < 1e-3


def test_every_metric_of_a_pair_can_be_asked_for(model: Net, x: Tensor) -> None:
    names = [name for name, row in METRICS.items() if row.kind == "pair"]
    before = probe(model, x, where=["after-norm"])
    trained(model, x)
    rows = drift(before, probe(model, x, where=["after-norm"]), names)
    assert {row.metric for row in rows} == set(names)


def test_a_metric_of_another_kind_is_refused(model: Net, x: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"^metric 'whiteness' is of a sample, not of a pair of samples$"):
        drift(probe(model, x), probe(model, x), ["whiteness"])


def test_a_model_of_functions_alone_is_refused(x: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"functions .* are not seen"):
        probe(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), x)
