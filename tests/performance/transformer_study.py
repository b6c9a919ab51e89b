"""A study of transformers in bncli against the loop that people write, as whole processes in turn, start-up and all.

Four variants (layer norm behind and before each branch, RMSNorm, none) x 5 seeds learn masked characters with the model,
data and evaluations of `presets/bert.yaml` at one rate: `python tests/performance/transformer_study.py [--json]`.
The loop has `torch.nn.TransformerEncoder`, torch's default threads and a DataLoader. The floor is the time of the matrix
products alone, five lanes on one thread, times as many as there are cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from study_throughput import one_thread
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bncli.data.text import count_masked, cut, read_docs

LENGTH, WIDTH, DEPTH, HEADS, BATCH, EVERY, RATE = 32, 32, 3, 2, 16, 250, 0.002
GOALS = {"transformer_over_loop": (">= 2.5", "x the loop"), "transformer_of_floor": (">= 0.6", "of the floor")}
NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "layer-post": None,
    "layer-pre": None,
    "rms": nn.RMSNorm,
    "none": lambda width: nn.Identity(),
}


class Encoder(nn.Module):
    """What people write on `torch.nn.TransformerEncoder` for masked tokens."""

    def __init__(self, kinds: int, variant: str) -> None:
        super().__init__()
        first = variant != "layer-post"
        make = NORMS[variant]
        # a function of one's own keeps torch from a path of its own in evaluation, which asks for layer norms
        activation = F.gelu if make is None else lambda u: F.gelu(u)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0, activation=activation, batch_first=True, norm_first=first
        )
        if make is not None:
            layer.norm1, layer.norm2 = make(WIDTH), make(WIDTH)
        final = nn.LayerNorm(WIDTH) if make is None else make(WIDTH)
        self.tokens = nn.Embedding(kinds + 1, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.blocks = nn.TransformerEncoder(layer, DEPTH, norm=final if first else None, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, kinds)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.blocks(self.tokens(tokens) + self.positions))


def mask(windows: Tensor, kinds: int) -> tuple[Tensor, Tensor]:
    """Windows with some characters masked, and where (True)."""
    hidden = torch.zeros(windows.shape, dtype=torch.bool)
    hidden.scatter_(1, torch.rand(windows.shape).topk(count_masked(LENGTH), 1).indices, True)
    return windows.masked_fill(hidden, kinds), hidden


def windows_of(part: str) -> tuple[Tensor, int]:
    text = read_docs()
    place = {kind: number for number, kind in enumerate(text.kinds)}
    characters = torch.tensor([place[c] for c in cut(text, part, LENGTH)[:-1]])
    return characters.view(-1, LENGTH), len(text.kinds)


def as_people_do(steps: int, seeds: int) -> None:
    """Train every variant and seed, one after the other."""
    (train, kinds), (test, _) = windows_of("train"), windows_of("test")
    for variant in NORMS:
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = Encoder(kinds, variant)
            optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0)
            loader = DataLoader(TensorDataset(train), batch_size=BATCH, shuffle=True, drop_last=True)
            step = 0
            while step < steps:
                for (windows,) in loader:
                    if step % EVERY == 0:
                        evaluate(model, test, kinds)
                    given, hidden = mask(windows, kinds)
                    optimizer.zero_grad()
                    F.cross_entropy(model(given)[hidden], windows[hidden]).backward()
                    optimizer.step()
                    step += 1
                    if step == steps:
                        break
            evaluate(model, test, kinds)


@torch.no_grad()
def evaluate(model: nn.Module, test: Tensor, kinds: int) -> float:
    model.eval()
    losses = []
    for (windows,) in DataLoader(TensorDataset(test), batch_size=256):
        given, hidden = mask(windows, kinds)
        losses.append(F.cross_entropy(model(given)[hidden], windows[hidden]).item())
    model.train()
    return statistics.mean(losses)


def preset(steps: int, seeds: int) -> dict[str, object]:
    """bert's study at one rate, with the loop's four variants."""
    study = yaml.safe_load((Path(__file__).parents[2] / "presets" / "bert.yaml").read_text())
    del study["tune"], study["claims"]
    study["variants"] = {name: study["variants"][name] for name in NORMS}
    study["training"] |= {"steps": steps, "lr": RATE}
    return study | {"measures": ["final_loss"], "seeds": seeds}


def floor(lanes: int = 5, repeats: int = 20) -> float:
    """Run-steps a second of one thread that computes the matrix products of a step, forward and backward, alone."""
    kinds, rows, hidden = len(read_docs().kinds), BATCH * LENGTH, BATCH * count_masked(LENGTH)
    linear = DEPTH * [
        (rows, WIDTH, 3 * WIDTH),
        (rows, WIDTH, WIDTH),
        (rows, WIDTH, 4 * WIDTH),
        (rows, 4 * WIDTH, WIDTH),
    ]
    shapes = [(lanes, *shape) for shape in [*linear, (hidden, WIDTH, kinds)]]
    each = WIDTH // HEADS
    shapes += DEPTH * [(lanes * BATCH * HEADS, LENGTH, each, LENGTH), (lanes * BATCH * HEADS, LENGTH, LENGTH, each)]
    made = [(torch.randn(b, n, k), torch.randn(b, k, m), torch.randn(b, n, m)) for b, n, k, m in shapes]

    def products() -> None:
        for x, w, g in made:
            torch.bmm(x, w)
            torch.bmm(g, w.mT)
            torch.bmm(x.mT, g)

    return lanes * one_thread(products, repeats)


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--as-people-do", action="store_true", help="only train as people do")
    options = parser.parse_args()
    if options.as_people_do:
        as_people_do(options.steps, options.seeds)
        return
    counts = ["--steps", str(options.steps), "--seeds", str(options.seeds)]
    found: dict[str, list[float]] = {name: [] for name in GOALS}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "study.yaml")
            file.write_text(yaml.safe_dump(preset(options.steps, options.seeds)))
            before = timed([sys.executable, __file__, "--as-people-do", *counts])
            limit = floor() * len(os.sched_getaffinity(0))
            ours = timed([sys.executable, "-m", "bncli", "compare", str(file), "--store", folder])
        rate = len(NORMS) * options.seeds * options.steps / ours
        found["transformer_over_loop"].append(before / ours)
        found["transformer_of_floor"].append(rate / limit)
        if not options.json:
            print(
                f"loop {before:.0f} s, bncli {ours:.0f} s; floor {limit:.0f}, bncli {rate:.0f} run-steps/s", flush=True
            )
    figures = {}
    for name, values in found.items():
        goal, unit = GOALS[name]
        figures[name] = {"value": statistics.median(values), "low": min(values), "high": max(values)}
        figures[name] |= {"unit": unit, "goal": goal}
        if not options.json:
            print(f"{name} {statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}] {unit}, goal {goal}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
