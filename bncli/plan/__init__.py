"""From a study to runs, and from runs to the jobs that workers train; plain data, no torch."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel

from bncli.catalogue import Row
from bncli.config import Evaluation, Part, Probes, Study, Training
from bncli.config.budget import training_bytes
from bncli.config.parts import Before
from bncli.data import DATASETS
from bncli.models import MODELS
from bncli.norms import NORMS
from bncli.optim import LOSSES, OPTIMIZERS, SCHEDULES
from bncli.shift import METRICS
from bncli.tasks import TASKS

NUMERICS = 2  # of the first house; what changes its numbers raises `numerics` in its own row
MAX_LANES = 10  # measured: the cost of a lane falls until about ten (docs/measurements.md)
MAX_LANES_ON_A_GPU = 64  # measured on an H100: a step of 64 lanes takes little longer than one of ten (docs/gpu.md)
SPEED = 6e10  # floating-point operations a second of one core in matrix products
TRACED_STEPS = 50  # measured: tracing costs 0.02 to 0.5 s, and saves 0.2 to 1 ms a run and step
CHECKPOINT_SECONDS = 120  # what a killed worker may lose, roughly
TASK_SECONDS = 1.0  # of a task: nobody knows, and jobs are ordered by it
MIN_LANES = 3  # below this the overhead of vmap eats what sharing the step saves (docs/measurements.md)


# auto: lanes and tracing as the rules below say; untraced: without tracing; plain: one run at a time, untraced
Engine = Literal["auto", "untraced", "plain"]


@dataclass(frozen=True)
class Run:
    """One variant at one setting and one seed: what is trained, stored and paired.

    `variant` and `setting` are labels; everything else determines the numbers.
    """

    variant: str
    setting: Mapping[str, Any]
    data: Part
    model: Part
    norm: Part
    training: Training
    evaluation: Evaluation
    seed: int
    device: str  # "cpu", "cuda" or "mps"
    engine: Engine = "auto"
    probes: Probes = field(default_factory=Probes)
    task: Part | None = None  # a loop of somebody's own, instead of data, model, training, evaluation, engine, probes
    rungs: tuple[int, ...] = ()  # steps at which a search looks at it, the last where it stops; none: at its end alone

    @property
    def steps(self) -> int:
        """Steps that it trains; of a task what its option `steps` says, 0 where nothing does."""
        if self.rungs:
            return self.rungs[-1]
        asked = self.task.options.get("steps") if self.task else self.training.steps
        return asked if type(asked) is int and asked > 0 else 0

    @property
    def pauses(self) -> bool:
        """Whether it stops before its recipe ends, where a run of the next rung goes on."""
        return bool(self.rungs) and self.rungs[-1] < self.training.steps

    def spec(self) -> dict[str, Any]:
        """Everything that determines this run's numbers, as plain JSON values.

        Options and keys that are younger than stored runs are part of it where they differ from the behaviour before
        them, and a row's `numerics` where it was raised, so that what was stored is found again; so are the hashes of
        plug-ins. Probes are part of it where there are any: they change no other number, but add numbers of their own,
        so a run that was stored without them lacks what a study with them asks for.
        """
        return {**self._shared.spec, "seed": self.seed}

    @cached_property
    def _shared(self) -> "_Shared":
        return _Shared(self._spec_of_task(self.task) if self.task else self._spec_of_recipe())

    def _spec_of_task(self, task: Part) -> dict[str, Any]:
        """With the variant's name, which the task is told and may go by."""
        rows: dict[str, Row] = {"task": TASKS[task.name], "norm": NORMS[self.norm.name]}
        raised = {kind: row.numerics for kind, row in rows.items() if row.numerics > NUMERICS}
        code = sorted({row.code for row in rows.values() if row.code})
        return {
            "numerics": NUMERICS, "task": _part(task, rows["task"]), "norm": _part(self.norm, rows["norm"]),
            "variant": self.variant, "seed": self.seed, "device": self.device,
            **({"numerics_of": raised} if raised else {}), **({"code": code} if code else {}),
        }  # fmt: skip

    def _spec_of_recipe(self) -> dict[str, Any]:
        data = DATASETS.describe(self.data.name, self.data.options)
        model, norm = MODELS[self.model.name], NORMS[self.norm.name]
        optimizer, schedule = self.training.optimizer, self.training.schedule
        numerics = {
            "data": data.numerics, "model": model.numerics, "norm": norm.numerics,
            "device": 3 if self.device == "cuda" else 2,  # 2: captured steps read constants that were freed
            "precision": 3 if self.training.precision == "mixed" else 2,  # 2: was not traced
        }  # fmt: skip
        raised = {kind: number for kind, number in numerics.items() if number > NUMERICS}
        rows: list[Row] = [
            data,
            model,
            norm,
            LOSSES[loss_of(self)],
            OPTIMIZERS[optimizer.name],
            SCHEDULES[schedule.name],
        ]
        rows += [METRICS[name] for name in self.probes.metrics if name in METRICS]
        code = sorted({row.code for row in rows if row.code})
        return {
            "numerics": NUMERICS,
            "data": _part(self.data, data),
            "classes": data.classes,
            "model": _part(self.model, model),
            "norm": _part(self.norm, norm),
            "training": {
                **_section(self.training),
                "optimizer": _part(optimizer, OPTIMIZERS[optimizer.name]),
                "schedule": _part(schedule, SCHEDULES[schedule.name]),
            },
            "evaluation": _section(self.evaluation),
            "seed": self.seed,
            "device": self.device,
            "engine": self.engine,
            **({"probes": _section(self.probes)} if self.probes.metrics else {}),
            **({"stop": self.steps} if self.pauses else {}),
            **({"numerics_of": raised} if raised else {}),
            **({"code": code} if code else {}),
        }

    @cached_property
    def id(self) -> str:
        """A hash of the spec: the same numbers, the same id, whatever the preset is called."""
        before, after = self._shared.text
        return hashlib.sha256(f"{before}{json.dumps(self.seed)}{after}".encode()).hexdigest()[:20]


