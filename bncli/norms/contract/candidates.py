"""A norm that is held against the contract: how it is made, what it takes, and the batches it is tried on.

Shapes: N examples, C channels, L locations of any number of axes.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from bncli import errors

LOCATIONS: tuple[tuple[int, ...], ...] = ((), (4,), (3, 2), (2, 3, 2))  # of (N, C), (N, C, L), (N, C, H, W), ...
first_line = partial(errors.first_line, most=160)
PLANE = (6, 6)  # of the batches that stand for images


@dataclass(frozen=True)
class Candidate:
    """A norm of a number of channels, to be made as often as a check needs a new one."""

    make: Callable[..., nn.Module]  # takes the keyword device
    channels: int = 8
    locations: tuple[tuple[int, ...], ...] = LOCATIONS  # that it takes
    channels_last: bool = False  # it takes (N, ..., C); here it is turned to (N, C, ...)
    lanes: bool = False  # its row says that it runs under torch.func.vmap

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W) of a batch of images."""
        return (6, self.channels, *PLANE)

    def new(self, device: str | None = None) -> nn.Module:
        """A new norm."""
        made = self.make(device=device)
        return ChannelsTurned(made) if self.channels_last else made

    def images(self, seed: int = 0) -> Tensor:
        """(N, C, H, W) with correlated channels, away from mean 0 and variance 1."""
        x = torch.randn(self.shape, generator=torch.Generator().manual_seed(seed))
        return x + 0.5 * x.roll(1, 1) + torch.arange(self.channels).view(-1, 1, 1) / 4

    def example(self, examples: int = 12, locations: tuple[int, ...] | None = None) -> Tensor:
        """(N, C, L) in float64, of the fewest locations that the norm takes or of those given; a new one each time."""
        sizes = self.locations[0] if locations is None else locations
        x = torch.randn(examples, self.channels, *sizes, dtype=torch.float64)
        return x + 0.5 * x.roll(1, 1) + torch.arange(self.channels).view(-1, *[1] * len(sizes))

    def trained(self) -> nn.Module:
        """In float64, after two batches of training, with parameters that are not the initial ones."""
        norm = self.new().double()
        for parameter in norm.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
        for _ in range(2):
            norm(self.example())
        return norm

    def settled(self) -> nn.Module:
        """After two batches of images and with parameters off their start; the same each time."""
        torch.manual_seed(0)
        norm = self.new()
        with torch.no_grad():
            for parameter in norm.parameters():
                parameter.add_(0.2 * torch.rand_like(parameter))
            for seed in (1, 2):
                norm(self.images(seed))
        return norm

    def draws(self) -> bool:
        """Whether its training output is random."""
        norm = self.settled()
        return not torch.equal(copy.deepcopy(norm)(self.images()), copy.deepcopy(norm)(self.images()))


class ChannelsTurned(nn.Module):
    """A norm of (N, ..., C), given (N, C, ...)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) from (N, C, ...)."""
        y: Tensor = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return y


def find_locations(candidate: Candidate) -> tuple[list[tuple[int, ...]], dict[str, str]]:
    """Which of LOCATIONS a norm takes in training, and by shape what it did with the others."""
    taken, wrong = list[tuple[int, ...]](), dict[str, str]()
    for locations in LOCATIONS:
        x = candidate.example(6, locations).float()
        shown = describe_shape(x)
        try:
            y = candidate.new()(x)
        except Exception as error:  # anybody's code
            wrong[shown] = f"raises {first_line(error)}"
            continue
        if isinstance(y, Tensor) and y.shape == x.shape:
            taken.append(locations)
        else:
            wrong[shown] = f"gives {describe_shape(y) if isinstance(y, Tensor) else type(y).__name__}"
    return taken, wrong


def step(run: Callable[[Tensor], Tensor], modules: Iterable[nn.Module], x: Tensor, gy: Tensor | None = None) -> Tensor:
    """Gradients at x and at all parameters of the output (weighted by `gy`, else by fixed numbers), as one vector."""
    torch.manual_seed(3)  # of norms that draw
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = run(leaf)
    if gy is None:
        gy = torch.randn(y.shape, generator=torch.Generator().manual_seed(4)).to(y.dtype)
    for module in modules:
        module.zero_grad()
    y.backward(gy)
    parameters = [p.grad.flatten().float() for m in modules for p in m.parameters() if p.grad is not None]
    hold(leaf.grad is not None, "its input gets no gradient")
    assert leaf.grad is not None
    return torch.cat([leaf.grad.flatten(), *parameters])


def hold(fits: bool, seen: str) -> None:
    """Raise what was seen, unless it fits.

    Raises:
        AssertionError: also where Python leaves assertions out.
    """
    if not fits:
        raise AssertionError(seen)


def describe_shape(x: Tensor) -> str:
    """`(6, 8, 4)`."""
    return str(tuple(x.shape))
