"""Writes down the tensor operations of a function while it runs.

What `make_fx` does in its "real" mode, without its import of the whole compiler (1.5 s in every worker process).
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from bncli.kernels import being_traced

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
        if not isinstance(outputs, Tensor | list | tuple):  # of a shape, not of values
            return outputs
        inputs, named = tree_map_only(Tensor, self.node_of, (tuple(args), dict(kwargs)))
        node = self.graph.call_function(func, inputs, named)
        if isinstance(outputs, Tensor):
            self._know(outputs, node)
        else:
            for i, output in enumerate(outputs):
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
