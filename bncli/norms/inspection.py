"""What the norms of a model are like before and after a replacement: sizes, operations, outputs, what they average.

Shapes: N examples, C channels, G groups, P locations.
"""

import copy
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bncli.errors import ConfigError
from bncli.norms import NORMS
from bncli.norms.replace import NewNorm, replace_norms
from bncli.norms.rows import EACH_LOCATION
from bncli.norms.sites import Census, NormChoice, NormSite, ReplacedNorm, Replacement
from bncli.norms.sites.census import as_it_was, call_model, guess_inputs, settle, take_census
from bncli.norms.sites.known import Adapter

_ROWS_OF_BATCH = {
    "examples and locations", "examples and locations, and training so far",
    "examples and locations, the channels of a group together",
}  # fmt: skip
_OF_LOCATIONS = {
    "locations of each channel of each example", "locations, each example by itself, the channels of a group together",
}  # fmt: skip
_OF_GROUPS = {
    "locations and the channels of a group, of each example",
    "the channels of a group and the locations, each example by itself",
}  # fmt: skip
_FUSED = 8  # operations a value of a norm that torch does in one: mean 1, variance 3, scaling 2, scale and shift 2


@dataclass(frozen=True)
class NormFacts:
    """What one norm is like."""

    parameters: int
    buffers: int  # running numbers, counters left out
    operations: int | None = None  # of one forward pass in training; None where no pass came
    shape: tuple[int, ...] | None = None  # of its output
    mean: float | None = None  # of its output, before training
    std: float | None = None
    averages_over: int | None = None  # values behind each of its statistics; 0 if it takes none, None if they are mixed


@dataclass(frozen=True)
class InspectedNorm:
    """One norm of a model, before and after."""

    path: str
    also: tuple[str, ...]
    old: str
    before: NormFacts
    new: str = ""  # "" if nothing replaces it
    options: Mapping[str, Any] = field(default_factory=dict)
    after: NormFacts | None = None
    notes: tuple[str, ...] = ()
    reason: str = ""  # why nothing replaces it


@dataclass(frozen=True)
class ModelFacts:
    """What a whole model is like."""

    parameters: int
    buffers: int
    operations: int | None = None  # a multiplication and an addition are two


@dataclass(frozen=True)
class ModelInspection:
    """The norms of a model, and of the same model with others."""

    to: str  # "" if nothing was to be replaced
    rows: tuple[InspectedNorm, ...]
    before: ModelFacts
    after: ModelFacts | None
    inputs: tuple[tuple[int, ...], ...] = ()  # shapes that the model was called with
    guessed: bool = False  # nobody gave them
    functional: tuple[str, ...] = ()  # norms that are no modules
    bias_added: tuple[str, ...] = ()
    bias_dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """All of it in types that JSON knows."""
        return asdict(self)


def inspect_model(
    model: nn.Module,
    to: NewNorm = "",
    *,
    inputs: Any = None,
    where: NormChoice | None = None,
    adapters: Mapping[type, Adapter] | None = None,
    **options: Any,
) -> ModelInspection:
    """Say of each norm of a model what it is like, what would replace it, what not and why; the model stays as it is.

    Args:
        model: any module.
        to: the norm that would replace them, as for `replace_norms`; "" to look only.
        inputs: what the model is called with; guessed from its first layer where they are not given.
        where: which norms would be replaced.
        adapters: for classes that bncli does not know.
        options: of the norm.

    Raises:
        ConfigError: for an unknown norm or option, a model without norms, or inputs that it does not run on.
    """
    settle(model, inputs)
    model = copy.deepcopy(model)
    given, inputs = inputs, _find_inputs(model, inputs)
    report = Replacement("", ())
    after: dict[str, NormFacts] = {}
    whole = None
    if to:
        changed, report = replace_norms(
            model, to, inputs=given, where=where, strict=False, adapters=adapters, **options
        )
        census = take_census(changed, inputs, adapters=adapters)
        after, whole = _measure(changed, census, inputs)
        after = {row.path: after[row.path] for row in report.replaced if row.path in after}
    census = take_census(model, inputs, adapters=adapters)
    if not census.sites:
        functional = f" that is a module; out of reach: {', '.join(census.functional)}" if census.functional else ""
        raise ConfigError(f"the model has no norm{functional}")
    before, whole_before = _measure(model, census, inputs)
    inspected = [ReplacedNorm(site.path, site.also, site.type, reason=site.refusal) for site in census.sites]
    rows = [
        InspectedNorm(
            row.path, row.also, row.old, before[row.path], row.new, row.options, after.get(row.path), row.notes,
            row.reason,
        )
        for row in report.rows or inspected
    ]  # fmt: skip
    return ModelInspection(
        report.to, tuple(rows), whole_before, whole, tuple(tuple(x.shape) for x in _tensors(inputs)), given is None,
        census.functional, report.bias_added, report.bias_dropped, report.notes,
    )  # fmt: skip


