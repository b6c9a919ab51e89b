"""What several tests need: one thread, and studies small enough for a test."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bncli.config import Study
from bncli.config.study import study_of

torch.set_num_threads(1)
os.environ.pop("COLUMNS", None)  # of the terminal that tests were started in; commands that tests start have none

TINY: dict[str, Any] = {
    "data": {"name": "mnist", "binarize": 127},
    "model": {"name": "mlp", "hidden": [16, 16], "init": {"normal": 0.1}},
    "training": {"steps": 30, "batch_size": 40, "lr": 0.5},
    "evaluation": {"every": 10, "split": "validation"},
    "variants": {"none": "none", "batch": "batch"},
    "reference": "none",
    "seeds": 3,
}


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Study]:
    """Build a tiny MNIST study; keywords replace its parts."""
    return lambda **changes: study_of({**TINY, **changes})
