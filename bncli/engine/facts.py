"""What planning must know of a network that somebody else wrote: found by building it, in a process of its own.

`main` is that process: it reads (runs, plug-ins, folder of data) from its stdin, pickled, and writes a line of JSON for
each run to its stdout; what else is printed goes to stderr.
"""

import json
import os
import pickle
import sys
import time
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bncli.data import DATASETS, looking_in
from bncli.engine.evaluate import losses_of
from bncli.errors import BncliError, first_line
from bncli.models import MODELS
from bncli.models.foreign import NetworkFacts
from bncli.models.unit import Normaliser, drawn_from
from bncli.plan import Run, loss_of
from bncli.plugins import using

_EXAMPLES = 16  # of the batch that is timed; fewer where training has fewer


def find_facts(run: Run) -> NetworkFacts:
    """Build a run's network, take training steps with examples drawn at random, and say what it is like."""
    data = DATASETS.describe(run.data.name, run.data.options)
    options, count = dict(run.model.options), min(run.training.batch_size, _EXAMPLES)
    norm = Normaliser(name=run.norm.name, options=run.norm.options)
    try:
        with drawn_from(run.seed):
            model, report, notes = MODELS.load(run.model.name).report(data.shape, data.outputs, norm, **options)
        x = torch.randn(count, data.features, generator=torch.Generator().manual_seed(0))
        y = torch.zeros(count, dtype=torch.long) if data.classes else torch.zeros(count, data.targets)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(x)
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        sizes = f"{parameters:,} parameters, {counter.get_total_flops() // 2 // count:,} multiplications for an example"
        found = NetworkFacts(
            parameters=parameters,
            norms=tuple(dict.fromkeys(row.old for row in report.replaced)),
            functional=report.functional,
            notes=(sizes, *notes, *str(report).splitlines()),
        )
        return replace(
            found, seconds=_seconds(model.train().to(run.device), x.to(run.device), y.to(run.device), loss_of(run))
        )
    except BncliError as error:
        return NetworkFacts(problem=str(error))
    except Exception as error:  # anybody's code
        what = f"model {run.model.name} with norm {run.norm.name}"
        return NetworkFacts(problem=f"{what}: cannot take a training step: {first_line(error)}")


def _seconds(model: nn.Module, x: Tensor, y: Tensor, loss: str) -> float:
    """Seconds of a training step for each example, the quickest of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        losses = losses_of(model(x), y, loss)
        losses.backward()
        losses.item()  # which waits for a GPU
        times.append(time.perf_counter() - start)
    return min(times) / len(x)


def main() -> None:
    """Answer what is asked on stdin."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runs, plugins, folder = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(1)
    with answer, using(plugins), looking_in(folder):
        for run in runs:
            answer.write(json.dumps(asdict(find_facts(run))) + "\n")
            answer.flush()