def draw_inputs(*shape: int) -> Tensor:
    """Numbers of a standard normal distribution, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _find_inputs(model: nn.Module, inputs: Any) -> Any:
    """The inputs given, or the first guess that the model runs on; None if there is none.

    The model is put into training, or, if it does not run in it, into evaluation.
    """
    for mode in (True, False):
        for guess in [inputs] if inputs is not None else guess_inputs(model):
            model.train(mode)
            try:
                with as_it_was(model):
                    call_model(model, guess)
            except Exception:  # a guess may be wrong; what is given is tried once more, with its message
                continue
            if inputs is not None or not guess.is_floating_point():
                return guess
            return draw_inputs(*guess.shape).to(guess)
    return inputs


def _tensors(inputs: Any) -> list[Tensor]:
    listed = list(inputs.values()) if isinstance(inputs, Mapping) else inputs
    return [x for x in (listed if isinstance(listed, tuple | list) else [listed]) if isinstance(x, Tensor)]


def _measure(model: nn.Module, census: Census, inputs: Any) -> tuple[dict[str, NormFacts], ModelFacts]:
    """What each norm and the whole model are like, from one forward pass in training."""
    norms = {site.path: (site, model.get_submodule(site.path)) for site in census.sites}
    counter, outputs = _OperationCounter(), dict[str, Tensor]()
    if inputs is not None:
        with ExitStack() as stack:
            for path, (_, module) in norms.items():
                stack.callback(module.register_forward_pre_hook(counter.enter(path)).remove)
                stack.callback(module.register_forward_hook(counter.leave(path, outputs)).remove)
            stack.enter_context(as_it_was(model))
            torch.manual_seed(0)  # so that dropout is the same before and after
            with counter:
                call_model(model, inputs)
    found = {}
    for path, (site, module) in norms.items():
        y = outputs.get(path)
        std, mean = torch.std_mean(y.float(), correction=0) if y is not None and not y.is_meta else (None, None)
        found[path] = NormFacts(
            sum(p.numel() for p in module.parameters()), _count_buffers(module), counter.at.get(path),
            None if y is None else tuple(y.shape), None if mean is None else mean.item(),
            None if std is None else std.item(), _count_averaged(site, module, census),
        )  # fmt: skip
    total = sum(counter.at.values()) + counter.elsewhere if inputs is not None else None
    return found, ModelFacts(sum(p.numel() for p in model.parameters()), _count_buffers(model), total)


def _count_buffers(module: nn.Module) -> int:
    return sum(buffer.numel() for name, buffer in module.named_buffers() if "running_" in name.rpartition(".")[2])


def _count_averaged(site: NormSite, module: Any, census: Census) -> int | None:
    """How many values a norm averages over for each of its statistics."""
    call = census.calls.get(site.path)
    if call is None or site.kind not in NORMS:
        return None
    channels = site.channels
    P = call.count_locations(channels)
    N = prod(call.shape) // (channels * P)
    over = NORMS[site.kind].over
    if site.kind in ("layer", "rms") and (site.each_location or site.sizes):
        return prod(site.sizes) if site.sizes else channels
    if over == EACH_LOCATION:
        return channels
    if over == "channels and locations of each example":
        return channels * P
    if over in _OF_GROUPS:
        return channels // int(getattr(module, "groups", getattr(module, "num_groups", 1))) * P
    if over == "locations and examples of a virtual batch":
        return min(int(module.ghost_size), N) * P
    return 0 if over == "" else N * P if over in _ROWS_OF_BATCH else P if over in _OF_LOCATIONS else None


class _OperationCounter(TorchDispatchMode):
    """Counts what torch computes: products by torch's own formulas, a reduction by its input, else by the output."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, int] = {}  # by norm
        self.elsewhere = 0
        self._within: list[str] = []

    def enter(self, path: str) -> Any:
        """A hook before a norm."""
        return lambda module, args: self._within.append(path)

    def leave(self, path: str, outputs: dict[str, Tensor]) -> Any:
        """A hook behind a norm, which keeps its first output."""

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._within.pop()
            self.at.setdefault(path, 0)
            if isinstance(output, Tensor):
                outputs.setdefault(path, output.detach().clone())

        return hook

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = _count_operations(func, args, kwargs or {}, out)
        if self._within:
            self.at[self._within[-1]] = self.at.get(self._within[-1], 0) + count
        else:
            self.elsewhere += count
        return out


_FREE = {
    "clone", "copy_", "_to_copy", "cat", "stack", "contiguous", "zeros_like", "empty_like", "ones_like", "zero_",
    "fill_", "zeros", "ones", "empty", "new_zeros", "new_ones", "new_empty", "detach", "slice", "index", "lift", "full",
    "constant_pad_nd", "_unsafe_view", "repeat", "roll", "arange", "scalar_tensor", "embedding", "index_select",
    "gather",
}  # fmt: skip
_NORMS_IN_ONE = ("batch_norm", "group_norm", "layer_norm", "rms_norm")


def _count_operations(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Of one call of torch, on numbers that are not whole."""
    packet = func._overloadpacket
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=out))
    name = packet.__name__
    if name in _FREE or func.is_view:
        return 0
    given = max((x.numel() for x in args if isinstance(x, Tensor)), default=0)
    if any(norm in name for norm in _NORMS_IN_ONE):
        return _FUSED * given
    made = [x for x in (out if isinstance(out, tuple | list) else [out]) if isinstance(x, Tensor)]
    size = max((x.numel() for x in made if x.is_floating_point()), default=0)
    passes = 3 if name.startswith(("var", "std")) else 1
    return passes * given if 0 < size < given else size
