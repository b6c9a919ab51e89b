"""Loops that misbehave once or always, as `--task`; what they have done stands in a folder."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def train(run: Any, folder: str = "", kind: str = "well", steps: int = 4, seconds: float = 0.0) -> Iterator[Any]:
    """Yields a loss a step; `kind` says what the variant `bad` does, other variants are well."""
    done = Path(folder) / f"{run.variant}-{run.seed}"
    bad = kind if run.variant == "bad" else "well"
    first = not done.exists()
    with done.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if bad == "dies" or (bad == "dies once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if bad == "hangs":
        time.sleep(600)
    for step in range(steps):
        time.sleep(seconds)
        yield {"step": step, "loss": 1.0 / (step + 1 + run.seed)}
