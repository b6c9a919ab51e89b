"""Holds our norms against torch's on the arguments and inputs that torch tests its own with; prints what is wrong.

A process of its own, since torch's test code changes the process that imports it.
"""

import importlib
import json
import re
import sys
import types
import unittest
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from bncli import norm

Cases = list[tuple[str, type[nn.Module], Any, bool]]


def find_cases() -> Cases:
    """Name, class, torch's `ModuleInput` and mode of every case of a norm."""
    # torch asks its testers to have this package, for a base class alone
    sys.modules.setdefault("expecttest", types.SimpleNamespace(TestCase=unittest.TestCase))  # type: ignore[arg-type]
    infos = importlib.import_module("torch.testing._internal.common_modules").module_db
    torch.manual_seed(0)  # torch draws its inputs when they are asked for
    found: Cases = []
    for info in infos:
        if "Norm" not in info.name or "Local" in info.name or "Cross" in info.name:
            continue
        for training in (True, False):
            given = info.module_inputs_func(
                info, device="cpu", dtype=torch.float32, requires_grad=False, training=training
            )
            mode = "training" if training else "evaluation"
            found += [(f"{info.name} {mode} {case.desc}", info.module_cls, case, training) for case in given]
    return found


def name_affine(arguments: dict[str, Any]) -> bool | str:
    """Our word for torch's `affine` and `bias`."""
    given = bool(arguments.get("affine", True))
    return "scale" if given and not arguments.get("bias", True) else given


def build_ours(kind: type[nn.Module], args: Any, kwargs: Any) -> nn.Module:
    """Our norm for the arguments of torch's."""
    if kind is nn.GroupNorm:
        given = {**dict(zip(("groups", "channels", "eps", "affine"), args, strict=False)), **kwargs}
        return norm("group", given["channels"], groups=given["groups"], eps=given["eps"], affine=name_affine(given))
    if kind in (nn.LayerNorm, nn.RMSNorm):
        given = {**dict(zip(("channels", "eps", "affine"), args, strict=False)), **kwargs}
        given["affine"] = given.pop("elementwise_affine", given.get("affine", True))
        name = "layer" if kind is nn.LayerNorm else "rms"
        return norm(name, given["channels"], over="last", eps=given["eps"], affine=name_affine(given))
    instance = kind in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
    keys = ("channels", "eps", "momentum", "affine", "track_running_stats")
    given = {"affine": not instance, **dict(zip(keys, args, strict=False)), **kwargs}
    options = {key: given[key] for key in ("eps", "momentum", "track_running_stats") if key in given}
    return norm("instance" if instance else "batch", given["channels"], affine=name_affine(given), **options)


def compare(kind: type[nn.Module], case: Any, training: bool) -> None:
    """Raise unless outputs, gradients and states are torch's after one pass from the same state."""
    torch.manual_seed(0)
    args, kwargs = case.constructor_input.args, case.constructor_input.kwargs
    theirs, ours = kind(*args, **kwargs).train(training), build_ours(kind, args, kwargs).train(training)
    for tensor in (*theirs.parameters(), *(b for b in theirs.buffers() if b.is_floating_point())):
        tensor.data.add_(0.5 * torch.rand_like(tensor))
    ours.load_state_dict(theirs.state_dict())
    (given,) = case.forward_input.args
    x, other = given.clone().requires_grad_(), given.clone().requires_grad_()
    expected, found = theirs(x), ours(other)
    assert_close(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    assert_close(other.grad, x.grad, rtol=1e-4, atol=1e-5)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for value, wanted in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert_close(value, wanted)
    gradients: list[list[Tensor | None]] = [[p.grad for p in module.parameters()] for module in (ours, theirs)]
    assert_close(*gradients, rtol=1e-4, atol=1e-4)


def main() -> None:
    """Print how many cases are equal, how many are refused, and what is wrong."""
    equal, refused, wrong = 0, 0, {}
    for name, kind, case, training in find_cases():
        try:
            compare(kind, case, training)
            equal += 1
        except ValueError as error:
            if re.fullmatch(r"expected 3 channels, got input of shape \(3, .*; one example alone .*", str(error)):
                refused += 1
            else:
                wrong[name] = str(error)
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
    print(json.dumps({"equal": equal, "refused": refused, "wrong": wrong}))


if __name__ == "__main__":
    main()
