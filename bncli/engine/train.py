"""The training loop: one job in, its records out, read from top to bottom."""

import math
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from bncli.data import DATASETS
from bncli.data.splits import Splits
from bncli.engine import OPTIMIZERS
from bncli.engine.batches import Batches
from bncli.engine.environment import environment
from bncli.engine.evaluate import evaluate, losses_of
from bncli.engine.network import Network
from bncli.engine.optimizers import Hyper, Optimizer, State
from bncli.engine.trace import engine_of
from bncli.models.initialise import seed_for
from bncli.plan import Job
from bncli.records import Record, RunInfo, RunResult

Report = Callable[[int, float], None]  # called after each evaluation with the step and the mean accuracy (or loss)


def train(job: Job, report: Report = lambda step, level: None) -> list[RunResult]:
    """Train the runs of one job and return what each left behind, in the job's order.

    The runs are lanes of one vmapped program, or a single plain one. A lane whose training or evaluation loss stops
    being finite has diverged at that step; the others train on as if it were not there.

    Norms that draw noise draw it from torch's global generators, which are seeded here by the first run's seed: the
    same job draws the same noise, whatever ran before it in this process.
    """
    first = job.runs[0]
    recipe, how, row = first.training, first.evaluation, DATASETS[first.data.name]
    splits: Splits = DATASETS.load(first.data.name)(**first.data.options, device=first.device)
    network = Network(job.runs, first.device)
    batches = Batches(splits.train, recipe.batch_size, [run.seed for run in job.runs], network.lanes)
    optimizer: Optimizer = OPTIMIZERS.load(recipe.optimizer.name)
    hyper = _hyper(job, network.lanes, first.device)
    state = optimizer.init(list(network.parameters.values()), hyper)
    start = time.perf_counter()
    train_step, engine = engine_of(job, step_of(network, optimizer, row.loss), network, state, hyper, splits.train)
    log = _Log(job, network, _LOSS_UNITS[row.loss], engine)
    seconds = {"training": 0.0, "evaluation": 0.0, "compilation": time.perf_counter() - start}

    def measure(step: int, train_losses: Tensor | None) -> None:
        start = time.perf_counter()
        found = evaluate(network, getattr(splits, how.split), how, row.loss, batches)
        log.add(step, found, train_losses)
        seconds["evaluation"] += time.perf_counter() - start
        report(step, log.level())

    torch.manual_seed(seed_for(first.seed, "noise"))
    measure(0, None)
    step = 0
    for last in _grid(recipe.steps, how.every):
        start = time.perf_counter()
        losses = torch.empty(last - step, *network.lanes, device=first.device)
        for i, (x, y) in enumerate(batches.next(last - step)):
            step += 1
            losses[i] = train_step(x, y)
        seconds["training"] += time.perf_counter() - start
        measure(step, losses)
        if log.all_diverged():
            break
    return log.results(step, seconds)


Tensors = Mapping[str, Tensor]
Step = Callable[[Tensors, Tensors, State, Hyper, Tensor, Tensor], Tensor]


def step_of(network: Network, optimizer: Optimizer, loss: str) -> Step:
    """One training step, as a function of tensors only.

    `step(parameters, buffers, state, hyper, x, y)` takes a batch x (*lanes, N, features), y (*lanes, N, ...), changes
    parameters, buffers and the optimiser's state in place, and returns the loss before the step, (*lanes,). No number
    in it changes from step to step but in those tensors, so whoever traces it once has every step.
    """

    def step(parameters: Tensors, buffers: Tensors, state: State, hyper: Hyper, x: Tensor, y: Tensor) -> Tensor:
        changed = list(parameters.values())
        losses = losses_of(network.pure(parameters, buffers, x), y, loss)
        grads = torch.autograd.grad(losses.sum(), changed)
        with torch.no_grad():
            optimizer.update(changed, grads, state, hyper)
        return losses.detach()

    return step


def _grid(steps: int, every: int) -> Iterator[int]:
    """The steps after which the network is evaluated: every so many, and after the last."""
    yield from range(every, steps, every)
    yield steps


