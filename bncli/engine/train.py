"""The training loop: one job in, its records out, read from top to bottom."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bncli.config import Training
from bncli.data import DATASETS
from bncli.data.splits import Splits
from bncli.engine.batches import Batches
from bncli.engine.evaluate import evaluate, losses_of
from bncli.engine.log import Log, Stopwatch, first_overflows
from bncli.engine.moment import copied
from bncli.engine.network import Network, Tensors
from bncli.engine.probes import Prober
from bncli.engine.ranks import BACKENDS, Ranks
from bncli.engine.state import Checkpoints, check_form, computing_alike, copy_into, noise, products_in, put_noise
from bncli.engine.trace import TrainingStep, engine_of
from bncli.errors import HandedBack
from bncli.kernels import fallbacks_noted
from bncli.models.unit import seed_for
from bncli.norms.sync import alone
from bncli.optim import OPTIMIZERS
from bncli.optim.optimizers import Hyper, Optimizer, State, clipped, factor_of
from bncli.plan import Job, checkpoint_steps, loss_of
from bncli.records import RunResult


@dataclass(frozen=True)
class Sign:
    """A job's sign of life after an evaluation."""

    step: int
    metrics: Mapping[str, float]  # means over its runs: accuracy, where there are classes, and loss; of a task its own
    lr: float | None  # the mean learning rate of the step
    notes: tuple[str, ...] = ()  # what the user should know, one line each


Report = Callable[[Sign], None]


def train(
    job: Job, report: Report = lambda sign: None, checkpoints: Path | None = None, save_every: int = 0
) -> list[RunResult]:
    """Train the runs of one job and return what each left behind, in the job's order.

    The runs are lanes of one vmapped program, or a single plain one. A lane whose training or evaluation loss stops
    being finite has diverged at that step; the others train on as if it were not there.

    Norms that draw noise draw it from torch's global generators, which are seeded here by the first run's seed: the
    same job draws the same noise, whatever ran before it in this process.

    With a folder for checkpoints the whole state is saved there after every `save_every` steps (0: as many as take
    some minutes), also where `report` raises HandedBack, and a job that finds a checkpoint of itself goes on from it,
    to the same numbers. Runs that stop before their recipe ends save it there too, for the job that trains them
    further.

    Lanes for which a GPU has too little memory are trained as two jobs of half as many.

    A run of several ranks is trained by as many processes of one group (`bncli.engine.ranks`), each of which calls this
    and returns the same; the first evaluates, reports and keeps checkpoints, and the others follow it.
    """
    try:
        recipe = job.runs[0].training
        with products_in(recipe.precision), computing_alike(recipe.deterministic):
            return _trained(job, report, checkpoints, save_every)
    except torch.OutOfMemoryError:
        if not job.lanes:
            raise
    torch.cuda.empty_cache()  # out here, where the error no longer holds what was allocated
    half = len(job.runs) // 2
    halves = Job(job.runs[:half]), Job(job.runs[half:])
    folders = [checkpoints and checkpoints / part.course for part in halves]
    return [r for part, folder in zip(halves, folders, strict=True) for r in train(part, report, folder, save_every)]


def _trained(job: Job, report: Report, checkpoints: Path | None, save_every: int) -> list[RunResult]:
    loop = _Loop(job, checkpoints)
    steps, end, every = job.runs[0].training.steps, job.runs[0].steps, job.runs[0].evaluation.every
    if not loop.resume():
        torch.manual_seed(seed_for(job.runs[0].seed, f"noise {loop.ranks.rank or ''}".strip()))
        report(loop.measure())
        loop.probe()
    saves = save_every or checkpoint_steps(job)
    leaving: HandedBack | None = None
    for stop in _stops(loop.step, end, every, saves, loop.prober.every(end)):
        loop.advance(stop)
        if stop % every == 0 or stop == steps:
            try:
                report(loop.measure())
            except HandedBack as error:
                if loop.ranks.count > 1:  # the others do not know of it, and keeping takes all of them
                    raise
                leaving = error
            if loop.log.all_diverged():
                break
        loop.probe()
        if stop < steps and (stop % saves == 0 or stop == end or leaving):
            loop.save()
            if leaving and stop < end:
                raise leaving
    if loop.kept["step"] < loop.step:  # it stops between two evaluations: this one is no part of its further course
        report(loop.measure())
    return loop.log.results(loop.step, loop.clock.seconds, loop.fallbacks)


