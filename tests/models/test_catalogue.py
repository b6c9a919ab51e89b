"""What every model keeps, and what its row says of it before it is built."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from bncli.config import Study
from bncli.data import DATASETS
from bncli.engine.network import Network, build
from bncli.models import MODELS
from bncli.models.unit import Normaliser, initialise
from bncli.norms.batch import BatchNorm
from bncli.plan import Run, runs_of

Tiny = Callable[..., Study]
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [8, 12]},
    "deep-mlp": {"depth": 3, "width": 8},
    "residual-mlp": {"width": 8, "blocks": 2},
    "convnet": {"channels": [4, 8]},
    "resnet": {"depth": 8, "channels": [4, 8, 8]},
    "inception-bn": {"divisor": 16},
    "deep-linear": {"depth": 4, "width": 8},
    "shift": {},
    "transformer": {"width": 8, "depth": 2, "patch": 7},
}
IMAGES = [name for name, row in MODELS.items() if row.locations]
PLACED = [name for name, row in MODELS.items() if "placement" in row.options and not row.positions]
every_model = pytest.mark.parametrize("model", SMALL)


def made(model: str, norm: Normaliser, **options: Any) -> nn.Module:
    row, filled = MODELS[model], MODELS.options(model, {**SMALL[model], **options})
    found: nn.Module = MODELS.load(model)((1, 28, 28) if row.locations else 784, 10, norm, **filled)
    initialise(found, found.init, 0)
    return found


def batch() -> Normaliser:
    return Normaliser(of_channels=BatchNorm, absorbs_bias=True)


@pytest.fixture
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def runs(tiny: Tiny, model: str, norm: Any, **options: Any) -> list[Run]:
    data = {"data": "linear-map"} if model == "deep-linear" else {}
    part = {"name": model, **SMALL[model], **options}
    training = {"steps": 3, "batch_size": 16, "lr": 0.05}
    how = {"every": 3, "split": "validation", "statistics": "batch"} if data else {"every": 3, "split": "validation"}
    variants = {"it": {"norm": norm}}
    return runs_of(
        tiny(model=part, training=training, evaluation=how, variants=variants, reference="it", **data), "cpu"
    )


def test_every_model_is_tested_here() -> None:
    assert set(SMALL) == set(MODELS)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"convolutions": 2, "head": "flatten"}, {"shortcut": "projection"},
        {"placement": "sandwich", "activation": "relu", "depth": 2}, {"final_norm": True},
    ],
)  # fmt: skip
@every_model
def test_a_row_counts_the_layers_that_the_network_has(model: str, options: dict[str, Any]) -> None:
    """Multiply-adds of each layer, and channels and locations of each norm, in the order in which they run."""
    options = {key: value for key, value in options.items() if key in MODELS[model].options}
    if model != "transformer":  # placements have other names elsewhere
        options = {key: value for key, value in options.items() if key not in ("placement", "depth")}
    work: list[int] = []
    seen: list[tuple[int, int]] = []

    def measure(module: nn.Module, inputs: Any, output: Any) -> None:
        output = output.movedim(-1, 1) if MODELS[model].positions else output
        locations = output[0, 0].numel()
        if isinstance(module, BatchNorm):
            seen.append((output.shape[1], locations))
        else:
            work.append(module.weight.numel() * locations)

    network = made(model, batch(), **options)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | BatchNorm):
            module.register_forward_hook(measure)
    network(torch.randn(2, 784))
    layers = MODELS[model].sizes(MODELS.options(model, {**SMALL[model], **options}), (1, 28, 28), 10)
    assert sorted(layer.multiply_adds for layer in layers if layer.inputs) == sorted(work)
    normalised = [(layer.channels, layer.locations) for layer in layers if layer.normalised]
    assert sorted(normalised) == sorted(seen) or model == "residual-mlp"  # whose norms stand before its layers
    assert {channels for channels, _ in normalised} == {channels for channels, _ in seen}


FITTING = [
    (model, norm)
    for model in ("deep-mlp", "convnet", "resnet", "inception-bn", "deep-linear", "transformer")
    for norm in ("none", "batch", "group", "weight")
    + ("instance",) * MODELS[model].locations
    + ("skipinit", "fixup") * MODELS[model].residual
]


@pytest.mark.parametrize(("model", "norm"), FITTING)
@pytest.mark.usefixtures("double_precision")
def test_lanes_give_the_outputs_gradients_and_statistics_of_runs_one_at_a_time(
    tiny: Tiny, model: str, norm: str
) -> None:
    groups = 2 if model in ("inception-bn", "deep-linear") else 4
    three = runs(tiny, model, {"name": "group", "groups": groups} if norm == "group" else norm)
    together, x = Network(three, "cpu"), torch.randn(3, 4, 10 if model == "deep-linear" else 784)
    weights = torch.randn(3, 4, 10)
    found = gradients(together, x, weights)
    for lane, run in enumerate(three):
        alone = Network([run], "cpu")
        for one, other in zip(found, gradients(alone, x[lane], weights[lane]), strict=True):
            torch.testing.assert_close(one[lane], other, rtol=1e-9, atol=1e-9)
        for name, buffer in alone.buffers.items():
            torch.testing.assert_close(together.buffers[name][lane], buffer)


def gradients(network: Network, x: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    """Outputs, then the gradient of every parameter."""
    outputs = network.forward(x)
    grads = torch.autograd.grad((outputs * weights).sum(), list(network.parameters.values()))
    return [outputs.detach(), *grads]


@pytest.mark.parametrize("model", PLACED)
def test_placement_is_of_the_norm_relative_to_the_activation(model: str) -> None:
    def kinds(placement: str) -> str:
        network = made(model, batch(), activation="relu", placement=placement)
        return " ".join(type(module).__name__ for module in network.modules())

    assert "BatchNorm ReLU" in kinds("pre")
    assert "ReLU BatchNorm" in kinds("post")


@pytest.mark.parametrize("model", PLACED)
def test_a_bias_is_left_out_before_the_norm_and_kept_before_the_activation(model: str) -> None:
    def biases(placement: str) -> int:
        layers = [
            m for m in made(model, batch(), placement=placement).modules() if isinstance(m, nn.Linear | nn.Conv2d)
        ]
        return sum(layer.bias is not None for layer in layers)

    assert biases("pre") == 1  # the readout's
    assert biases("post") > 1


@pytest.mark.parametrize("norm", ["batch", "weight"])
@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("model", [*PLACED, "transformer"])
def test_one_seed_draws_the_same_weights_whatever_the_norm_and_its_place(
    tiny: Tiny, model: str, placement: str, norm: str
) -> None:
    plain, normed = build(runs(tiny, model, "none")[0]), build(runs(tiny, model, norm, placement=placement)[0])
    found = dict(normed.named_parameters())
    for name, weight in plain.named_parameters():
        if name.endswith("weight"):
            computed = name.replace(".weight", ".parametrizations.weight.original1")
            assert torch.equal(found.get(computed, found.get(name, weight * 0)), weight), name


@pytest.mark.parametrize("model", IMAGES)
def test_images_are_rows_of_numbers_until_the_network_shapes_them(model: str) -> None:
    network, x = made(model, Normaliser()), torch.randn(3, 784)
    assert network(x).shape == (3, 10)
    torch.testing.assert_close(network(x[:1]), network(x)[:1])
    assert not torch.allclose(network(x.view(3, 28, 28).transpose(1, 2).flatten(1)), network(x))


@pytest.mark.parametrize("model", IMAGES)
def test_all_features_of_an_image_network_are_read_out(model: str) -> None:
    network = made(model, batch())
    loss = nn.functional.cross_entropy(network(torch.randn(8, 784)), torch.arange(8))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


def test_shapes_of_the_data_sets_are_those_of_their_examples() -> None:
    shipped = {name: row for name, row in DATASETS.items() if not row.describe and not row.fetch}
    assert {"mnist", "digits", "offset"} <= shipped.keys()
    for name, row in shipped.items():
        split = DATASETS.load(name)(**DATASETS.options(name, {}), device="cpu").validation
        assert split.stored.shape[1] == row.features
        assert split.targets.dim() == 1 or split.targets.shape[1] == row.outputs