def _hyper(job: Job, lanes: tuple[int, ...], device: str) -> Hyper:
    recipes = [run.training for run in job.runs]

    def of(values: list[float]) -> Tensor:
        return torch.tensor(values, device=device).view(lanes)

    return Hyper(
        lr=of([r.lr for r in recipes]),
        weight_decay=of([r.weight_decay for r in recipes]),
        momentum=of([r.optimizer.options.get("momentum", 0.0) for r in recipes]),
        decays=any(r.weight_decay for r in recipes),
        options=recipes[0].optimizer.options,
    )


class _Log:
    """Records of every lane, and the step at which it diverged."""

    def __init__(self, job: Job, network: Network, loss_unit: str, engine: str) -> None:
        self._job, self._network, self._engine = job, network, engine
        self._units = {"accuracy": "fraction", "loss": loss_unit}
        self._records: list[list[Record]] = [[] for _ in job.runs]
        self._diverged: list[tuple[int, str] | None] = [None for _ in job.runs]
        self._levels: list[float] = []

    def add(self, step: int, found: dict[str, Tensor], train_losses: Tensor | None) -> None:
        """Take one evaluation: `found` by quantity, each (*lanes,); `train_losses` (steps since, *lanes)."""
        with torch.no_grad():
            columns = {quantity: values.reshape(-1).tolist() for quantity, values in found.items()}
            norms = {name: self._norms(p) for name, p in self._network.parameters.items()}
            trained = None if train_losses is None else train_losses.view(len(train_losses), -1).double().cpu()
        for lane, records in enumerate(self._records):
            if self._diverged[lane]:
                continue
            self._diverged[lane] = _divergence(step, lane, columns["loss"][lane], trained)
            if self._diverged[lane]:
                continue
            if trained is not None:
                records.append(Record("train_loss", step, trained[:, lane].mean().item(), self._units["loss"]))
            records += [Record(quantity, step, v[lane], self._units[quantity]) for quantity, v in columns.items()]
            records += [Record("parameter_norm", step, v[lane], "L2", name) for name, v in norms.items()]
        self._levels = columns.get("accuracy", columns["loss"])

    def _norms(self, parameter: Tensor) -> list[float]:
        flat = parameter.reshape(*self._network.lanes, -1) if self._network.lanes else parameter.reshape(1, -1)
        norms: list[float] = flat.norm(dim=-1).tolist()
        return norms

    def level(self) -> float:
        """Mean accuracy (or loss) of the lanes that live."""
        living = [v for v, gone in zip(self._levels, self._diverged, strict=True) if not gone]
        return sum(living) / len(living) if living else math.nan

    def all_diverged(self) -> bool:
        """Whether no lane is worth training on."""
        return all(self._diverged)

    def results(self, step: int, seconds: dict[str, float]) -> list[RunResult]:
        """How every run ended; a lane's seconds are its equal share of the job's."""
        count = len(self._job.runs)
        share = {kind: total / count for kind, total in seconds.items()}
        where = environment(self._job.runs[0].device)
        found = []
        for run, records, gone in zip(self._job.runs, self._records, self._diverged, strict=True):
            info = RunInfo(
                id=run.id, status="diverged" if gone else "done", step=gone[0] if gone else step,
                reason=gone[1] if gone else "", engine=self._engine, parameters=self._network.size,
                seconds=share, environment=where,
            )  # fmt: skip
            found.append(RunResult(run.spec(), info, tuple(records)))
        return found


_LOSS_UNITS = {"cross_entropy": "nats", "squared_error": "squared error"}


def _divergence(step: int, lane: int, loss: float, trained: Tensor | None) -> tuple[int, str] | None:
    if trained is not None:
        bad = (~trained[:, lane].isfinite()).nonzero()
        if len(bad):
            return step - len(trained) + int(bad[0]) + 1, "the training loss is not finite"
    if not math.isfinite(loss):
        return step, "the evaluation loss is not finite"
    return None