def _stops(step: int, steps: int, *every: int) -> Iterator[int]:
    """The steps after which something is to be done, an evaluation, a checkpoint or a probe; then the end."""
    while step < steps:
        step = min(steps, *(step - step % each + each for each in every))
        yield step


class _Loop:
    """A job's training at one step, and all that its further course depends on."""

    def __init__(self, job: Job, checkpoints: Path | None) -> None:
        first = job.runs[0]
        self.variant = first.variant
        self.how, self.device = first.evaluation, first.device
        data = DATASETS.describe(first.data.name, first.data.options)
        self.loss = loss_of(first)
        self.clipped = first.training.clip is not None
        self.clock, self.step, self.last = Stopwatch(), 0, first.training.steps - 1
        self.end = first.steps  # where it stops, if its recipe goes on
        with self.clock.of("start"):
            self.splits: Splits = DATASETS.load(first.data.name)(**first.data.options, device=first.device)
            self.network = Network(job.runs, first.device)
        seeds = [run.seed for run in job.runs]
        recipe, lanes = first.training, self.network.lanes
        self.ranks = Ranks(recipe.ranks, recipe.batch_size)
        self.ranks.spread(self.network.parameters.values())  # somebody's network may draw them without torch
        share = self.ranks.start, self.ranks.examples
        self.batches = Batches(
            self.splits.train, recipe.batch_size, seeds, lanes, recipe.augment, data.shape, share,
            recipe.batches.classes_per_batch,
        )  # fmt: skip
        self.hyper = _hyper(job, self.network)
        schedule = first.training.schedule
        self.lr, self.factor = self.hyper.lr.clone(), factor_of(schedule.name, schedule.options, first.training.steps)
        optimizer: Optimizer = OPTIMIZERS.load(first.training.optimizer.name)
        self.state = optimizer.init(list(self.network.parameters.values()), self.hyper)
        step = step_of(self.network, optimizer, self.loss, first.training, self.ranks)
        with self.clock.of("compilation"):
            self.train_step, engine, self.fallbacks = engine_of(
                job, step, self.network, self.state, self.hyper, self.splits.train
            )
        if recipe.ranks > 1:
            engine = f"{engine}, {recipe.ranks} ranks ({BACKENDS[first.device]})"
        self.log = Log(job, self.network, self.loss, engine)
        self.losses = torch.empty(0, *self.network.lanes, device=first.device)  # since the last evaluation
        self.prober = Prober(job, self.network, self.splits, self.batches, step, self.state, self.hyper)
        self.checkpoints = Checkpoints(checkpoints if self.ranks.first else None, job.course)
        self.spent: Mapping[str, float] = {}  # seconds before the checkpoint that it goes on from
        self.kept: dict[str, Any] = {}  # what training depends on, as it was at the last evaluation

    def advance(self, stop: int) -> None:
        """Train up to and with step `stop`."""
        losses = torch.empty(stop - self.step, *self.network.lanes, device=self.device)
        with self.clock.of("training"), fallbacks_noted(self.fallbacks):
            for i, (x, y) in enumerate(self.clock.each("data", self.batches.next(stop - self.step))):
                torch.mul(self.lr, self.factor(self.step + i), out=self.hyper.lr)
                losses[i] = self.train_step(x, y)
            losses = self.ranks.sum(losses * self.ranks.share)
            if self.device == "cuda":
                torch.cuda.synchronize()
        self.losses, self.step = torch.cat([self.losses, losses]), stop

    def measure(self) -> Sign:
        """Evaluate, and take down what was found."""
        with self.clock.of("evaluation"):
            found = self.ranks.take_first(self._evaluate)
            self.log.add(self.step, found, self.losses if self.step else None)
        self.losses = self.losses[:0]
        if self.kept and (steps := self.log.blown_up_since(self.kept["step"])):
            self._blame(steps)
        self.kept = self._kept()
        notes = (*(f"{self.variant}: {each}" for each in self.fallbacks), *self.checkpoints.notes)
        return Sign(self.step, self.log.means(), self.hyper.lr.mean().item(), notes)

    def _evaluate(self) -> dict[str, Tensor]:
        with alone():
            found = evaluate(self.network, getattr(self.splits, self.how.split), self.how, self.loss, self.batches)
        return {metric: values.cpu() for metric, values in found.items()}

    def _blame(self, steps: Mapping[int, Sequence[int]]) -> None:
        """Find the layers that blew up at these steps in these lanes: train again up to there, look, and come back."""
        now, lr, last = self._kept(), self.hyper.lr.clone(), max(steps)
        with self.clock.of("evaluation"):
            self._put(self.kept)
            for step, (x, y) in enumerate(self.batches.next(last - self.step), self.step + 1):
                if lanes := steps.get(step):
                    each = self.ranks.gather(first_overflows(self.network, x, clipped=self.clipped))
                    blamed = [next(filter(None, names), "") for names in zip(*each, strict=True)]
                    for lane in lanes:
                        self.log.blame(lane, blamed[lane])
                if step < last:
                    torch.mul(self.lr, self.factor(step - 1), out=self.hyper.lr)
                    self.train_step(x, y)
            self._put(now)
            self.hyper.lr.copy_(lr)

    def _kept(self) -> dict[str, Any]:
        """What the further course of training depends on, copied."""
        return {**copied(self._tensors()), **self._place()}

    def _put(self, kept: Mapping[str, Any]) -> None:
        for name, tensors in self._tensors().items():
            copy_into(tensors, kept[name])
        self.step = kept["step"]
        self.batches.restore(kept["batches"])
        put_noise(self.device, kept["noise"])

    def probe(self) -> None:
        """Look at distributions and gradients, if that is due."""
        if self.prober.due(self.step):
            with self.clock.of("probing"):
                lr = self.lr * self.factor(min(self.step, self.last))  # of the next step, or of one like the last
                self.log.add_probe(self.prober.look(self.step, lr))

    def save(self) -> None:
        """Write a checkpoint."""
        with self.clock.of("checkpointing"):
            drawn = self.ranks.gather((noise(self.device), self.kept["noise"]))
            self.checkpoints.save(self.step, {**self._tensors(), **self._plain(), "drawn": drawn})

    def resume(self) -> bool:
        """Go on from the newest checkpoint that fits this job, if there is one."""
        with self.clock.of("checkpointing"):
            found = self.ranks.take_first(self._resume)
            if found and not self.ranks.first:
                own, of_kept = found["drawn"][self.ranks.rank]
                self._restore({**found, "noise": own, "kept": {**found["kept"], "noise": of_kept}})
        for kind, seconds in self.spent.items():  # out here: they were not spent on reading the checkpoint
            self.clock.seconds[kind] += seconds
        return found is not None

    def _resume(self) -> dict[str, Any] | None:
        """The state of the checkpoint that was put back, if there is one."""
        taken = list[dict[str, Any]]()

        def restore(found: dict[str, Any]) -> None:
            self._restore(found)
            taken.append(found)

        self.checkpoints.resume(restore)
        return taken[-1] if taken else None

    def _restore(self, found: Mapping[str, Any]) -> None:
        """Put a checkpoint's state back; one that does not fit leaves everything as it was."""
        self._check(found)
        before = self._kept()
        try:
            self._put(found)
            self.prober.restore(found["probed"], self.device)
            self.log.restore(found["log"])
        except Exception:
            self._put(before)
            raise
        self.losses, self.kept = found["losses"].to(self.device), found["kept"]
        self.spent = found["seconds"]

    def _check(self, found: Mapping[str, Any]) -> None:
        """Raise a ValueError where a state is not of this job's form."""
        form = {**self._tensors(), **self._place()}
        epoch = len(self.splits.train) // self.batches.size
        for state in (found, found["kept"]):
            check_form(form, {name: state[name] for name in form})
            if not 0 <= state["step"] <= min(self.last, self.end):
                raise ValueError(f"it is of step {state['step']} of {self.end}")
            if not all(0 <= taken < max(epoch, 1) for _, _, taken in state["batches"]):
                raise ValueError("it has taken more batches than an epoch has")
        if len(found["drawn"]) != self.ranks.count:
            raise ValueError("it is of another number of ranks")
        since = found["step"] - found["kept"]["step"]
        check_form(self.losses.new_zeros(max(since, 0), *self.network.lanes), found["losses"])
        check_form(self.clock.seconds, found["seconds"])

    def _tensors(self) -> dict[str, Any]:
        return {"parameters": self.network.parameters, "buffers": self.network.buffers, "optimizer": self.state}

    def _plain(self) -> dict[str, Any]:
        return {
            **self._place(), "losses": self.losses, "log": self.log.state(), "seconds": self.clock.seconds,
            "probed": self.prober.state(), "kept": self.kept,
        }  # fmt: skip

    def _place(self) -> dict[str, Any]:
        return {"step": self.step, "batches": self.batches.state(), "noise": noise(self.device)}


