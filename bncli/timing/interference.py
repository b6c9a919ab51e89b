"""What a kernel changes for everybody: hooks, functions and modes of torch, which those beside it feel too."""

import torch
from torch import Tensor, nn
from torch.nn.modules import module


def list_interference(threads: int) -> list[str]:
    """What is no longer as it was when this was imported, or as many threads as it should be, each as a fault."""
    now, before = {**_read(), _THREADS: torch.get_num_threads()}, {**_FIRST, _THREADS: threads}
    return [f"it changes {name} for everybody" for name, value in before.items() if now[name] != value]


def _read() -> dict[str, object]:
    hooks = {name: found for name, found in vars(module).items() if name.startswith("_global_")}
    return {
        "the global hooks of modules": {name: len(each) for name, each in hooks.items() if isinstance(each, dict)},
        "torch's batch norm": (
            torch.batch_norm, nn.functional.batch_norm, nn.BatchNorm1d.forward, nn.BatchNorm2d.forward,
        ),
        "how modules are called": (nn.Module.__call__, nn.Module._call_impl),
        "how tensors are copied": Tensor.copy_,
        "how gradients are computed": (torch.autograd.grad, Tensor.backward),
        "the default dtype": torch.get_default_dtype(),
        "the default device": torch.get_default_device(),
        "the mode of torch's functions": torch._C._len_torch_function_stack(),
        "the mode of torch's operations": torch._C._len_torch_dispatch_stack(),
        "whether gradients are recorded": torch.is_grad_enabled(),
    }  # fmt: skip


_FIRST, _THREADS = _read(), "torch's number of threads"
