"""Published implementations' arrays, as keyword arguments of a comparison."""

from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "golden"


def golden(name):
    """Tensors by key; see golden/README.md for what each is."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def assert_trains_like(module, arrays):
    """Compare a training step's output and gradients; leaves `module` after that step."""
    module.double()
    module.weight.data = arrays["param.weight"].flatten()
    module.bias.data = arrays["param.bias"].flatten()
    x = arrays["x1"].clone().requires_grad_()
    y = module(x)
    (y * arrays["gy1"]).sum().backward()
    exact = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(y, arrays["y1"], **exact)
    torch.testing.assert_close(x.grad, arrays["gx1"], **exact)
    torch.testing.assert_close(module.weight.grad, arrays["gparam.weight"].flatten(), **exact)
    torch.testing.assert_close(module.bias.grad, arrays["gparam.bias"].flatten(), **exact)