@dataclass(frozen=True)
class _Shared:
    """What the specs of runs have in common that differ in nothing but the seed: found out once for all of them."""

    spec: Mapping[str, Any]  # of one of them

    @cached_property
    def text(self) -> tuple[str, str]:
        """The spec as JSON, keys ascending, before and behind the seed; neither is empty."""
        before, after = (
            json.dumps({k: self.spec[k] for k in keys}, sort_keys=True, separators=(",", ":"))
            for keys in ([k for k in self.spec if k < "seed"], [k for k in self.spec if k > "seed"])
        )
        return f'{before[:-1]},"seed":', f",{after[1:]}"

    @cached_property
    def shape(self) -> str:
        """What the lanes of one program must share: all but seed, learning rate, weight decay and momentum."""
        training = {k: v for k, v in self.spec["training"].items() if k not in ("lr", "weight_decay")}
        training["optimizer"] = {k: v for k, v in training["optimizer"].items() if k != "momentum"}
        return json.dumps({k: v for k, v in {**self.spec, "training": training}.items() if k != "seed"}, sort_keys=True)


def loss_of(run: Run) -> str:
    """The name of the loss that a run is trained by."""
    named = run.training.loss
    return named.name if named else DATASETS.describe(run.data.name, run.data.options).loss


def _part(part: Part, row: Row) -> dict[str, Any]:
    """A name with its options, without places, and without those that mean what was so before there were such."""
    known = row.options
    counts = {key: value for key, value in part.flat().items() if key not in known or not known[key].place}
    return {key: value for key, value in counts.items() if key not in known or value != known[key].before}


def _section(section: BaseModel) -> dict[str, Any]:
    """Keys with values, without those that mean what was so before there was such a key."""
    before = _before(type(section))
    return {k: v for k, v in section.model_dump(mode="json").items() if k not in before or v != before[k]}


@cache
def _before(section: type[BaseModel]) -> dict[str, Any]:
    marks = [(key, mark) for key, field in section.model_fields.items() for mark in field.metadata]
    return {key: mark.value for key, mark in marks if isinstance(mark, Before)}


@dataclass(frozen=True)
class Job:
    """Runs that one worker trains together: as lanes of one program, or one run alone."""

    runs: tuple[Run, ...]
    fallback: str = ""  # why its run trains alone although there are enough for lanes

    @cached_property
    def id(self) -> str:
        """A hash of the runs' ids, in their order."""
        return hashlib.sha256(" ".join(run.id for run in self.runs).encode()).hexdigest()[:20]

    @property
    def course(self) -> str:
        """The id of the job that trains these runs to their end: jobs that stop on the way to it share checkpoints."""
        return Job(tuple(replace(run, rungs=()) for run in self.runs)).id if self.runs[0].pauses else self.id

    @property
    def lanes(self) -> bool:
        """Whether the runs train as lanes of one vmap program; else the job has one run, trained plainly."""
        return len(self.runs) > 1

    @property
    def traced(self) -> bool:
        """Whether the training step is traced into a flat list of operations: if it may be, and is repeated enough."""
        run = self.runs[0]
        alone = not run.task and run.training.ranks == 1
        return alone and (
            run.engine == "auto" and run.training.steps >= TRACED_STEPS and all(r.traced for r in _rows(run).values())
        )


def runs_of(study: Study, device: str, engine: Engine = "auto") -> list[Run]:
    """Every run of a study: settings x variants x seeds."""
    return list(each_run(study, device, engine))


def each_run(study: Study, device: str, engine: Engine = "auto") -> Iterator[Run]:
    """The same, one after the other as they are asked for."""
    for setting, at in study.settings():
        for name, variant in at.variants.items():
            like = Run(
                name, setting, at.data, at.model_of(name), variant.norm, at.training_of(name), at.evaluation_of(name),
                0, device, engine, at.probes, at.task,
            )  # fmt: skip
            for seed in at.seeds:
                run = replace(like, seed=seed)
                vars(run)["_shared"] = like._shared  # its cached property
                yield run


