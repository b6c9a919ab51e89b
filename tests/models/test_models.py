"""Each model against what its paper says of it: parameters, layers, functions of known inputs."""

import pytest
import torch
from torch import Tensor, nn

from bncli.data import DATASETS
from bncli.models import MODELS
from bncli.models.unit import Normaliser, initialise
from bncli.norms import normalise
from bncli.norms.batch import BatchNorm

BATCH = Normaliser(of_channels=BatchNorm, absorbs_bias=True)


def made(
    model: str, shape: tuple[int, ...] | int = (1, 28, 28), norm: Normaliser = BATCH, **options: object
) -> nn.Module:
    network: nn.Module = MODELS.load(model)(shape, 10, norm, **MODELS.options(model, options))
    initialise(network, network.init, 0)
    return network.double()


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_residual_networks_have_the_papers_number_of_parameters(depth: int, millions: float) -> None:
    """He et al. 2016, table 6."""
    count = parameters(made("resnet", (3, 32, 32), depth=depth))
    assert round(count / 1e6, 2 if millions < 1 else 1) == millions


def test_the_20_layer_residual_network_has_269_722_parameters_and_2_752_more_with_projections() -> None:
    """Two projections, 16 x 32 and 32 x 64, each with a scale and a shift per channel."""
    pad, projection = (made("resnet", (3, 32, 32), depth=20, shortcut=kind) for kind in ("pad", "projection"))
    assert parameters(pad) == 269_722
    assert parameters(projection) == 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)


@pytest.mark.parametrize("depth", [8, 14, 20])
def test_a_residual_network_of_depth_6n_plus_2_has_so_many_layers(depth: int) -> None:
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in made("resnet", depth=depth).modules()) == depth


def test_a_shortcut_by_padding_takes_every_second_pixel_and_adds_zeros() -> None:
    x = torch.randn(2, 16, 5, 4).double()
    y = made("resnet", depth=8).shortcuts[1](x)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2])
    assert y.shape == (2, 32, 3, 2)
    assert not y[:, 16:].any()


@pytest.mark.parametrize("norm", ["fixup", "skipinit"])
def test_without_its_branches_a_residual_network_is_its_shortcuts(norm: str) -> None:
    """Every block is act(shortcut) at the start: ReLU of what ReLU gave changes nothing but the size."""
    network = normalise(made("resnet", depth=8, norm=Normaliser()), norm)
    x = torch.randn(3, 784).double()
    u: Tensor = network.first(x.view(3, 1, 28, 28)).relu()
    pooled = nn.functional.pad(u[:, :, ::4, ::4].mean((-2, -1)), (0, 48))
    torch.testing.assert_close(network(x), network.readout(pooled))


def test_fixup_puts_a_scalar_bias_before_the_activation_of_every_sum() -> None:
    network = normalise(made("resnet", depth=8, norm=Normaliser()), "fixup")
    for chain in network.joints:
        assert [type(m).__name__ for m in chain] == ["ScalarBias", "ReLU"]


@pytest.mark.parametrize(("head", "numbers"), [("average", 64), ("flatten", 64 * 3 * 3)])
def test_a_convnet_has_9_weights_for_each_pair_of_channels(head: str, numbers: int) -> None:
    convolutions = 9 * (1 * 16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    norms = 2 * 2 * (16 + 32 + 64)
    assert parameters(made("convnet", convolutions=2, head=head)) == convolutions + norms + 10 * (numbers + 1)


def test_an_averaging_convnet_does_not_see_where_in_a_pooled_cell_the_maximum_is() -> None:
    network = made("convnet", channels=[4], norm=Normaliser(), activation="identity")
    network.stages[0][0][0].weight.data = torch.zeros(4, 1, 3, 3).double()
    network.stages[0][0][0].weight.data[:, :, 1, 1] = 1.0
    x = torch.zeros(2, 28, 28).double()
    x[0, 4, 4] = x[1, 5, 5] = 1.0
    outputs = network(x.flatten(1))
    assert torch.equal(outputs[0], outputs[1])


def test_an_inception_module_joins_the_papers_channels() -> None:
    """Ioffe & Szegedy 2015, appendix: 256, 320, 576 and 576 channels behind 3a, 3b, 3c and 4a."""
    network, widths = made("inception-bn", divisor=1), []
    for block in network.blocks:
        block.register_forward_hook(lambda module, inputs, output: widths.append(tuple(output.shape[1:])))
    network(torch.randn(2, 784).double())
    assert widths == [(256, 28, 28), (320, 28, 28), (576, 14, 14), (576, 14, 14)]


def test_a_deep_mlp_is_an_mlp() -> None:
    deep, flat = made("deep-mlp", 784, depth=3, width=7), made("mlp", 784, hidden=[7, 7, 7])
    x = torch.randn(5, 784).double()
    assert torch.equal(deep(x), flat(x))


def test_a_deep_linear_network_is_the_product_of_its_matrices() -> None:
    network, x = made("deep-linear", 10, norm=Normaliser()), torch.randn(4, 10).double()
    product = torch.eye(10).double()
    for layer in network.layers:
        product = layer[0].weight @ product
    assert len(network.layers) == 25
    assert parameters(network) == 25 * 100
    torch.testing.assert_close(network(x), x @ product.T)


def test_every_matrix_of_a_deep_linear_network_is_normalised() -> None:
    assert sum(isinstance(m, BatchNorm) for m in made("deep-linear", 10).modules()) == 25


def test_targets_of_the_linear_map_are_one_matrix_times_the_inputs() -> None:
    splits = DATASETS.load("linear-map")(seed=0, device="cpu")
    a = torch.linalg.lstsq(splits.train.stored, splits.train.targets.double()).solution
    for split in (splits.train, splits.validation, splits.test):
        assert split.stored.shape == split.targets.shape == (1000, 10)
        torch.testing.assert_close(split.stored @ a, split.targets.double(), rtol=0, atol=1e-5)


def test_the_seed_of_the_linear_map_draws_matrix_and_numbers() -> None:
    first, again, other = (DATASETS.load("linear-map")(seed=seed, device="cpu").train for seed in (0, 0, 1))
    assert torch.equal(first.targets, again.targets)
    assert not torch.isclose(first.targets, other.targets).any(1).all()
    assert not torch.equal(first.stored, other.stored)
