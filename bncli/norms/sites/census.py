"""The norms of anybody's model: which there are and where, and what one forward pass says of each.

Nothing of a model need be known. What is no module, such as `F.batch_norm` in somebody's forward, cannot be replaced; a
forward pass finds it, so that it can be said.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bncli.errors import ConfigError, first_line
from bncli.norms.sites import Census, NormCall, NormSite
from bncli.norms.sites.known import Adapter, channels_of, is_lazy_class, kind_of, name_of

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
_FUNCTIONS = {
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm", "local_response_norm", "native_batch_norm",
    "native_group_norm", "native_layer_norm",
}  # fmt: skip
_VIEWS = {"flatten", "reshape", "view", "unflatten", "transpose", "permute", "movedim", "squeeze", "unsqueeze"}
_LOOKS = {"__get__", "size", "dim", "numel", "stride", "is_contiguous", "is_floating_point", "__len__"}
_SIDES = (32, 64, 224, 299)  # pixels to try: the smallest that a network takes is the quickest


def take_census(model: nn.Module, inputs: Any = None, *, adapters: Mapping[type, Adapter] | None = None) -> Census:
    """Find every norm of a model.

    The model is left as it was: parameters, buffers, modes, hooks and torch's generators.

    Args:
        model: any module.
        inputs: what it is called with: a tensor, a tuple of arguments, or a dict of keyword arguments. Without them
            inputs are guessed from the first layer, to see which layer feeds which norm; shapes then say nothing. A
            guess that the model breaks off at tells of the norms before that.
        adapters: says of classes that bncli does not know where their channels are.

    Raises:
        ConfigError: if the model does not run on the inputs given.
    """
    sites = tuple(_find(model, adapters or {}))
    if inputs is not None:
        tried = [_watch(model, sites, inputs, mode) for mode in (None, False)]
        found, error = next((each for each in tried if each[1] is None), tried[0])
        if error is not None:
            raise ConfigError(f"the model does not run on the inputs given: {first_line(error)}") from error
        return found
    best, problem = Census(sites), ""
    for training in (True, False):
        for guess in guess_inputs(model):
            found, error = _watch(model, sites, guess, training)
            best = max(best, replace(found, guessed=True), key=lambda census: len(census.calls))
            if error is None:
                return best
            problem = first_line(error)
    return replace(best, problem=problem)


def settle(model: nn.Module, inputs: Any) -> None:
    """Give layers that are lazy still their sizes, by calling the model once as torch wants it.

    Raises:
        ConfigError: if there are such layers and no inputs.
    """
    lazy = [f"{path}: {name_of(module)}" for path, module in model.named_modules() if is_lazy_class(module)]
    if lazy and inputs is None:
        raise ConfigError(f"{lazy[0]} does not know its size yet; give inputs, or call the model once")
    if lazy:
        with as_it_was(model):
            call_model(model.eval(), inputs)


def guess_inputs(model: nn.Module) -> Iterator[Tensor]:
    """Batches of two that the first layer of a model would take, on its device and in its type."""
    first = next((m for m in model.modules() if isinstance(m, (*LAYERS, nn.Embedding)) and hasattr(m, "weight")), None)
    if first is None:
        return
    made: dict[str, Any] = {"device": first.weight.device, "dtype": first.weight.dtype}
    if isinstance(first, nn.Embedding):
        yield torch.zeros(2, 8, dtype=torch.long, device=first.weight.device)
    elif isinstance(first, nn.Linear):
        yield torch.zeros(2, first.in_features, **made)
        yield torch.zeros(2, 8, first.in_features, **made)
    elif isinstance(first, nn.Conv2d | nn.ConvTranspose2d):
        known = getattr(model, "image_size", None), *getattr(model, "default_cfg", {}).get("input_size", ())[-1:]
        for side in dict.fromkeys([side for side in known if isinstance(side, int)] or _SIDES):
            yield torch.zeros(2, first.in_channels, side, side, **made)
        yield torch.zeros(2, first.in_channels, 1, 1, **made)
    elif isinstance(first, nn.Conv3d):
        yield torch.zeros(2, first.in_channels, 8, 64, 64, **made)
    elif isinstance(first, nn.Conv1d):
        yield torch.zeros(2, first.in_channels, 256, **made)


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Put modes, buffers and torch's generators back as they were."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers() if not nn.parameter.is_lazy(buffer)}
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call a model with a tensor, a tuple of arguments or a dict of keyword arguments, which stay as they are."""
    inputs = _clone(inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def _clone(value: Any) -> Any:
    """A first layer may change its input in place."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: _clone(inner) for key, inner in value.items()}
    return type(value)(_clone(inner) for inner in value) if type(value) in (tuple, list) else value


def _find(model: nn.Module, adapters: Mapping[type, Adapter]) -> Iterator[NormSite]:
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    within: list[str] = []
    for module, (path, *also) in paths.items():
        if any(path.startswith(f"{outer}." if outer else "") for outer in within):
            continue
        kind = kind_of(module, adapters)
        if kind is None or "parametrizations" in path.split("."):  # of weights, as weight_norm has it
            continue
        within.append(path)
        channels = 0 if kind.refusal else channels_of(module, adapters)
        known = kind.name, channels, kind.axis, kind.each_location, kind.sizes, kind.refusal, kind.stays
        yield NormSite(path, tuple(also), name_of(module), *known)


def _watch(
    model: nn.Module, sites: Sequence[NormSite], inputs: Any, training: bool | None
) -> tuple[Census, Exception | None]:
    """What one forward pass says of the sites, and what it was broken off by."""
    norms = {model.get_submodule(site.path): site for site in sites}
    watch, error = _Follower(_examples(inputs)), None
    with ExitStack() as stack:
        for path, module in model.named_modules():
            before, after = watch.hooks(path, module, norms.get(module), sequence_first=_is_sequence_first(model, path))
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after).remove)
        stack.enter_context(as_it_was(model))
        if training is not None:
            model.train(training)
        try:
            with watch:
                call_model(model, inputs)
        except Exception as raised:  # anybody's code, or a guess that was wrong
            error = raised
    calls = {
        path: replace(call, changed=path in watch.changed, shared=path in watch.shared)
        for path, call in watch.calls.items()
    }
    return Census(tuple(sites), calls, tuple(watch.functional)), error


def _is_sequence_first(model: nn.Module, path: str) -> bool:
    """Whether the module that holds this one has an attention over (T, N, C)."""
    holder = model.get_submodule(path.rpartition(".")[0])
    return any(isinstance(each, nn.MultiheadAttention) and not each.batch_first for each in holder.children())


def _examples(inputs: Any) -> int:
    """How many examples a batch has, by its first tensor."""
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    values = values if isinstance(inputs, Mapping | tuple | list) else (inputs,)
    return next((len(value) for value in values if isinstance(value, Tensor) and value.ndim), 0)


class _Follower(TorchFunctionMode):
    """Follows tensors by identity: which layer made a norm's input, and what else sees its input and its output."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.calls: dict[str, NormCall] = {}
        self.functional: dict[str, None] = {}
        self.changed: set[str] = set()
        self.shared: set[str] = set()
        self._examples = examples
        self._running: list[str] = []  # paths of the modules that are being called
        self._norms = 0  # how many of them are norms
        self._made: dict[int, tuple[Any, str]] = {}  # output of a layer: a weak reference, path
        self._views: set[int] = set()  # those of them that are views
        self._inputs: dict[int, tuple[Any, str]] = {}  # input of a norm
        self._outputs: dict[int, tuple[Any, str, int]] = {}  # output of a norm, and its version

    def hooks(
        self, path: str, module: nn.Module, site: NormSite | None, *, sequence_first: bool
    ) -> tuple[Callable[..., None], Callable[..., None]]:
        """What runs before and after a module."""

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._running.append(path)
            if site is None:
                return
            self._norms += 1
            x = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
            if x is not None:
                self._enter(site, x, sequence_first)

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._running.pop()
            if site is not None:
                self._norms -= 1
            if not isinstance(output, Tensor):
                return
            if site is not None:
                self._outputs[id(output)] = ref(output), path, output._version
                self._inputs.pop(id(output), None)  # of no norm: who uses the one uses the other
            elif isinstance(module, LAYERS):
                self._made[id(output)] = ref(output), path
                self._views.discard(id(output))

        return before, after

    def _enter(self, site: NormSite, x: Tensor, sequence_first: bool) -> None:
        made, layer = self._made.get(id(x), (lambda: None, ""))
        layers = (layer,) if made() is x else ()
        if seen := self.calls.get(site.path):
            self.calls[site.path] = replace(seen, layers=tuple(dict.fromkeys((*seen.layers, *layers))))
        else:
            last = site.axis == -1 and x.ndim > 2
            second = last and (sequence_first or x.shape[0] != self._examples == x.shape[1])
            self.calls[site.path] = NormCall(tuple(x.shape), int(second), layers, viewed=id(x) in self._views)
        if not layers:
            self.shared.add(site.path)  # whatever made it may need it again, for its gradient
        self._inputs[id(x)] = ref(x), site.path

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if self._norms or name in _LOOKS:
            return result
        if name in _VIEWS and isinstance(result, Tensor) and isinstance(args[0], Tensor):
            made, path = self._made.get(id(args[0]), (lambda: None, ""))
            if made() is args[0]:
                self._made[id(result)] = ref(result), path
                self._views.add(id(result))
        if name in _FUNCTIONS:
            self.functional[f"{self._running[-1] or 'model'}: {name}"] = None
        for value in (*args, *kwargs.values()):
            for x in value if isinstance(value, tuple | list) else (value,):
                if isinstance(x, Tensor):
                    self._see(x)
        return result

    def _see(self, x: Tensor) -> None:
        found, path = self._inputs.get(id(x), (lambda: None, ""))
        if found() is x:
            self.shared.add(path)
        made, path, version = self._outputs.get(id(x), (lambda: None, "", 0))
        if made() is x and x._version != version:
            self.changed.add(path)