def jobs_of(runs: Iterable[Run]) -> list[Job]:
    """Group runs of one shape into lanes, the dearest job first.

    The rule knows the plan only, never what the store has or how many workers there are: an interrupted study
    forms the same jobs again, so every lane keeps its company and its numbers. Of a search by rungs the seeds of one
    trial are all the company there is: they stop together or go on together.
    """
    shapes: dict[str, dict[str, Run]] = {}
    for run in runs:
        alone = repr((run.variant, run.setting)) if run.rungs else ""
        shapes.setdefault(_shape(run) + alone, {}).setdefault(run.id, run)
    jobs = []
    for same in shapes.values():
        together = list(same.values())
        jobs += [Job(lanes, _lanes_missed(together)) for lanes in _lanes(together)]
    return sorted(jobs, key=seconds_of, reverse=True)


def _lanes(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Runs of one shape, in jobs."""
    if not _want_lanes(runs) or not all(row.lanes for row in _rows(runs[0]).values()):
        return [(run,) for run in runs]
    most = MAX_LANES_ON_A_GPU if runs[0].device == "cuda" else MAX_LANES
    count = -(-len(runs) // most)
    size, more = divmod(len(runs), count)
    ends = [0]
    for i in range(count):
        ends.append(ends[-1] + size + (i < more))
    return [tuple(runs[a:b]) for a, b in pairwise(ends)]


def _rows(run: Run) -> dict[str, Row]:
    """The rows of what a training step consists of, by what each is."""
    norm, model, optimizer = run.norm.name, run.model.name, run.training.optimizer.name
    found: dict[str, Row] = {f"norm {norm!r}": NORMS[norm], f"model {model!r}": MODELS[model]}
    loss = loss_of(run)
    return {**found, f"optimizer {optimizer!r}": OPTIMIZERS[optimizer], f"loss {loss!r}": LOSSES[loss]}


def _want_lanes(runs: Sequence[Run]) -> bool:
    """On a CPU, lanes of convolutions take 1.5 to 2.3 times as long as one by one.

    Three lanes of the default transformer on python-docs take .66 to .73 times as long (none, layer, rms, batch, dyt).
    """
    model = MODELS[runs[0].model.name]
    slow = model.locations and not model.positions and runs[0].device == "cpu"
    return len(runs) >= MIN_LANES and runs[0].engine != "plain" and not slow and runs[0].training.ranks == 1


def _lanes_missed(runs: Sequence[Run]) -> str:
    """Why runs of one shape do not train together although the rule asks for it, in words; empty where they do."""
    without = [name for name, row in _rows(runs[0]).items() if not row.lanes]
    if not _want_lanes(runs) or not without:
        return ""
    return f"runs train one at a time: {without[0]} does not train several at once (lanes)"


def _shape(run: Run) -> str:
    """What the runs of one job share; a task trains alone."""
    return run.id if run.task else run._shared.shape


def facts_key(run: Run) -> str:
    """What must be found out of a run's network before it is planned, as a hash of it; "" if nothing must."""
    if not MODELS[run.model.name].whole:
        return ""
    data, spec = DATASETS.describe(run.data.name, run.data.options), run.spec()
    told = {key: spec[key] for key in ("model", "norm", "device", "code")}
    examples = {"shape": data.shape, "outputs": data.outputs, "batch_size": run.training.batch_size}
    return hashlib.sha256(json.dumps(told | examples, sort_keys=True).encode()).hexdigest()[:20]


def seconds_of(job: Job) -> float:
    """Roughly how long one core of a 2026 server takes: overhead of the step plus its arithmetic.

    Of a network that somebody else wrote a step was timed.
    """
    run = job.runs[0]
    if run.task:
        return TASK_SECONDS
    data, training = DATASETS.describe(run.data.name, run.data.options), run.training
    model = MODELS[run.model.name]
    layers = model.sizes(run.model.options, data.shape, data.outputs)
    weights = model.cost * sum(layer.multiply_adds for layer in layers)
    step = (2e-4 * len(layers) / len(job.runs) + 5e-5) + 6 * weights * training.batch_size / SPEED
    evaluations = run.steps // run.evaluation.every + 2
    settling = run.evaluation.precise_batches * training.batch_size if run.evaluation.statistics == "precise" else 0
    evaluated = (data.examples[run.evaluation.split] + settling) * evaluations
    if facts := MODELS.facts(facts_key(run)):
        return len(job.runs) * facts.seconds * (run.steps * training.batch_size + evaluated / 3)
    evaluating = 2 * weights * evaluated / SPEED
    return len(job.runs) * (NORMS[run.norm.name].cost * step * run.steps + evaluating)


def bytes_of(run: Run) -> int:
    """Bytes that training one run takes at least; 0 where they are not known: of a task, of a network of others."""
    if run.task or MODELS[run.model.name].whole:
        return 0
    data = DATASETS.describe(run.data.name, run.data.options)
    layers = MODELS[run.model.name].sizes(run.model.options, data.shape, data.outputs)
    return training_bytes(layers, run.norm, run.training)


def checkpoint_steps(job: Job) -> int:
    """Steps between checkpoints: about as many as take CHECKPOINT_SECONDS, by the plan alone."""
    steps = job.runs[0].steps
    return max(1, round(steps * CHECKPOINT_SECONDS / seconds_of(job)))
