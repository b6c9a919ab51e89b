"""A traced step captured in CUDA graphs: one launch for all its operations, or for all between those that none takes.

Decompositions that look at their own success, as that into eigenvectors does, cannot be captured. They are called as
they are, with a graph before and one after them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, fx

from bncli.engine.state import tensors_kept

WARM_UP = 3  # steps on the side stream, as torch asks for before a capture
UNCAPTURABLE = {torch.ops.aten._linalg_eigh.default, torch.ops.aten._linalg_svd.default}


def captured(
    operations: fx.GraphModule, fixed: Sequence[Tensor], x: Tensor, y: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """`operations(*fixed, x, y)` as graphs that are replayed; `fixed` is what it reads and changes in place.

    On small networks a GPU waits for Python between kernels; a replay hands it all of a step's kernels at once. The
    tensors of `fixed` come out of this as they went in; generators do not, and are the caller's matter.

    Raises:
        Exception: whatever torch raises for an operation that cannot be captured.
    """
    arguments = [*fixed, x.clone(), y.clone()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with tensors_kept(fixed):
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                operations(*arguments)
        torch.cuda.current_stream().wait_stream(side)
        try:
            parts, losses = _parts(operations, arguments)
        except Exception:
            _end_capture_of_noise()
            raise
    return _Step(parts, losses, arguments, operations)


def _end_capture_of_noise() -> None:
    """Give the generator a fresh state: after a failed capture it takes itself for captured, and refuses to draw."""
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    fresh = torch.Generator(generator.device)
    fresh.set_state(generator.get_state())
    generator.graphsafe_set_state(fresh.graphsafe_get_state())


@dataclass(frozen=True)
class _Step:
    """Graphs know addresses, not tensors: all that they read has to live as long as they do."""

    parts: Sequence[Callable[[], object]]
    losses: Tensor
    arguments: Sequence[Tensor]
    operations: fx.GraphModule  # for its constants

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """One step on this batch; the losses are overwritten by the next."""
        self.arguments[-2].copy_(x)
        self.arguments[-1].copy_(y)
        for part in self.parts:
            part()
        return self.losses


def _parts(operations: fx.GraphModule, arguments: Sequence[Tensor]) -> tuple[list[Callable[[], object]], Tensor]:
    """What is to be called in turn for one step, and the tensor that then holds its losses."""
    interpreter, dead = fx.Interpreter(operations), _last_uses(operations.graph)
    interpreter.args_iter = iter(arguments)
    values, parts, pool = interpreter.env, list[Callable[[], object]](), torch.cuda.graph_pool_handle()
    result: Any = None
    for nodes in _pieces(operations.graph):
        if nodes[0].target in UNCAPTURABLE:
            (node,), call = nodes, cast(Callable[..., Any], nodes[0].target)
            inputs, options = interpreter.fetch_args_kwargs_from_env(node)
            values[node] = call(*inputs, **options)
            parts.append(partial(_again, call, inputs, options, values[node]))
        else:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                for node in nodes:
                    values[node] = result = interpreter.run_node(node)
                    for used in dead.get(node, ()):
                        del values[used]
            graph.replay()  # a capture computes nothing, and what comes next may look at values
            parts.append(graph.replay)
    return parts, result


def _pieces(graph: fx.Graph) -> Iterator[list[fx.Node]]:
    """The nodes in order: those that cannot be captured alone, the others together."""
    piece: list[fx.Node] = []
    for node in graph.nodes:
        if node.target in UNCAPTURABLE:
            yield piece
            yield [node]
            piece = []
        else:
            piece.append(node)
    yield piece


def _last_uses(graph: fx.Graph) -> Mapping[fx.Node, list[fx.Node]]:
    """What nobody needs any more after each node, so that a graph needs no more memory than the step itself."""
    seen, dead = set[fx.Node](), dict[fx.Node, list[fx.Node]]()
    for node in reversed(graph.nodes):
        for source in node.all_input_nodes:
            if source not in seen:
                seen.add(source)
                dead.setdefault(node, []).append(source)
    return dead


def _again(target: Callable[..., Any], inputs: Any, options: Any, outputs: Sequence[Tensor]) -> None:
    """Call once more, and put what comes where the following graph reads it."""
    for found, place in zip(target(*inputs, **options), outputs, strict=True):
        place.copy_(found)
