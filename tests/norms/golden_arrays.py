"""Published implementations' arrays, as keyword arguments of a comparison."""

from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "golden"


def golden(name):
    """Tensors by key; see golden/README.md for what each is."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def assert_trains_like(module, arrays, tolerance=1e-10):
    """Compare a training step's output and gradients; leaves `module` after that step."""
    module.double()
    parameters = {key: module.get_parameter(key[6:]) for key in arrays if key.startswith("param.")}
    for key, parameter in parameters.items():
        parameter.data = arrays[key].reshape(parameter.shape)
    x = arrays["x1"].clone().requires_grad_()
    y = module(x)
    (y * arrays["gy1"]).sum().backward()
    exact = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(y, arrays["y1"], **exact)
    torch.testing.assert_close(x.grad, arrays["gx1"], **exact)
    for key, parameter in parameters.items():
        torch.testing.assert_close(parameter.grad, arrays[f"g{key}"].reshape(parameter.shape), **exact)
