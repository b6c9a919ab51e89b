"""The transformer: equal to torch's, blind to the future and to what is masked, at every place of its norms."""

from typing import Any

import pytest
import torch
from torch import nn

from bncli.config.study import study_of
from bncli.engine.layers import layers_of, outputs_of
from bncli.engine.train import train
from bncli.models import MODELS
from bncli.models.transformer import LONG, SelfAttention, Transformer, patches_of, turned
from bncli.models.unit import Normaliser, initialise
from bncli.norms import NORMS, normalise
from bncli.norms.batch import BatchNorm
from bncli.norms.sample import LayerNorm
from bncli.plan import Job, runs_of

WINDOW = (7, 11)  # positions, kinds of tokens


def normaliser(name: str, **options: Any) -> Normaliser:
    filled = NORMS.options(name, options)
    make = NORMS.load(name)
    return Normaliser(lambda channels: make(channels, **filled), name=name, options=filled)


def made(norm: Normaliser, shape: tuple[int, ...] = WINDOW, outputs: int = 10, **options: Any) -> Transformer:
    torch.manual_seed(0)
    filled = MODELS.options("transformer", {"width": 16, "depth": 2, "heads": 4, **options})
    network = Transformer(shape, outputs, norm, **filled)
    initialise(network, network.init, 0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():  # so that no bias and no scale is at its start
            parameter.add_(0.1 * torch.randn_like(parameter) * (not name.endswith("multiplier")))
    return network.double()


def of_torch(network: Transformer, *, pre: bool) -> nn.TransformerEncoder:
    """torch's encoder with the network's weights."""
    layer = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=pre, dtype=torch.float64)
    encoder = nn.TransformerEncoder(
        layer, 2, nn.LayerNorm(16, dtype=torch.float64) if pre else None, enable_nested_tensor=False
    )
    for block, theirs in zip(network.blocks, encoder.layers, strict=True):
        first, second = (
            (block.attention.norm, block.mlp.norm) if pre else (block.attention_norm.norm, block.mlp_norm.norm)
        )
        pairs = [
            (theirs.norm1, first), (theirs.norm2, second), (theirs.self_attn.out_proj, block.attention.out),
            (theirs.linear1, block.mlp.linear1), (theirs.linear2, block.mlp.linear2),
        ]  # fmt: skip
        for there, here in pairs:
            there.weight.data, there.bias.data = here.weight.data, here.bias.data
        theirs.self_attn.in_proj_weight.data = block.attention.qkv.weight.data
        theirs.self_attn.in_proj_bias.data = block.attention.qkv.bias.data
    if pre:
        encoder.norm.weight.data, encoder.norm.bias.data = network.head.norm.weight.data, network.head.norm.bias.data
    return encoder


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_outputs_and_gradients_are_those_of_torchs_encoder(placement: str, causal: bool) -> None:
    network = made(normaliser("layer"), placement=placement, causal=causal)
    encoder = of_torch(network, pre=placement == "pre")
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64) if causal else None
    tokens, weights = torch.randint(11, (5, 7)), torch.randn(5, 7, 10, dtype=torch.float64)
    ours = network(tokens)
    theirs = network.readout(encoder(network.embed(tokens) + network.positions, mask=mask, is_causal=causal))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    (theirs * weights).sum().backward()
    found = torch.autograd.grad((ours * weights).sum(), list(network.parameters()))
    grads = dict(zip((name for name, _ in network.named_parameters()), found, strict=True))
    torch.testing.assert_close(grads["embed.weight"], network.embed.weight.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grads["positions"], network.positions.grad, rtol=1e-9, atol=1e-9)
    for i, layer in enumerate(encoder.layers):
        pre, block = placement == "pre", f"blocks.{i}"
        names = {
            "self_attn.in_proj": f"{block}.attention.qkv", "self_attn.out_proj": f"{block}.attention.out",
            "linear1": f"{block}.mlp.linear1", "linear2": f"{block}.mlp.linear2",
            "norm1": f"{block}.attention.norm" if pre else f"{block}.attention_norm.norm",
            "norm2": f"{block}.mlp.norm" if pre else f"{block}.mlp_norm.norm",
        }  # fmt: skip
        for theirs_, ours_ in names.items():
            for part in ("weight", "bias"):
                expected = layer.get_parameter(f"{theirs_}{'_' if 'in_proj' in theirs_ else '.'}{part}").grad
                torch.testing.assert_close(grads[f"{ours_}.{part}"], expected, rtol=1e-9, atol=1e-9)


