"""A transformer on tokens or patches of images: encoder or decoder, norms before, behind or around its branches.

Shapes: N examples, T positions, C channels, H heads of D = C / H channels.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncli.kernels import is_wrapped
from bncli.models.unit import Normaliser, named, weights_normalised
from bncli.norms import NORMS
from bncli.norms.sample import RMSNorm
from bncli.norms.sites.layout import NormLayout, adapt

ROTARY_BASE = 10_000.0  # Su et al. 2021, section 3.2.2
# positions from which torch's own attention is faster (docs/log.md), which has no rule for lanes, and on a GPU may give
# other gradients at each call
LONG = 128
POSITION_STD = 0.02  # of learned positions at the start, as in BERT


class Transformer(nn.Module):
    """u = embedding + positions; u <- u + attention(u), u <- u + mlp(u) for each block; readout.

    Vaswani et al. 2017 (arXiv:1706.03762) without dropout. `placement` says where norms stand:

    - post: u <- norm(u + branch(u)), as in that paper and in BERT (Devlin et al. 2019);
    - pre: u <- u + branch(norm(u)), and one norm before the readout (Xiong et al. 2020, arXiv:2002.04745);
    - sandwich: u <- u + norm(branch(norm(u))), likewise (Ding et al. 2021, arXiv:2105.13290);
    - none: in no block.

    A norm takes each position by itself where it is defined on one axis (those with the option `over`), and positions
    as locations elsewhere: `batch` takes its statistics over examples and positions. With `statistics="position"`
    every position has statistics, and scales, of its own over the examples.

    Images are cut into patches, which are read out by the mean over positions (Dosovitskiy et al. 2021,
    arXiv:2010.11929, appendix D.3); windows of tokens are read out at every position.

    Args:
        shape: of one example, (channels, height, width) or (positions, kinds) of tokens.
        outputs: classes, or numbers predicted.
        norm: normalises activations where `placement` says, or the weights of every linear layer but the readout.
    """

    def __init__(
        self, shape: tuple[int, ...], outputs: int, norm: Normaliser, *,
        width: int, depth: int, heads: int, factor: int, patch: int, activation: str, placement: str,
        final_norm: bool | str, statistics: str, causal: bool, positions: str, qk_norm: bool, init: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.init, self.shape, self.patch = init, shape, patch
        T = count_positions(shape, patch)
        # drawn first, and by torch's generator: the same whatever follows
        self.embed: nn.Module = nn.Embedding(shape[1], width) if len(shape) == 2 else nn.Identity()
        start = nn.Parameter(POSITION_STD * torch.randn(T, width))
        self.register_parameter("positions", start if positions == "learned" else None)
        if len(shape) == 3:
            self.embed = weights_normalised(norm, nn.Linear(shape[0] * patch**2, width))
        place = _Places(norm, width, statistics, T)
        attend = {"heads": heads, "length": T, "causal": causal, "rotary": positions == "rotary", "qk_norm": qk_norm}
        self.blocks: Any = nn.ModuleList(
            Block(norm, place, width, factor * width, activation, placement, attend) for _ in range(depth)
        )
        ends = placement in ("pre", "sandwich") if final_norm == "auto" else bool(final_norm)
        self.head = named(norm=place.norms(ends))
        self.readout = nn.Linear(width, outputs)

    @property
    def branches(self) -> list[nn.Sequential]:
        """What is added to u, in order: for norms that act on residual networks."""
        return [branch for block in self.blocks for branch in (block.attention, block.mlp)]

    def forward(self, x: Tensor) -> Tensor:
        """(N, T) tokens -> (N, T, outputs); (N, features) of images -> (N, outputs)."""
        u = self.embed(x if len(self.shape) == 2 else patches_of(x.unflatten(-1, self.shape), self.patch))
        u = u if self.positions is None else u + self.positions
        for block in self.blocks:
            u = block(u)
        u = self.head(u)
        outputs: Tensor = self.readout(u if len(self.shape) == 2 else u.mean(1))
        return outputs


class Block(nn.Module):
    """u <- u + attention(u), normed behind where norms stand so; then the same with the perceptron."""

    def __init__(
        self, norm: Normaliser, place: "_Places", width: int, hidden: int, activation: str, placement: str, attend: Any
    ) -> None:  # fmt: skip
        super().__init__()

        def linear(inputs: int, outputs: int) -> tuple[nn.Module]:
            return (weights_normalised(norm, nn.Linear(inputs, outputs)),)

        before, behind = placement in ("pre", "sandwich"), placement == "sandwich"
        self.attention = named(
            norm=place.norms(before), qkv=linear(width, 3 * width), attend=(SelfAttention(width, **attend),),
            out=linear(width, width), last_norm=place.norms(behind),
        )  # fmt: skip
        self.attention_norm = named(norm=place.norms(placement == "post"))
        self.mlp = named(
            norm=place.norms(before), linear1=linear(width, hidden * (2 if activation == "swiglu" else 1)),
            activation=(GATES[activation](),), linear2=linear(hidden, width), last_norm=place.norms(behind),
        )  # fmt: skip
        self.mlp_norm = named(norm=place.norms(placement == "post"))

    def forward(self, u: Tensor) -> Tensor:
        """(N, T, C) -> (N, T, C)."""
        u = self.attention_norm(u + self.attention(u))
        added: Tensor = self.mlp_norm(u + self.mlp(u))
        return added


class SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(D)) v of each head, from queries, keys and values side by side: (N, T, 3 C) -> (N, T, C).

    Options:
        causal: a position sees itself and those before it.
        rotary: queries and keys are turned by their position (Su et al. 2021, arXiv:2104.09864), channel i of the
            first half of a head together with channel i of the second.
        qk_norm: queries and keys of each head are brought to root mean square 1 and scaled by a learned number for
            each channel (Henry et al. 2020, arXiv:2010.04245, by RMSNorm as is usual now).
    """

    future: Tensor | None
    turn: Tensor | None

    def __init__(self, width: int, *, heads: int, length: int, causal: bool, rotary: bool, qk_norm: bool) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        future = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
        self.register_buffer("future", future, persistent=False)
        turn = _turn(length, width // heads) if rotary else None
        self.register_buffer("turn", turn, persistent=False)
        self.query_norm, self.key_norm = (
            RMSNorm(width // heads, over="last") if qk_norm else nn.Identity() for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, 3 C) -> (N, T, C)."""
        q, k, v = x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (N, H, T, D)
        q, k = self.query_norm(q), self.key_norm(k)
        if self.turn is not None:
            q, k = turned(q, self.turn), turned(k, self.turn)
        if x.shape[1] >= LONG and x.device.type == "cpu" and not is_wrapped(x):
            given = F.scaled_dot_product_attention(q, k, v, is_causal=self.future is not None)
        else:
            scores = (q * self.scale) @ k.transpose(-1, -2)  # (N, H, T, T)
            scores = scores if self.future is None else scores.masked_fill(self.future, -math.inf)
            given = scores.softmax(-1) @ v
        attended: Tensor = given.transpose(1, 2).flatten(2)
        return attended


class SwiGLU(nn.Module):
    """silu(a) b of the two halves a, b of the channels (Shazeer 2020, arXiv:2002.05202): (..., 2 C) -> (..., C)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2 C) -> (..., C)."""
        a, b = x.chunk(2, -1)
        gated: Tensor = F.silu(a) * b
        return gated


GATES: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "swiglu": SwiGLU}


def count_positions(shape: tuple[int, ...], patch: int) -> int:
    """Tokens of a window, or patches of an image."""
    return shape[0] if len(shape) == 2 else (shape[1] // patch) * (shape[2] // patch)


def patches_of(images: Tensor, patch: int) -> Tensor:
    """(N, C, height, width) -> (N, positions, C patch patch), row by row."""
    cut: Tensor = images.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))  # (N, C, rows, patch, columns, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def turned(x: Tensor, turn: Tensor) -> Tensor:
    """(..., T, D) turned by the cosines and sines (2, T, D / 2) of each position's angles."""
    (cos, sin), (a, b) = turn.unbind(0), x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class _Places:
    """Makes the norms of a network's places, each for (N, T, C)."""

    def __init__(self, norm: Normaliser, width: int, statistics: str, positions: int) -> None:
        row, apart = NORMS[norm.name], statistics == "position"
        self._make, self._channels, self._layout = norm.of_channels, width, NormLayout(axis=-1)
        if "over" in row.options:
            self._make, self._layout = partial(NORMS.load(norm.name), **{**norm.options, "over": "last"}), NormLayout()
        elif apart and row.batch_statistics:
            self._channels, self._layout = width * positions, NormLayout(axis=-1, apart=True)
        elif apart or row.apart or row.over == "examples and locations":  # the same numbers, and nothing is moved
            self._layout = NormLayout(axis=-1, flat=True)

    def norms(self, there: bool) -> tuple[nn.Module, ...]:
        """A norm, or nothing where there is none."""
        return (adapt(self._make(self._channels), self._layout, {}),) if there and self._make else ()


def _turn(length: int, width: int) -> Tensor:
    """Cosines and sines of every position's angles, (2, T, D / 2)."""
    rates: Tensor = ROTARY_BASE ** -(torch.arange(0, width, 2) / width)
    angles = torch.arange(length).unsqueeze(1) * rates
    return torch.stack([angles.cos(), angles.sin()])
