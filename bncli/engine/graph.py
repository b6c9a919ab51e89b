"""Takes out of a traced step what no number needs, and fuses what one operation can do."""

from typing import Any

import torch
from torch import fx

from bncli.engine.stages import quicken_stages

aten = torch.ops.aten
ALIASES = {aten.detach.default, aten.alias.default}
VIEWS = ALIASES | {
    aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.permute.default, aten.transpose.int,
    aten.t.default, aten.unsqueeze.default, aten.squeeze.dim, aten.slice.Tensor, aten.select.int,
}  # fmt: skip
CONSTANTS = {
    aten.ones.default, aten.zeros.default, aten.full.default, aten.eye.default, aten.arange.default,
    aten._to_copy.default,  # of a number
}  # fmt: skip
ONES = {aten.mul.Tensor, aten.mul.Scalar, aten.pow.Tensor_Scalar}
PRODUCTS = {aten.bmm.default: aten.baddbmm_.default, aten.mm.default: aten.addmm_.default}


def simplify(graph: fx.GraphModule) -> None:
    """Make the graph shorter; its numbers stay as they are but for the rounding of fused updates."""
    _drop_needless_views(graph.graph)
    _drop_unused(graph.graph)
    quicken_stages(graph.graph)
    _drop_multiplications_by_one(graph.graph)
    _fuse_updates(graph.graph)
    _drop_unused(graph.graph)
    _compute_constants_once(graph)
    for node in graph.graph.nodes:
        node.meta.clear()
    graph.recompile()


def _drop_multiplications_by_one(graph: fx.Graph) -> None:
    """What derivatives of formulas are full of: x * 1 and x ** 1."""
    for node in list(graph.nodes):
        if node.target in ONES and node.args[1] == 1 and node.meta["val"].dtype == node.args[0].meta["val"].dtype:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _fuse_updates(graph: fx.Graph) -> None:
    """p - lr * (a @ b), with a product that nobody else reads, is one product that adds to p, of lr * a and b."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    writing = [node for node in graph.nodes if node.op == "call_function" and changes(node.target)]
    changed = [(order[node], root_of(source)) for node in writing for source in node.all_input_nodes]
    for node in list(graph.nodes):
        if node.target is not aten.addcmul_.default or node.kwargs != {"value": -1}:
            continue
        parameter, product, lr = node.args
        if product.target not in PRODUCTS or len(product.users) > 1 or lr.meta["val"].dim() == 1:
            continue
        a, b = product.args
        if any(order[product] < at < order[node] and what in (root_of(a), root_of(b)) for at, what in changed):
            continue  # by now they may be others
        with graph.inserting_before(node):
            scaled = graph.call_function(aten.mul.Tensor, (a, lr))
            node.replace_all_uses_with(
                graph.call_function(PRODUCTS[product.target], (parameter, scaled, b), {"alpha": -1})
            )
        graph.erase_node(node)


def root_of(node: fx.Node) -> fx.Node:
    """What a view is of."""
    while node.target in VIEWS:
        node = node.args[0]  # type: ignore[assignment]
    return node


def _drop_needless_views(graph: fx.Graph) -> None:
    """A view of a view that lies as an earlier one did is that one; half of what vmap does is such."""
    for node in list(graph.nodes):
        if node.target in VIEWS:
            same, source = None, node
            while source.target in VIEWS:
                source = source.args[0]
                if _lies_as(source, node):
                    same = source
            if same is not None:
                node.replace_all_uses_with(same)
                graph.erase_node(node)


def _lies_as(one: fx.Node, other: fx.Node) -> bool:
    a, b = one.meta["val"], other.meta["val"]
    return (a.shape, a.stride(), a.storage_offset()) == (b.shape, b.stride(), b.storage_offset())


def _drop_unused(graph: fx.Graph) -> None:
    """Drop what nobody reads and what changes nothing in place."""
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and not node.users and not changes(node.target):
            graph.erase_node(node)


def changes(target: Any) -> bool:
    """Whether an operation writes to its arguments, or moves a random generator."""
    if not isinstance(target, torch._ops.OpOverload):
        return False
    drawn = torch.Tag.nondeterministic_seeded in target.tags
    return drawn or any(a.alias_info is not None and a.alias_info.is_write for a in target._schema.arguments)


def _compute_constants_once(graph: fx.GraphModule) -> None:
    """Tensors of fixed numbers that nobody changes, and what is made of such alone, are made now, not at every step."""
    made: dict[fx.Node, Any] = {}
    for i, node in enumerate(list(graph.graph.nodes)):
        sources = node.all_input_nodes
        if not (all(source in made for source in sources) if sources else node.target in CONSTANTS):
            continue
        if not isinstance(node.target, torch._ops.OpOverload) or changes(node.target) or _is_changed(node):
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), made.__getitem__)
        value = node.target(*args, **kwargs)
        if isinstance(value, torch.Tensor):
            graph.register_buffer(f"constant_{i}", value)
            with graph.graph.inserting_before(node):
                constant = graph.graph.get_attr(f"constant_{i}")
            constant.meta = node.meta
            node.replace_all_uses_with(constant)
            graph.graph.erase_node(node)
            made[constant] = value
    for constant in reversed(made):
        if not constant.users:
            graph.graph.erase_node(constant)
            delattr(graph, str(constant.target))


def _is_changed(node: fx.Node) -> bool:
    return any(changes(user.target) or (user.target in VIEWS and _is_changed(user)) for user in node.users)
