"""A traced step run by TorchScript's interpreter instead of Python's: the same operations, with less between them.

On a processor Python takes 2 to 6 microseconds an operation of a small network, as long as many an operation itself.
"""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from bncli.engine.graph import changes, root_of

_FOR_EACH = "_foreach_"


def scripted(operations: fx.GraphModule) -> Callable[..., Tensor]:
    """A function of `operations`' arguments that calls the same operations in the same order.

    Tensors that the step keeps are read at every call, as they are then.

    Raises:
        RuntimeError: where this torch has no TorchScript, or would call something else.
    """
    nodes = list(operations.graph.nodes)
    called = [node for node in nodes if isinstance(node.target, torch._ops.OpOverload)]
    if own := [n for n in nodes if n.op == "call_function" and n not in called and n.target is not operator.getitem]:
        raise RuntimeError(f"{own[0].name} is Python's")
    kept = [node for node in nodes if node.op == "get_attr"]
    arguments = [node.name for node in nodes if node.op == "placeholder"] + [node.name for node in kept]
    lines = [f"def step({', '.join(arguments)}):", *(f"    {line}" for node in nodes for line in _written(node)), ""]
    step = torch.jit.CompilationUnit("\n".join(lines)).step
    calls = [node.schema() for node in step.graph.nodes() if "::" in node.schema()]
    _compare([each for each in calls if "::__getitem__" not in each], called)
    tensors = [getattr(operations, node.target) for node in kept]
    return lambda *given: step(*given, *tensors)


def _compare(calls: Sequence[str], recorded: Sequence[fx.Node]) -> None:
    """Raise a RuntimeError if something else would be called than was recorded, or something without which it differs.

    TorchScript leaves out what only writes to a tensor that nothing reads.
    """
    left = iter(calls)
    call = next(left, "")
    for node in recorded:
        for schema in _schemas(node):
            if _is(call, schema):
                call = next(left, "")
            elif _has_effect(node):
                raise RuntimeError(f"TorchScript would leave out {schema!r}")
    if call:
        raise RuntimeError(f"TorchScript would call {call!r}, which was not recorded")


def _is(call: str, schema: str) -> bool:
    """Whether a call is of that schema, or of that name alone; a number may be taken as one where Python makes a tensor
    of it: torch computes the same."""
    as_number = call.partition(".Scalar(")[0] == schema.partition(".Tensor(")[0]
    return call == schema or as_number or call.partition("(")[0].partition(".")[0] == schema


def _has_effect(node: fx.Node) -> bool:
    """Whether something draws random numbers, or writes to what was not made in the step."""
    if torch.Tag.nondeterministic_seeded in node.target.tags:  # type: ignore[union-attr]
        return True
    return changes(node.target) and root_of(node.all_input_nodes[0]).op != "call_function"


def _written(node: fx.Node) -> Iterator[str]:
    """A node in TorchScript, in lines.

    What changes each tensor of a list is a line a tensor: TorchScript takes it for doing nothing, and leaves it out.
    """
    if node.op == "output":
        yield f"return {_value(node.args[0])}"
    elif node.target is operator.getitem:
        yield f"{node.name} = {_value(node.args[0])}[{node.args[1]}]"
    elif node.op == "call_function":
        name, schema = node.target._opname, node.target._schema  # type: ignore[union-attr]
        if not name.startswith(_FOR_EACH):
            by_name = {a.name: a.default_value for a in schema.arguments if a.kwarg_only and a.has_default_value()}
            named = {**by_name, **node.kwargs}  # all of them: overloads are told apart by names
            call = _call(node.target.namespace, name, node.args, named)  # type: ignore[union-attr]
            yield f"{node.name} = {call}" if schema.returns else call
            return
        names: list[str] = []
        for i in range(len(node.args[0])):  # type: ignore[arg-type]
            each = [part[i] if isinstance(part, list | tuple) else part for part in node.args]
            named = dict(node.kwargs)
            if len(each) > 1 and schema.arguments[len(each) - 1].name == "value":  # of addcmul and addcdiv
                named["value"] = each.pop()
            names.append(f"{node.name}_{i}")
            yield f"{names[-1]} = {_call('aten', name.removeprefix(_FOR_EACH), each, named)}"
        yield f"{node.name} = [{', '.join(names)}]"


def _schemas(node: fx.Node) -> list[str]:
    """The schemas of what a node calls; of a list's operations the names."""
    name, schema = node.target._opname, str(node.target._schema)  # type: ignore[union-attr]
    if not name.startswith(_FOR_EACH):
        return [schema]
    return [f"aten::{name.removeprefix(_FOR_EACH)}"] * len(node.args[0])  # type: ignore[arg-type]


def _call(namespace: str, name: str, args: Any, named: Any) -> str:
    given = [*map(_value, args), *(f"{key}={_value(value)}" for key, value in named.items())]
    return f"torch.ops.{namespace}.{name}({', '.join(given)})"


def _value(value: Any) -> str:
    """An argument as TorchScript reads it."""
    if isinstance(value, fx.Node):
        return value.name
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return f"torch.device('{value}')" if isinstance(value, torch.device) else repr(value)
