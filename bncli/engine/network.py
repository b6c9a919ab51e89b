"""A run's network as a program over lanes: S runs as one vmapped network, or one run as it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn.utils.parametrize import is_parametrized

from bncli.data import DATASETS
from bncli.engine.layers import NetworkLayer, layers_of
from bncli.engine.state import noise_kept, tensors_kept
from bncli.models import MODELS
from bncli.models.unit import Normaliser, drawn_from, initialise
from bncli.norms import NORMS
from bncli.plan import Run

Tensors = Mapping[str, Tensor]  # by name: parameters or buffers
Capture = Callable[[nn.Module], AbstractContextManager[Mapping[str, Tensor]]]  # open while a model runs


def build(run: Run) -> nn.Module:
    """The network of one run, with its seed's weights; the same draws in every variant, where shapes match."""
    data, row = DATASETS.describe(run.data.name, run.data.options), NORMS[run.norm.name]
    target = partial(NORMS.load(run.norm.name), **run.norm.options)
    norm = Normaliser(
        of_channels=target if row.side == "activation" else None,
        of_layer=target if row.side == "weight" else None,
        absorbs_bias=row.absorbs_bias,
        name=run.norm.name,
        options=run.norm.options,
    )
    inputs = data.shape if MODELS[run.model.name].locations else data.features
    make = MODELS.load(run.model.name)
    with drawn_from(run.seed):
        model: nn.Module = make(inputs, data.outputs, norm, **run.model.options)
    if hasattr(model, "init"):
        initialise(model, model.init, run.seed)
    return target(model) if row.side == "network" else model


class Network:
    """Parameters and buffers of shape (*lanes, ...), and the forward pass over them; lanes is () or (S,)."""

    def __init__(self, runs: Sequence[Run], device: str) -> None:
        models = [build(run).to(device) for run in runs]
        self._model = models[0]
        self.positions = MODELS[runs[0].model.name].positions  # its activations are (N, positions, C)
        self.weights = _weights(self._model)  # names of those parameters that are weights of layers
        self.size = sum(p.numel() for p in self._model.parameters())  # trainable numbers of one run
        self._forward: Callable[[Tensor, bool], Tensor]
        if len(runs) == 1:
            self.lanes: tuple[int, ...] = ()
            if runs[0].training.memory_format == "channels_last":
                self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                if MODELS[runs[0].model.name].whole and not self._runs(runs[0]):  # somebody's x.view(len(x), -1)
                    self._model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            self.parameters, self.buffers = dict(self._model.named_parameters()), dict(self._model.named_buffers())
            self._forward = lambda x, shared: self._model(x)
        else:
            self.lanes = (len(runs),)
            parameters, self.buffers = stack_module_state(models)
            self.parameters = {name: p.detach().requires_grad_() for name, p in parameters.items()}
            self._own, self._common = (_lanes(self._call, at) for at in (0, None))
            self._forward = self._vmapped

    def _runs(self, run: Run) -> bool:
        """Whether the model takes an example as it is now; nothing changes."""
        device = next(self._model.parameters()).device
        x = torch.zeros(1, DATASETS.describe(run.data.name, run.data.options).features, device=device)
        try:
            with torch.no_grad(), noise_kept(device.type):
                self._model.eval()(x)
        except RuntimeError:
            return False
        finally:
            self._model.train()
        return True

    def forward(self, x: Tensor, *, shared: bool = False) -> Tensor:
        """Outputs (*lanes, N, outputs) for inputs (*lanes, N, features), or (N, features) if all lanes share them.

        Of windows of tokens outputs are (*lanes, N, positions, outputs).
        """
        return self._forward(x, shared)

    def train(self, mode: bool) -> None:
        """Switch between training and evaluation semantics."""
        self._model.train(mode)

    @contextmanager
    def buffers_kept(self) -> Iterator[None]:
        """Put every buffer back as it was."""
        with tensors_kept(self.buffers.values()):
            yield

    @contextmanager
    def momentum(self, value: float) -> Iterator[None]:
        """Give every running statistic this momentum for a while."""
        modules: list[Any] = [m for m in self._model.modules() if hasattr(m, "momentum")]
        kept = [module.momentum for module in modules]
        try:
            for module in modules:
                module.momentum = value
            yield
        finally:
            for module, old in zip(modules, kept, strict=True):
                module.momentum = old

    def pure(self, parameters: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
        """What `forward` computes, of given parameters and buffers; training changes those buffers in place."""
        outputs: Tensor = (self._own if self.lanes else self._call)(parameters, buffers, x)
        return outputs

    def layers(self, x: Tensor) -> list[NetworkLayer]:
        """Layers in the order in which they run on x (N, features)."""
        return layers_of(self._model, x)

    def watch(self, x: Tensor, capture: Capture, *, shared: bool = True) -> dict[str, Tensor]:
        """What `capture(model)` takes down while x passes: each (*lanes, ...).

        x is (N, features) where all lanes share it, else (*lanes, N, features).

        Nothing changes: buffers are copies, generators are put back.
        """

        def call(parameters: Tensors, buffers: Tensors, x: Tensor) -> dict[str, Tensor]:
            with capture(self._model) as taken:
                self._call(parameters, buffers, x)
            return dict(taken)

        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        with torch.no_grad(), noise_kept(x.device.type):
            return (_lanes(call, None if shared else 0) if self.lanes else call)(self.parameters, buffers, x)

    def _vmapped(self, x: Tensor, shared: bool) -> Tensor:
        program = self._common if shared else self._own
        outputs: Tensor = program(self.parameters, self.buffers, x)
        return outputs

    def _call(self, parameters: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._model, ({**parameters}, {**buffers}), (x,))
        return outputs


def _lanes(call: Callable[..., Any], inputs: int | None) -> Callable[..., Any]:
    """`call` over lanes of parameters and buffers; a norm that draws noise draws other noise in each lane."""
    return torch.vmap(call, in_dims=(0, 0, inputs), randomness="different")


def _weights(model: nn.Module) -> set[str]:
    """Names of the weights of linear and convolutional layers; of a parametrized one, what its direction comes from."""
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            inner: dict[str, Tensor] = {"weight": module.weight}
            if is_parametrized(module, "weight"):
                parts: Any = module.parametrizations
                inner = {f"parametrizations.weight.{n}": p for n, p in parts.weight.named_parameters(recurse=False)}
            found.add(f"{name}.{max(inner, key=lambda n: inner[n].numel())}".removeprefix("."))
    return found
