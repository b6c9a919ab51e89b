"""How long replacing the norms of torchvision's ResNet-50 takes: python tests/performance/replace_norms.py"""

import sys
import time
from pathlib import Path
from statistics import median

import torch

import bncli

sys.path.insert(0, str(Path(__file__).parents[1] / "norms"))
from architectures import torchvision  # it defines operators that torchvision may lack

REPEATS = 7


def main() -> None:
    build, x = torchvision().models.resnet50, torch.randn(2, 3, 64, 64)
    for name, options in {
        "a copy": {},
        "in place": {"inplace": True},
        "a copy, tried on inputs": {"inputs": x},
    }.items():
        taken = []
        for _ in range(REPEATS):
            model = build()
            started = time.perf_counter()
            bncli.replace_norms(model, "group", **options)
            taken.append(time.perf_counter() - started)
        print(f"{name}: {median(taken):.2f} s ({min(taken):.2f} to {max(taken):.2f}, of {REPEATS})")


if __name__ == "__main__":
    main()
