"""A training step as a flat list of operations, written down while it runs: no vmap, no autograd, no modules."""

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from bncli.data.splits import Split
from bncli.engine.captured import captured
from bncli.engine.graph import call_directly, simplify
from bncli.engine.network import Network, Tensors
from bncli.engine.state import noise_kept, tensors_kept
from bncli.kernels import being_traced, fallbacks_noted
from bncli.kernels.linear import ProductsInOrder
from bncli.optim.optimizers import Hyper, State
from bncli.plan import Job

DEPENDS_ON_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}

Parts = Mapping[Any, Callable[..., Any]]


def record(function: Callable[..., Tensor], tensors: Sequence[Tensor], parts: Parts) -> fx.GraphModule:
    """Call `function` with tensors and return its operations, to be called with others of the same shapes.

    Operations that `parts` names are written down as what it makes of them. Each node's `meta["val"]` is the tensor
    that it gave; whoever has read them should drop them.

    Raises:
        RuntimeError: if an operation's result depends on a tensor's value otherwise than by its own values, or if this
            torch would load its compiler to record anything.
    """
    if hasattr(_Recorder.__torch_dispatch__, "__wrapped__"):
        raise RuntimeError(f"torch {torch.__version__} cannot record operations without loading its compiler")
    recorder = _Recorder(tensors, parts)
    with being_traced(), recorder:
        result = function(*tensors)
    recorder.graph.output(recorder.node_of(result))
    return fx.GraphModule(recorder.root, recorder.graph)


class _Recorder(TorchDispatchMode):
    """Sees what is left of every operation once vmap and autograd have done their part."""

    def __init__(self, tensors: Sequence[Tensor], parts: Parts) -> None:
        super().__init__()
        self.graph, self.root, self._parts = fx.Graph(), torch.nn.Module(), parts
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []  # so that no identity is given twice
        for i, tensor in enumerate(tensors):
            self._know(tensor, self.graph.placeholder(f"x{i}"))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation and write it down."""
        kwargs = kwargs or {}
        if DEPENDS_ON_VALUES & set(func.tags):
            raise RuntimeError(f"{func}: what it gives depends on a tensor's values, and would be burnt into the trace")
        if func in self._parts:
            with self:
                return self._parts[func](*args, **kwargs)
        outputs = func(*args, **kwargs)
        if outputs is not None and not isinstance(outputs, Tensor | list | tuple):  # of a shape, not of values
            return outputs
        inputs, named = tree_map_only(Tensor, self.node_of, (tuple(args), dict(kwargs)))
        node = self.graph.call_function(func, inputs, named)
        if isinstance(outputs, Tensor):
            self._know(outputs, node)
        else:  # None: what changes a list of tensors in place
            for i, output in enumerate(outputs or ()):
                if isinstance(output, Tensor):
                    self._know(output, self.graph.call_function(operator.getitem, (node, i)))
        return outputs

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False spares torch the import of its compiler; nothing is compiled within a recording.

        Private to torch, which since 2.11 wraps `__torch_dispatch__` of every mode that does not say so.
        """
        return False

    def node_of(self, tensor: Tensor) -> fx.Node:
        """The node that made a tensor; one from elsewhere is kept as a constant, by reference."""
        if id(tensor) not in self._nodes:
            name = f"kept_{len(self._alive)}"
            self.root.register_buffer(name, tensor)
            self._know(tensor, self.graph.get_attr(name))
        return self._nodes[id(tensor)]

    def _know(self, tensor: Tensor, node: fx.Node) -> None:
        node.meta["val"] = tensor
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)


# parameters, buffers, the optimiser's state, hyperparameters, inputs, targets -> losses (`bncli.engine.train.step_of`)
TrainingStep = Callable[[Tensors, Tensors, State, Hyper, Tensor, Tensor], Tensor]

aten = torch.ops.aten


def _log_softmax(x: Tensor, axis: int, half_to_float: bool) -> Tensor:
    centred = x - x.amax(axis, keepdim=True)
    return centred - centred.exp().sum(axis, keepdim=True).log()


