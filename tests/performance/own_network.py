"""Networks of a user trained by bncli's engine and by the loop that people write for them: five runs each, in pairs.

    python tests/performance/own_network.py [--steps 20] [--json FILE]

One thread; each pair is one seed, their order alternating, with the same examples, steps, optimiser and evaluations; both
times are of the whole run, from the making of the network to the last evaluation. A figure is the loop's time over the
engine's, geometric mean over pairs with its 95 % t-interval: above 1 the engine is quicker. Goal: a lower end of .95.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bncli.config import read_study
from bncli.engine.train import train
from bncli.plan import Job, runs_of
from bncli.plugins import using
from bncli.plugins.code import NamedCode

sys.path.insert(0, str(Path(__file__).parents[1] / "norms"))
import architectures  # it defines operators that torchvision may lack

EXAMPLES, BATCH, SEEDS = 2048, 64, 5
CONVNET = """
from torch import nn

def convnet(num_classes=10):
    layers = []
    for before, width in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, num_classes))
"""


def by_hand(make: Callable[[], nn.Module], parts: dict[str, TensorDataset], seed: int, steps: int) -> None:
    """The loop that people write: a loader, zero_grad, backward, step; evaluation in large batches."""
    torch.manual_seed(seed)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader = DataLoader(parts["train"], batch_size=BATCH, shuffle=True, drop_last=True)

    def evaluate() -> None:
        model.eval()
        loss, right = 0.0, 0
        with torch.no_grad():
            for x, y in DataLoader(parts["test"], batch_size=200):
                outputs = model(x)
                loss += F.cross_entropy(outputs, y, reduction="sum").item()
                right += int((outputs.argmax(1) == y).sum())
        model.train()

    evaluate()
    step = 0
    while step < steps:
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if not math.isfinite(loss.item()):
                return
            step += 1
            if step == steps:
                break
    evaluate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    (folder / "net.py").write_text(CONVNET)
    rng = np.random.default_rng(0)
    arrays = {
        f"{axis}_{part}": values
        for part, count in (("train", EXAMPLES), ("validation", 64), ("test", 200))
        for axis, values in (
            ("x", rng.normal(size=(count, 3, 32, 32)).astype("float32")), ("y", rng.integers(0, 10, count)),
        )
    }  # fmt: skip
    np.savez(folder / "data.npz", **arrays)
    parts = {
        part: TensorDataset(torch.from_numpy(arrays[f"x_{part}"]), torch.from_numpy(arrays[f"y_{part}"]))
        for part in ("train", "test")
    }
    torchvision = architectures.torchvision()
    code = NamedCode("MODELS", f"{folder / 'net.py'}:convnet")
    found = {}
    with using([code]):
        namespace: dict[str, Callable[[], nn.Module]] = {}
        exec(CONVNET, namespace)
        makes = {
            "resnet18": ("torchvision:resnet18", lambda: torchvision.models.resnet18(num_classes=10), given.steps),
            "3-layer convnet": (code.name, namespace["convnet"], 10 * given.steps),
        }
        for title, (name, make, steps) in makes.items():
            study = read_study({
                "data": {"name": "npz", "file": str(folder / "data.npz")}, "model": name,
                "training": {"steps": steps, "batch_size": BATCH, "lr": 0.01,
                             "optimizer": {"name": "sgd", "momentum": 0.9}},
                "evaluation": {"every": steps}, "variants": {"batch": "batch"}, "reference": "batch", "seeds": SEEDS,
            })  # fmt: skip
            ratios = []
            for i, run in enumerate(runs_of(study, "cpu")):
                work = {
                    "engine": lambda run=run: train(Job((run,))),
                    "hand": lambda run=run, make=make, steps=steps: by_hand(make, parts, run.seed, steps),
                }
                seconds = {}
                for key in sorted(work, reverse=bool(i % 2)):
                    start = time.perf_counter()
                    work[key]()
                    seconds[key] = time.perf_counter() - start
                ratios.append(math.log(seconds["hand"] / seconds["engine"]))
            half = stats.t.ppf(0.975, SEEDS - 1) * statistics.stdev(ratios) / math.sqrt(SEEDS)
            value, low, high = (math.exp(statistics.mean(ratios) + d) for d in (0, -half, half))
            found[title] = {"value": value, "low": low, "high": high, "unit": "hand over engine", "goal": 0.95}
            print(f"{title}, {steps} steps of {BATCH}: {value:.2f} [{low:.2f}, {high:.2f}]", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
