"""Finds ReLU and max pooling of images in a traced step, and puts the pooling first, before batch norm too.

What is looked for is a forward and a backward pass that nothing else reads the inside of; `bncli.kernels.images` has
what a norm becomes, and what that is held against.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import fx

from bncli.kernels.images import pooled_norm, pooled_norm_gradient

aten = torch.ops.aten
LEAST_VALUES = 2**18  # that a norm takes: of fewer the calls cost more than the passes over memory that they save


@dataclass
class _Pooling:
    """ReLU and max pooling, and the gradients of both."""

    relu: fx.Node
    pooling: fx.Node
    pooled: fx.Node
    pooling_back: fx.Node
    relu_back: fx.Node


def quicken_stages(graph: fx.Graph) -> None:
    """Replace what is found of images that lie as (N, H, W, C) on a processor; what it was stays, without a user."""
    stages = [_find(node) for node in graph.nodes if node.target is aten.max_pool2d_with_indices.default]
    for stage in filter(None, stages):
        norm = _find_norm(stage)
        if norm and stage.relu.meta["val"].numel() >= LEAST_VALUES:
            _replace_with_norm(graph, stage, *norm)
        else:
            _pool_first(graph, stage)


def _find(pooling: fx.Node) -> _Pooling | None:
    relu, outputs = _arguments(pooling)[0], _outputs(pooling)
    if set(outputs) != {0, 1} or not _is(relu, aten.relu.default):
        return None
    pooling_back = _only_user(outputs[1])
    relu_back = _only_user(pooling_back)
    if not _is(pooling_back, aten.max_pool2d_with_indices_backward.default) or pooling_back.args[1] is not relu:
        return None
    if not _is(relu_back, aten.threshold_backward.default) or relu_back.args != (pooling_back, relu, 0):
        return None
    alone = set(relu.users) == {pooling, pooling_back, relu_back}
    fewer = outputs[0].meta["val"].numel() < relu.meta["val"].numel()
    found = alone and fewer and _is_suitable(relu)
    return _Pooling(relu, pooling, outputs[0], pooling_back, relu_back) if found else None


def _find_norm(stage: _Pooling) -> tuple[fx.Node, fx.Node] | None:
    """The batch norm before ReLU and its gradient: in training, with weight, bias and running statistics."""
    normed, back = _arguments(stage.relu)[0], _only_user(stage.relu_back)
    norm = normed.args[0] if _is(normed, operator.getitem) else None
    if not _is(norm, aten.native_batch_norm.default) or not _is(back, aten.native_batch_norm_backward.default):
        return None
    complete = all(isinstance(each, fx.Node) for each in norm.args[1:5]) and norm.args[5] is True
    inner = {user for place, output in _outputs(norm).items() if place for user in output.users}
    same = back.args[:2] == (stage.relu_back, norm.args[0]) and back.args[9] == [True, True, True]
    return (norm, back) if complete and same and inner == {back} and _only_user(normed) is stage.relu else None


def _is_suitable(images: Any) -> bool:
    value = images.meta["val"]
    exact = value.dtype in (torch.float32, torch.float64) and value.device.type == "cpu" and value.dim() == 4
    return exact and value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()


def _pool_first(graph: fx.Graph, stage: _Pooling) -> None:
    """max(relu(x)) is relu(max(x)), to the last bit, and where the greatest lies matters only where it is positive."""
    (g, _, *window, _), (x,) = _arguments(stage.pooling_back), _arguments(stage.relu)
    value, index = _call(graph, stage.pooling, aten.max_pool2d_with_indices.default, (x, *window), 2)
    with graph.inserting_before(stage.pooling):
        out = graph.call_function(aten.relu.default, (value,))
    with graph.inserting_before(stage.relu_back):
        if not g.meta["val"].is_contiguous(memory_format=torch.channels_last):
            g = graph.call_function(aten.clone.default, (g,), {"memory_format": torch.channels_last})
        positive = graph.call_function(aten.threshold_backward.default, (g, out, 0))
        back = graph.call_function(aten.max_pool2d_with_indices_backward.default, (positive, x, *window, index))
    _replace(stage.pooled, out)
    _replace(stage.relu_back, back)


def _replace_with_norm(graph: fx.Graph, stage: _Pooling, norm: fx.Node, back: fx.Node) -> None:
    y, weight, bias, mean, var, _, momentum, eps = _arguments(norm)
    g, _, *window, _ = _arguments(stage.pooling_back)
    out, *kept = _call(graph, stage.pooling, pooled_norm, (y, weight, bias, mean, var, momentum, eps, window), 5)
    gradients = _call(graph, back, pooled_norm_gradient, (g, y, weight, out, *kept, window), 3)
    _replace(stage.pooled, out)
    for place, old in _outputs(back).items():
        _replace(old, gradients[place])


def _call(
    graph: fx.Graph, place: fx.Node, function: Callable[..., Any], arguments: Sequence[Any], count: int
) -> list[fx.Node]:
    """A call before `place`, and a node for each of so many outputs."""
    with graph.inserting_before(place):
        call = graph.call_function(function, tuple(arguments))
        return [graph.call_function(operator.getitem, (call, i)) for i in range(count)]


def _replace(old: fx.Node, new: fx.Node) -> None:
    new.meta["val"] = old.meta["val"]
    old.replace_all_uses_with(new)


def _arguments(node: fx.Node) -> Any:
    return node.args


def _outputs(node: fx.Node) -> dict[int, fx.Node]:
    """Those outputs of an operation that were taken, by their places."""
    return {_arguments(user)[1]: user for user in node.users if user.target is operator.getitem}


def _only_user(node: fx.Node | None) -> fx.Node | None:
    users = [] if node is None else list(node.users)
    return users[0] if len(users) == 1 else None


def _is(node: Any, target: Any) -> TypeGuard[fx.Node]:
    return isinstance(node, fx.Node) and node.target is target