def graph_of(node: Any) -> str:
    """The names of what made an output, through all of its first inputs."""
    return "" if node is None else f"{node.name()} {graph_of(next(iter(node.next_functions), (None,))[0])}"


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_many_positions_is_that_of_plain_products(causal: bool) -> None:
    """In lanes it is by plain products, alone by torch's own."""
    attend = SelfAttention(8, heads=2, length=LONG, causal=causal, rotary=True, qk_norm=False).double()
    lanes = torch.randn(2, 3, LONG, 24, dtype=torch.float64, requires_grad=True)
    found = torch.vmap(attend)(lanes)
    (gradient,) = torch.autograd.grad(found, lanes, found.detach())
    for x, y, dx in zip(lanes.detach(), found, gradient, strict=True):
        own = x.requires_grad_()
        alone = attend(own)
        assert "ScaledDotProduct" in graph_of(alone.grad_fn)
        torch.testing.assert_close(y, alone, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(dx, torch.autograd.grad(alone, own, alone.detach())[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("norm", ["layer", "rms", "dyt", "none"])
def test_a_causal_model_does_not_see_later_tokens(norm: str, positions: str) -> None:
    network = made(normaliser(norm), causal=True, positions=positions, qk_norm=True, activation="swiglu")
    tokens = torch.randint(11, (3, 7))
    later = tokens.clone()
    later[:, 4:] = (tokens[:, 4:] + 1) % 11
    before, after = network(tokens), network(later)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize(("statistics", "sees"), [("all", True), ("position", False)])
def test_batch_statistics_show_a_causal_model_the_future_unless_they_are_of_each_position(
    statistics: str, sees: bool
) -> None:
    network = made(normaliser("batch"), causal=True, statistics=statistics)
    tokens = torch.randint(11, (3, 7))
    later = tokens.clone()
    later[:, 4:] = (tokens[:, 4:] + 1) % 11
    assert torch.allclose(network(tokens)[:, :4], network(later)[:, :4]) is not sees
    assert torch.allclose(network.eval()(tokens)[:, :4], network(later)[:, :4])


def test_an_encoder_sees_all_positions() -> None:
    network, tokens = made(normaliser("layer")), torch.randint(11, (3, 7))
    later = tokens.clone()
    later[:, 6] = (tokens[:, 6] + 1) % 11
    assert not torch.allclose(network(tokens)[:, 0], network(later)[:, 0])


def test_rotary_products_depend_on_distances_alone() -> None:
    attend = made(normaliser("none"), shape=(8, 11), positions="rotary").blocks[0].attention.attend
    q, k = torch.randn(2, 1, 4, 4, 4, dtype=torch.float64)
    products = [
        turned(q, attend.turn[:, first : first + 4]) @ turned(k, attend.turn[:, first : first + 4]).transpose(-1, -2)
        for first in (0, 4)
    ]
    torch.testing.assert_close(products[0], products[1], atol=1e-5, rtol=0)
    assert not torch.allclose(products[0], q @ k.transpose(-1, -2), atol=1e-2)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_positions_tell_windows_from_their_reversal(positions: str) -> None:
    network, tokens = made(normaliser("layer"), positions=positions), torch.randint(11, (3, 7))
    assert not torch.allclose(network(tokens), network(tokens.flip(1)).flip(1))


@pytest.mark.parametrize(("placement", "count"), [("pre", 5), ("post", 4), ("sandwich", 9), ("none", 0)])
def test_norms_stand_where_the_placement_says(placement: str, count: int) -> None:
    network = made(normaliser("layer"), placement=placement)
    assert sum(isinstance(module, LayerNorm) for module in network.modules()) == count


@pytest.mark.parametrize("name", ["layer", "rms", "dyt", "derf", "batch", "group", "frn"])
def test_a_norm_of_windows_is_that_of_channels_first(name: str) -> None:
    """Of a norm on one axis each position is an example; any other sees (N, C, T)."""
    options = {"groups": 4} if name == "group" else {}
    network, plain = made(normaliser(name, **options), depth=1), NORMS.load(name)(16, **NORMS.options(name, options))
    place, x = network.blocks[0].mlp.norm, torch.randn(5, 7, 16, dtype=torch.float64)
    plain.double().load_state_dict(place.state_dict())
    turned = x.reshape(-1, 16) if "over" in NORMS[name].options else x.transpose(1, 2)
    expected = plain(turned)
    torch.testing.assert_close(place(x), expected.view_as(x) if expected.ndim == 2 else expected.transpose(1, 2))


def test_statistics_of_a_position_are_over_the_examples() -> None:
    network = made(normaliser("batch", affine=False), depth=1, statistics="position")
    x = torch.randn(50, 7, 16, dtype=torch.float64) * torch.arange(1, 8).view(-1, 1)
    y = network.blocks[0].mlp.norm(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(7, 16, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(7, 16, dtype=torch.float64), atol=1e-4, rtol=0)


def test_patches_are_cut_row_by_row() -> None:
    image = torch.arange(2 * 4 * 6.0).view(1, 2, 4, 6)
    cut = patches_of(image, 2)
    assert cut.shape == (1, 6, 8)
    assert torch.equal(cut[0, 1].view(2, 2, 2), image[0, :, :2, 2:4])
    assert torch.equal(cut[0, 3].view(2, 2, 2), image[0, :, 2:, :2])


@pytest.mark.parametrize("norm", ["skipinit", "fixup"])
def test_without_norms_a_residual_start_is_the_embedding_alone(norm: str) -> None:
    torch.manual_seed(0)
    filled = MODELS.options("transformer", {"width": 16, "depth": 2, "heads": 4})
    network = Transformer(WINDOW, 10, Normaliser(), **filled)
    initialise(network, network.init, 0)
    normalise(network, norm)
    tokens = torch.randint(11, (3, 7))
    expected = network.readout(network.embed(tokens) + network.positions)
    torch.testing.assert_close(network(tokens), expected)


def test_layers_are_named_by_block_and_their_outputs_have_channels_second() -> None:
    network, tokens = made(normaliser("batch"), depth=1, placement="sandwich"), torch.randint(11, (3, 7))
    layers = layers_of(network, tokens)
    block = ["attention.qkv", "attention.out", "mlp.linear1", "mlp.linear2"]
    assert [layer.name for layer in layers] == [*(f"blocks.0.{name}" for name in block), "readout"]
    assert [layer.norm for layer in layers[:4]] == [
        "", "blocks.0.attention.last_norm", "", "blocks.0.mlp.last_norm"
    ]  # fmt: skip
    assert layers[2].activation == "blocks.0.mlp.activation"
    with outputs_of(network, {"blocks.0.attention.out", "blocks.0.mlp.norm"}) as taken:
        network(tokens)
    assert {tuple(x.shape) for x in taken.values()} == {(3, 16, 7)}


def test_a_norm_in_front_of_a_branch_is_known_by_the_layer_that_it_feeds() -> None:
    network, tokens = made(normaliser("batch"), depth=1), torch.randint(11, (3, 7))
    layers = layers_of(network, tokens)
    assert [layer.before for layer in layers] == ["blocks.0.attention.norm", "", "blocks.0.mlp.norm", "", "head.norm"]
    with outputs_of(network, {"blocks.0.attention.norm (input)"}) as taken:
        network(tokens)
    (found,) = taken.values()
    torch.testing.assert_close(found, (network.embed(tokens) + network.positions).transpose(1, 2))


def test_running_statistics_in_front_of_branches_are_held_against_those_of_the_population() -> None:
    tree = {
        "data": "digits", "model": {"name": "transformer", "width": 8, "depth": 1}, "seeds": 1, "reference": "batch",
        "training": {"steps": 4, "batch_size": 16}, "evaluation": {"every": 4, "split": "validation"},
        "variants": {"batch": "batch"}, "measures": ["final_loss"], "target": None,
        "probes": {"metrics": ["estimation-shift-relative"], "every": 2},
    }  # fmt: skip
    (run,) = runs_of(study_of(tree), "cpu")
    records = [record for record in train(Job((run,)))[0].records if record.metric == "estimation-shift-relative"]
    assert {record.layer for record in records} == {"blocks.0.attention.qkv", "blocks.0.mlp.linear1"}
    assert all(record.value > 0 for record in records)


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((10,), {}, "takes images or tokens, and an example here is a list of numbers"),
        ((32, 50), {"width": 30, "heads": 4}, "cannot share 30 channels among 4 heads; change width or heads"),
        ((32, 50), {"width": 6, "positions": "rotary"}, "cannot share 6 channels among 2 heads of an even number each"),
        ((1, 28, 28), {"patch": 5}, "cannot cut 28x28 pixels into patches of 5 x 5; change patch"),
    ],
)
def test_what_does_not_fit_is_said(shape: tuple[int, ...], options: dict[str, Any], said: str) -> None:
    assert MODELS["transformer"].misfit(MODELS.options("transformer", options), shape).startswith(said)


def test_a_norm_of_the_batch_absorbs_no_bias_here() -> None:
    """BERT's layers have biases, whichever the norm: one seed draws the same network for all."""
    plain, normed = made(normaliser("none")), made(Normaliser(BatchNorm, absorbs_bias=True, name="batch"))
    own = {name for name, _ in plain.named_parameters()}
    assert own < {name for name, _ in normed.named_parameters()}


def test_watching_changes_no_output_of_a_module_that_is_called_twice_or_works_in_place() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.act = nn.Linear(3, 3), nn.ReLU(inplace=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(self.linear(self.act(self.linear(x))))  # type: ignore[no-any-return]

    network, x = Twice(), torch.randn(5, 3)
    expected = network(x)
    with outputs_of(network, {"linear", "act"}) as taken:
        assert torch.equal(network(x), expected)
    assert torch.equal(taken["linear"], network.linear(x))
