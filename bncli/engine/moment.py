"""What a probe may look at at one step of training: samples of activations, the next step, the loss of its batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bncli.config import Probes
from bncli.data.splits import Splits
from bncli.engine.batches import Batches
from bncli.engine.evaluate import losses_of
from bncli.engine.layers import NetworkLayer, outputs_of
from bncli.engine.network import Network
from bncli.engine.state import noise_kept
from bncli.engine.trace import TrainingStep
from bncli.models.unit import generator
from bncli.optim.optimizers import Hyper, State

ROWS = 4_000  # values of a channel that a metric is given, at most, where locations are examples too
CHUNK = 500  # examples a forward pass


class ProbeSite(NamedTuple):
    """Where a number of a probe is from, as in `bncli.records.CurveKey`."""

    layer: str = ""
    place: str = ""


Activations = dict[ProbeSite, Tensor]  # each (*lanes, N, C)


@dataclass(frozen=True)
class Subject:
    """What is probed: a job's network in training, and all that its next step depends on."""

    how: Probes
    network: Network
    layers: Sequence[NetworkLayer]  # in the order in which they run
    chosen: Sequence[NetworkLayer]  # of which distributions are looked at
    splits: Splits
    batches: Batches
    step: TrainingStep
    state: State
    hyper: Hyper
    loss: str
    smoothing: float

    @property
    def device(self) -> str:
        """Where the network is."""
        return self.hyper.lr.device.type

    def samples(
        self, sites: Mapping[ProbeSite, str], x: Tensor, *, training: bool, batch: int = CHUNK, kept: int | None = None
    ) -> Activations:
        """Outputs of the modules `sites` (site -> module) on x (N, features): each (*lanes, N, C), rows chosen once.

        x passes in batches of `batch` examples; with `kept` only the first so many of each are.
        """
        lanes, capture = len(self.network.lanes), partial(outputs_of, names=set(sites.values()))
        self.network.train(training)
        try:
            parts = [self.network.watch(chunk, capture) for chunk in x.split(batch)]
        finally:
            self.network.train(True)
        first = (slice(None),) * lanes + (slice(kept),)
        return {
            site: _rows(torch.cat([part[module][first] for part in parts], lanes), lanes)
            for site, module in sites.items()
        }

    def sites(self, places: Sequence[str]) -> dict[ProbeSite, str]:
        """Modules by site, of the chosen layers."""
        return {ProbeSite(layer.name, place): layer.site(place) for layer in self.chosen for place in places}

    def probe_set(self) -> Tensor:
        """(N, features)."""
        split = getattr(self.splits, self.how.split)
        inputs: Tensor = split.slice(0, self.how.examples)[0]
        return inputs

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """The batch that the next training step takes; it stays the next."""
        place = self.batches.state()
        batch = next(iter(self.batches.next(1)))
        self.batches.restore(place)
        return batch

    def loss_on(self, x: Tensor, y: Tensor) -> Callable[[Mapping[str, Tensor]], Tensor]:
        """The training loss on one batch, (*lanes,), as a function of parameters; the same noise at each call."""

        def loss(parameters: Mapping[str, Tensor]) -> Tensor:
            buffers = {name: buffer.clone() for name, buffer in self.network.buffers.items()}
            with noise_kept(self.device):
                outputs = self.network.pure(parameters, buffers, x)
            return losses_of(outputs, y, self.loss, self.smoothing)

        return loss

    def parameters_after(self, x: Tensor, y: Tensor, lr: Tensor) -> dict[str, Tensor]:
        """The parameters after the next training step, taken on copies."""
        parameters = {name: p.detach().clone().requires_grad_() for name, p in self.network.parameters.items()}
        buffers, state = copied(self.network.buffers), copied(self.state)
        with noise_kept(self.device):
            self.step(parameters, buffers, state, replace(self.hyper, lr=lr), x, y)
        return {name: p.detach() for name, p in parameters.items()}


def copied(tree: Any) -> Any:
    """A tree of tensors, copied."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, Mapping):
        return {key: copied(value) for key, value in tree.items()}
    return [copied(value) for value in tree]


def resampled(
    samples: Activations, examples: int, lanes: int, draws: int, seed: int
) -> Iterator[tuple[Activations, Activations]]:
    """Two samples of as many examples as there are, drawn with replacement (why: bncli/shift/null.py).

    All sites and lanes draw the same examples, each with all of its locations.
    """
    draw = generator(seed, "null band")
    for _ in range(draws):
        first, second = torch.randint(examples, (2, examples), generator=draw)
        yield _drawn(samples, first, lanes), _drawn(samples, second, lanes)


def _drawn(samples: Activations, index: Tensor, lanes: int) -> Activations:
    found = {}
    for site, x in samples.items():
        blocks = x.unflatten(lanes, (len(index), -1))
        found[site] = blocks.index_select(lanes, index.to(x.device)).flatten(lanes, lanes + 1)
    return found


def _rows(x: Tensor, lanes: int) -> Tensor:
    """(*lanes, N, C, *locations) -> (*lanes, N P, C): P locations of each example, evenly spaced, are rows too."""
    if x.ndim == lanes + 2:
        return x
    places, kept = x.flatten(lanes + 2), max(1, ROWS // x.shape[lanes])
    if kept < places.shape[-1]:
        places = places[..., torch.linspace(0, places.shape[-1] - 1, kept).round().long()]
    return places.transpose(-1, -2).flatten(lanes, lanes + 1)
