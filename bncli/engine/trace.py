"""A training step as a flat list of tensor operations: what autograd, vmap and modules do once, not at every step."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from bncli.data.splits import Split
from bncli.engine.linear import ProductsInOrder
from bncli.engine.network import Network
from bncli.engine.noise import noise_kept
from bncli.engine.optimizers import Hyper, State
from bncli.plan import Job

Tensors = Mapping[str, Tensor]

aten = torch.ops.aten
ALIASES = {aten.detach.default, aten.alias.default}
VIEWS = ALIASES | {
    aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.permute.default, aten.transpose.int,
    aten.t.default, aten.unsqueeze.default, aten.squeeze.dim, aten.slice.Tensor, aten.select.int,
}  # fmt: skip
CONSTANTS = {aten.ones.default, aten.zeros.default, aten.full.default, aten.eye.default, aten.arange.default}


def engine_of(
    job: Job, step: Callable[..., Tensor], network: Network, state: State, hyper: Hyper, split: Split
) -> tuple[Callable[[Tensor, Tensor], Tensor], str]:
    """The training step that the job's plan asks for, on batches (x, y) alone, and which path that is, in words."""
    path = f"{len(job.runs)} lanes (vmap)" if job.lanes else "plain"
    if job.traced:
        first = torch.zeros(*network.lanes, job.runs[0].training.batch_size, dtype=torch.long, device=hyper.lr.device)
        x, y = split.inputs(first), split.targets[first]
        try:
            return traced(step, network.parameters, network.buffers, state, hyper, x, y), f"{path}, traced"
        except Exception as error:  # whatever a norm does that cannot be traced; the record says so
            path = f"{path}, not traced: {type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return lambda x, y: step(network.parameters, network.buffers, state, hyper, x, y), path


def traced(
    step: Callable[..., Tensor], parameters: Tensors, buffers: Tensors, state: State, hyper: Hyper, x: Tensor, y: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """A training step (`bncli.engine.train.step_of`) on just these tensors, traced for batches like (x, y).

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
    operations = trace(flat, [*fixed, x, y])
    return lambda x, y: operations(*fixed, x, y)


def trace(step: Callable[..., Any], tensors: Sequence[Tensor]) -> Callable[..., Any]:
    """Run `step` once, without effect, and return the operations it consists of, to be called with such tensors.

    `step` must depend on tensors alone: a Python number in it stays as it is now, and a branch on a tensor's value is
    an error. What it changes in place, the traced step changes in place. Forward, backward and update become one list,
    so a step pays for operations only, not for vmap, autograd and modules, which on small networks cost more.

    Raises:
        Exception: whatever the step raises because it cannot be traced.
    """
    kept = [tensor.detach().clone() for tensor in tensors]
    try:
        with noise_kept(tensors[0].device.type), ProductsInOrder():
            graph = make_fx(step)(*tensors)
    finally:
        with torch.no_grad():
            for tensor, old in zip(tensors, kept, strict=True):
                tensor.copy_(old)
    _drop_needless_views(graph.graph)
    _drop_unused(graph.graph)
    _compute_constants_once(graph)
    graph.recompile()
    return graph


def _drop_needless_views(graph: fx.Graph) -> None:
    """A view of a view that lies as an earlier one did is that one; half of what vmap does is such."""
    for node in list(graph.nodes):
        if node.target in VIEWS:
            same, source = None, node
            while source.target in VIEWS:
                source = source.args[0]
                if source.target in ALIASES or _lies_as(source, node):
                    same = source if _lies_as(source, node) else same
            if same is not None:
                node.replace_all_uses_with(same)
                graph.erase_node(node)


def _lies_as(one: fx.Node, other: fx.Node) -> bool:
    a, b = one.meta["val"], other.meta["val"]
    return (a.shape, a.stride(), a.storage_offset()) == (b.shape, b.stride(), b.storage_offset())


def _drop_unused(graph: fx.Graph) -> None:
    """Drop what nobody reads and what changes nothing in place."""
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and not node.users and not _changes(node.target):
            graph.erase_node(node)


def _changes(target: Any) -> bool:
    """Whether an operation writes to its arguments, or moves a random generator."""
    if not isinstance(target, torch._ops.OpOverload):
        return False
    drawn = torch.Tag.nondeterministic_seeded in target.tags
    return drawn or any(a.alias_info is not None and a.alias_info.is_write for a in target._schema.arguments)


def _compute_constants_once(graph: fx.GraphModule) -> None:
    """Tensors of fixed numbers that nobody changes are made now, not at every step."""
    for i, node in enumerate(list(graph.graph.nodes)):
        if node.target in CONSTANTS and not node.all_input_nodes and not _is_changed(node):
            graph.register_buffer(f"constant_{i}", node.target(*node.args, **node.kwargs))
            with graph.graph.inserting_before(node):
                made = graph.graph.get_attr(f"constant_{i}")
            made.meta = node.meta
            node.replace_all_uses_with(made)
            graph.graph.erase_node(node)


def _is_changed(node: fx.Node) -> bool:
    return any(_changes(user.target) or (user.target in VIEWS and _is_changed(user)) for user in node.users)