def _log_softmax_gradient(g: Tensor, log_p: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    return g - log_p.exp() * g.sum(axis, keepdim=True)


# torch's own kernels for these take 160 ns a row of ten classes on one core; in parts it is a third (docs/log.md)
IN_PARTS: Parts = {
    aten._log_softmax.default: _log_softmax,
    aten._log_softmax_backward_data.default: _log_softmax_gradient,
}


def engine_of(
    job: Job, step: TrainingStep, network: Network, state: State, hyper: Hyper, split: Split
) -> tuple[Callable[[Tensor, Tensor], Tensor], str, list[str]]:
    """The training step that the job's plan asks for, on batches (x, y) alone.

    Returns:
        The step, which path it is in words, and where that is another than was asked for, with the reason.
    """
    fallbacks = [job.fallback] if job.fallback else []
    path = f"{len(job.runs)} lanes (vmap)" if job.lanes else "plain"
    if job.traced:
        first = torch.zeros(*network.lanes, job.runs[0].training.batch_size, dtype=torch.long, device=hyper.lr.device)
        x, y = split.inputs(first), split.targets[first]
        of_kernels: list[str] = []
        try:
            with fallbacks_noted(of_kernels):
                operations, fixed = traced(step, network.parameters, network.buffers, state, hyper, x, y)
        except Exception as error:  # whatever a norm does that cannot be traced; the record says so
            path = f"{path}, not traced: {_in_words(error)}"
            fallbacks.append(f"training is slower: its step could not be traced ({_in_words(error)})")
        else:
            path = f"{path}, traced"
            fallbacks += of_kernels
            if hyper.lr.device.type == "cuda":
                try:
                    with noise_kept("cuda"):
                        return captured(operations, fixed, x, y), f"{path}, in a CUDA graph", fallbacks
                except Exception as error:
                    path = f"{path}, not in a CUDA graph: {_in_words(error)}"
                    fallbacks.append(
                        f"training is slower: its step could not be captured in a CUDA graph ({_in_words(error)})"
                    )
            call_directly(operations)
            return lambda x, y: operations(*fixed, x, y), path, fallbacks
    return lambda x, y: step(network.parameters, network.buffers, state, hyper, x, y), path, fallbacks


def _in_words(error: BaseException) -> str:
    while error.__context__ is not None:  # a capture that fails ends in a second error, which only says that it failed
        error = error.__context__
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:100]}"


def traced(
    step: TrainingStep, parameters: Tensors, buffers: Tensors, state: State, hyper: Hyper, x: Tensor, y: Tensor
) -> tuple[fx.GraphModule, list[Tensor]]:
    """A training step on just these tensors, traced for batches like (x, y).

    Returns:
        The operations, and those of their arguments that stay the same tensors: `operations(*fixed, x, y)`.

    Raises:
        Exception: as `trace`.
    """
    rates = [hyper.lr, hyper.weight_decay, hyper.momentum]
    kept = [[p.detach() for p in parameters.values()], list(buffers.values()), *state.values(), rates]
    ends = [0, *itertools.accumulate(map(len, kept))]

    def flat(*tensors: Tensor) -> Tensor:
        weights, stats, *moments, (lr, decay, momentum) = (tensors[a:b] for a, b in itertools.pairwise(ends))
        return step(
            {name: p.detach().requires_grad_() for name, p in zip(parameters, weights, strict=True)},
            dict(zip(buffers, stats, strict=True)),
            {name: list(moment) for name, moment in zip(state, moments, strict=True)},
            replace(hyper, lr=lr, weight_decay=decay, momentum=momentum),
            *tensors[-2:],
        )

    fixed = [tensor for part in kept for tensor in part]
    return trace(flat, [*fixed, x, y]), fixed


def trace(step: Callable[..., Any], tensors: Sequence[Tensor]) -> fx.GraphModule:
    """Run `step` once, without effect, and return the operations it consists of, to be called with such tensors.

    `step` must depend on tensors alone: a Python number in it stays as it is now, and a branch on a tensor's value is
    an error. What it changes in place, the traced step changes in place. Forward, backward and update become one list,
    so a step pays for operations only, not for vmap, autograd and modules, which on small networks cost more.

    Raises:
        Exception: whatever the step raises because it cannot be traced.
    """
    torch.vmap(torch.neg)(torch.zeros(1))  # torch 2.6 loads its compiler at the first vmap: not while it is recorded
    with noise_kept(tensors[0].device.type), tensors_kept(tensors), ProductsInOrder():
        graph = record(step, tensors, IN_PARTS)
    simplify(graph)
    return graph