def step_of(network: Network, optimizer: Optimizer, loss: str, recipe: Training, ranks: Ranks) -> TrainingStep:
    """One training step of a recipe, as a function of tensors only.

    `step(parameters, buffers, state, hyper, x, y)` takes a batch x (*lanes, N, features), y (*lanes, N, ...), changes
    parameters, buffers and the optimiser's state in place, and returns the loss before the step, (*lanes,). No number
    in it changes from step to step but in those tensors, so whoever traces it once has every step.
    """

    forward = ranks.forward(network)

    def step(parameters: Tensors, buffers: Tensors, state: State, hyper: Hyper, x: Tensor, y: Tensor) -> Tensor:
        changed = list(parameters.values())
        if recipe.precision == "mixed":
            with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
                outputs = forward(parameters, buffers, x).float()
        else:
            outputs = forward(parameters, buffers, x)
        losses = losses_of(outputs, y, loss, recipe.label_smoothing)
        grads: Sequence[Tensor] = torch.autograd.grad(
            ranks.weigh(losses.sum()), changed, allow_unused=True, materialize_grads=True
        )  # frn leaves its eps unused where there are locations
        with torch.no_grad():
            grads = ranks.add(grads)
            if recipe.clip is not None:
                grads = clipped(grads, recipe.clip, len(network.lanes))
            optimizer.update(changed, grads, state, hyper)
        return losses.detach()

    return step


def _hyper(job: Job, network: Network) -> Hyper:
    recipes = [run.training for run in job.runs]
    decays = any(r.weight_decay for r in recipes)

    def of(values: list[float]) -> Tensor:
        return torch.tensor(values, device=job.runs[0].device).view(network.lanes)

    return Hyper(
        lr=of([r.lr for r in recipes]),
        weight_decay=of([r.weight_decay for r in recipes]),
        momentum=of([r.optimizer.options.get("momentum", 0.0) for r in recipes]),
        decays=[decays and (recipes[0].decay == "all" or name in network.weights) for name in network.parameters],
        options=recipes[0].optimizer.options,
    )
