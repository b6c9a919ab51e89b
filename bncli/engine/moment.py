"""What a probe may look at at one step of training: samples of activations, the next step, the loss of its batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bncli.config import Probes
from bncli.data.splits import Splits
from bncli.engine.batches import Batches
from bncli.engine.evaluate import losses_of
from bncli.engine.layers import Layer, outputs_of
from bncli.engine.network import Network
from bncli.engine.noise import noise_kept
from bncli.engine.optimizers import Hyper, State
from bncli.models.initialise import generator

ROWS = 4_000  # values of a channel that a metric is given at most: of an image, locations are examples too
CHUNK = 500  # examples a forward pass

Step = Callable[..., Tensor]
Samples = dict[str, Tensor]  # by site, "LAYER/PLACE": (*lanes, N, C)


@dataclass(frozen=True)
class Subject:
    """What is probed: a job's network in training, and all that its next step depends on."""

    how: Probes
    network: Network
    layers: Sequence[Layer]  # in the order in which they run
    chosen: Sequence[Layer]  # of which distributions are looked at
    splits: Splits
    batches: Batches
    step: Step  # of `train.step_of`
    state: State
    hyper: Hyper
    loss: str
    smoothing: float

    @property
    def device(self) -> str:
        """Where the network is."""
        return self.hyper.lr.device.type

    def samples(
        self, sites: Mapping[str, str], x: Tensor, *, training: bool, batch: int = CHUNK, kept: int | None = None
    ) -> Samples:
        """Outputs of the modules `sites` (site -> module) on x (N, features): each (*lanes, N, C), rows chosen once.

        In training mode x passes in whole batches of `batch` examples; what is left over is dropped. With `kept` only
        the first so many examples of each batch are.
        """
        lanes = len(self.network.lanes)
        chunks = list(x.split(batch))
        if training and len(chunks) > 1 and len(chunks[-1]) < batch:
            chunks.pop()
        self.network.train(training)
        try:
            parts = [self.network.watch(chunk, partial(outputs_of, names=set(sites.values()))) for chunk in chunks]
        finally:
            self.network.train(True)
        first = (slice(None),) * lanes + (slice(kept),)
        return {
            site: _rows(torch.cat([part[module][first] for part in parts], lanes), lanes)
            for site, module in sites.items()
        }

    def sites(self, places: Sequence[str]) -> dict[str, str]:
        """Modules by site, of the chosen layers."""
        return {f"{layer.name}/{place}": layer.site(place) for layer in self.chosen for place in places}

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


def halves(samples: Samples, lanes: int, draws: int, seed: int) -> Iterator[tuple[Samples, Samples]]:
    """Each sample's rows dealt to two samples at random, `draws` times."""
    draw = generator(seed, "null band")
    for _ in range(draws):
        pairs = {}
        for site, x in samples.items():
            order = torch.randperm(x.shape[lanes], generator=draw).to(x.device)
            half = len(order) // 2
            pairs[site] = [x.index_select(lanes, part) for part in (order[:half], order[half : 2 * half])]
        yield {site: pair[0] for site, pair in pairs.items()}, {site: pair[1] for site, pair in pairs.items()}


def _rows(x: Tensor, lanes: int) -> Tensor:
    """(*lanes, N, C, *locations) -> (*lanes, M, C): locations are examples; of too many, some are kept."""
    rows = x.movedim(lanes + 1, -1).flatten(lanes, -2) if x.ndim > lanes + 2 else x
    stride = -(-rows.shape[lanes] // ROWS)
    stride += stride > 1 and stride % 2 == 0  # odd: not always the same column of an image of even width
    return rows[(slice(None),) * lanes + (slice(None, None, stride),)] if stride > 1 else rows
