"""A study from what was asked to a plan: which runs, in which jobs, where and how they are to be trained."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import Any

from bncli.config import Study, budget, read_study
from bncli.engine.environment import device_count, resolve_device
from bncli.errors import ConfigError, DamageError, as_line, expect, expect_text
from bncli.executors import OpenWorkers, Placement, load_factory
from bncli.models import MODELS
from bncli.optim import LOSSES
from bncli.plan import Engine, Job, Run, facts_key, jobs_of, runs_of, seconds_of
from bncli.plugins.code import NamedCode, code_text
from bncli.presets import preset_path
from bncli.records import RunResult, StudyRun, group_arms
from bncli.session.memory import check_memory, warn_of_memory, warn_of_ranks
from bncli.session.resolve import resolve
from bncli.store.folder import Store
from bncli.tasks import TASKS

DEVICES = ("auto", "cpu", "cuda", "mps")
HERE = ("local", "thread")  # executors whose workers are on this machine
_MEANT = "see the plan by --dry-run, and add --yes if it is meant"
Preset = str | Path | Study | Mapping[str, Any]  # a shipped preset's name, a YAML file, a study, or its keys and values
Model = str | Callable[..., Any]  # a name, FILE.py:NAME, MODULE:NAME, or a class or function at the top of a file


@dataclass(frozen=True)
class Yours:
    """What is given in place of a preset's own; None is the preset's."""

    model: Model | None = None  # beside names those of torchvision:NAME and timm:NAME
    weights: str | Path | None = None  # trained ones, for the model
    sites: str | None = None  # pattern on the paths of the norms that are replaced
    loss: Model | None = None
    data: str | Path | None = None  # a name, FILE.npz, FILE.txt, a folder of images, hf:NAME
    task: Model | None = None  # a loop, in the place of all of these

    def named(self) -> Iterator[tuple[str, str, NamedCode | str]]:
        """(flag, key, name or code) of the model, the loss and the task, where they are given.

        Raises:
            ConfigError: for what has neither name nor place.
        """
        tables: dict[str, Container[str]] = {"MODELS": MODELS, "LOSSES": LOSSES, "TASKS": TASKS}
        for flag, key, given, table in (
            ("--model", "model", self.model, "MODELS"), ("--loss", "training.loss", self.loss, "LOSSES"),
            ("--task", "task", self.task, "TASKS"),
        ):  # fmt: skip
            if given is not None:
                text = code_text(given, flag)
                expect_text("a name, FILE.py:NAME or MODULE:NAME", **{flag: text})
                known = text in tables[table] or ":" not in text
                yield flag, key, text if known else NamedCode(table, text)

    def changes(self) -> dict[str, tuple[Any, str]]:
        """Keys of a preset with the values that take their place, and how those were given."""
        found: dict[str, tuple[Any, str]] = {}
        for flag, key, named in self.named():
            name = named if isinstance(named, str) else named.name
            if key == "task":  # whose options a preset may say
                found["task.name"] = name, f"{flag} {name if isinstance(named, str) else named.text}"
                continue
            found[key] = {"name": name}, f"{flag} {name if isinstance(named, str) else named.text}"
        for flag, key, value in (("--weights", "weights", self.weights), ("--sites", "sites", self.sites)):
            if value is not None:
                found[f"model.{key}"] = str(value), f"{flag} {value}"
        return found


def code_of(yours: Yours, plugins: str | Path | Iterable[str | Path] = ()) -> list[NamedCode | str | Path]:
    """The code that must be loaded for it, and that of plug-ins.

    Raises:
        ConfigError: for what has neither name nor place.
    """
    expect("plugins", plugins, isinstance(plugins, str | Path | Iterable), "files or modules, as in ['norms.py']")
    others = [plugins] if isinstance(plugins, str | Path) else plugins
    return [*others, *(named for _, _, named in yours.named() if isinstance(named, NamedCode))]


@dataclass(frozen=True)
class Session:
    """A study, ready to be trained, and where and how that is to be done."""

    name: str
    study: Study
    device: str
    runs: tuple[Run, ...]
    jobs: tuple[Job, ...]
    store: Store
    engine: Engine = "auto"
    executor: str | Executor | OpenWorkers = "local"
    workers: int | None = None  # jobs at once; None is as many as the executor has
    data_dir: Path | None = None
    time_limit: float | None = None  # seconds of one job
    placement: Placement = Placement()
    searched: tuple[Run, ...] = ()  # runs of the search that went before `runs`

    def missing(self, found: Container[str]) -> list[Job]:
        """Jobs of which a run was not found; such a job is trained whole, so that its lanes keep their company."""
        return [job for job in self.jobs if any(run.id not in found for run in job.runs)]

    def arms(self, results: Mapping[str, RunResult]) -> list[tuple[str, Mapping[str, Any], dict[int, RunResult]]]:
        """(variant, setting, results by seed) for every arm, in the order of the plan."""
        return group_arms(self.study_runs(results)[len(self.searched) :])

    def study_runs(self, results: Mapping[str, RunResult]) -> tuple[StudyRun, ...]:
        """Every run of the plan, those of a search first, with its result."""
        return tuple(
            StudyRun(run.variant, run.setting, run.seed, run.id, results.get(run.id))
            for run in (*self.searched, *self.runs)
        )

    def planned(self, runs: Sequence[Run]) -> "Session":
        """The same session with other runs to train; those of one look and of the next share no job."""
        look_of = {seed: next(n for n in self.looks() if n > i) for i, seed in enumerate(self.study.seeds)}
        first, *_ = looks = self.looks()  # seeds of a search belong to the first
        jobs = [job for n in looks for job in jobs_of(run for run in runs if look_of.get(run.seed, first) == n)]
        return replace(self, runs=tuple(runs), jobs=tuple(jobs))

    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds at which it is reported, the last all that it has."""
        seeds = len(self.study.seeds)
        return tuple(n for n in self.study.looks if n <= seeds) or (seeds,)

    def first(self, seeds: int) -> "Session":
        """The session as it is at one of its looks."""
        if seeds == len(self.study.seeds):
            return self
        later = set(self.study.seeds[seeds:])
        fewer = replace(self, study=self.study.model_copy(update={"seeds": self.study.seeds[:seeds]}))
        return fewer.planned([run for run in self.runs if run.seed not in later])

    def expected_seconds(self, missing: Sequence[Job]) -> float:
        """Roughly how long these of its jobs take."""
        each = [seconds_of(job) for job in missing]
        return max(sum(each) / self.slots(), max(each, default=0))

    def warnings(self) -> Iterator[str]:
        """What is so much that it may be a mistake: runs, days, memory for what runs at once."""
        runs = budget.count_runs(self.study)
        if runs > budget.MANY_RUNS:
            yield budget.too_many_runs(runs)
        speed = self.slots() * (1 if self.device == "cpu" else budget.ON_A_GPU)
        days = sum(map(seconds_of, self.jobs)) * max(1.0, runs / max(1, len(self.runs))) / speed / 86_400
        if days > budget.MANY_DAYS:
            yield f"about {days:,.0f} days of training, which is more than {budget.MANY_DAYS:.0f}"
        if self.device == "cpu" and self.executor in HERE:
            yield from (*warn_of_memory(self.jobs, self.slots()), *warn_of_ranks(self.runs, device_count("cpu")))

    def slots(self) -> int:
        """How many jobs are expected to run at once; runs of several ranks share the devices out."""
        ranks = max((run.training.ranks for run in self.runs), default=1)
        return self.workers or max(1, device_count(self.device) // ranks)


def open_session(
    preset: Preset | None, *, variants: str | Iterable[str] = (), seeds: int | str | Iterable[int] | None = None,
    sets: Sequence[str] = (), device: str = "auto", engine: str = "auto", jobs: int | None = None,
    store: str | Path = ".bncli", data_dir: str | Path | None = None,
    executor: str | Executor | OpenWorkers = "local", time_limit: float | None = None, until: str = "",
    yours: Yours = Yours(), yes: bool = False, placement: Placement = Placement(),
) -> Session:  # fmt: skip
    """Read a preset with what is to be changed in it, and plan it.

    Args:
        preset: a shipped preset's name, a YAML file, a study, or a preset's keys with their values.
        variants: only these, or norms that the preset lacks; all if empty.
        seeds: how many, or which.
        sets: `key=value`, as given to --set.
        device: auto, cpu, cuda or mps.
        engine: auto, untraced or plain.
        jobs: how many jobs run at once; None leaves it to the executor.
        store: folder of finished runs.
        data_dir: folder with the data sets' files; None is the copy that bncli ships.
        executor: a name, `MODULE:FACTORY`, `FILE.py:FACTORY`, a factory, or an open executor of the caller's.
        time_limit: seconds after which a job is ended, as `timed out`; None is no limit.
        until: "decided", to add seeds at fixed looks while a headline is open.
        yours: what takes the place of the preset's own.
        yes: plan also what is so much that it may be a mistake; `placement` is what jobs are to have of the workers.

    Raises:
        ConfigError: with every mistake found; for what does not fit this machine.
    """
    if device not in DEVICES:
        raise ConfigError(f"--device: must be one of {', '.join(DEVICES)}, got {device!r}")
    if engine not in ("auto", "untraced", "plain"):
        raise ConfigError(f"--engine: must be auto or plain, got {engine!r}")
    path: Engine = engine  # type: ignore[assignment] # one of them, as was just seen
    expect("jobs", jobs, jobs is None or (type(jobs) is int and jobs > 0), "a whole number above 0, or None")
    expect("store", store, store is not None, "a folder's path")
    expect_text("a folder's path", store=store)
    expect_text("a folder's path, or None", data_dir=data_dir)
    expect("time_limit", time_limit, time_limit is None or isinstance(time_limit, int | float), "seconds, or None")
    known = isinstance(executor, str | Executor) or callable(executor)
    expect("executor", executor, known, "a name, FILE.py:FACTORY, a factory, or a concurrent.futures.Executor")
    if time_limit is not None and not 0 < time_limit <= TIMEOUT_MAX:
        most = f"more than 0 and at most {TIMEOUT_MAX:.0f} seconds"
        raise ConfigError(f"--time-limit: must be {most}, got {time_limit}; leave it out for none")
    if isinstance(executor, str):
        load_factory(executor)  # a mistake is said before anything is trained
    folder = None if data_dir is None else Path(data_dir).absolute()
    if folder and not folder.is_dir():
        raise ConfigError(
            f"--data-dir {data_dir}: there is no such folder; leave it and BNCLI_DATA out to look where bncli does"
        )
    name, study = read_preset(
        preset, variants=variants, seeds=seeds, sets=sets, until=until, yours=yours, data_dir=folder
    )
    if study.task is None and "task" in study.model_fields_set:
        raise ConfigError(f"{name}: task: it trains a loop of your own; say which: --task FILE.py:NAME")
    if (count := budget.count_runs(study)) > budget.MANY_RUNS and not yes:
        raise ConfigError(f"{budget.too_many_runs(count)}; {_MEANT}")  # before all of them are planned
    device = resolve_device(device) if executor in HERE or device == "auto" else device  # elsewhere are other devices
    how = (executor, jobs, folder, time_limit, placement)
    session = Session(name, study, device, (), (), Store(Path(store)), path, *how)
    if not study.any_search:
        runs: Sequence[Run] = runs_of(study, session.device, session.engine)
    else:
        from bncli.session.search import next_stage  # brings in scipy, which a plain study's plan does without

        first = next_stage(study, {}, session.device, session.engine)
        runs = first.runs if first else ()
    if executor in HERE:
        check_memory(runs, session.device)
    resolve(runs, folder)
    session = session.planned(runs)
    if not yes and (warnings := list(session.warnings())):
        raise ConfigError(*(f"{warning}; {_MEANT}" for warning in warnings))
    return session


def read_preset(
    preset: Preset | None, *, variants: str | Iterable[str] = (), seeds: int | str | Iterable[int] | None = None,
    sets: Sequence[str] = (), until: str = "", yours: Yours = Yours(), data_dir: Path | None = None,
) -> tuple[str, Study]:  # fmt: skip
    """A study and its name; arguments and errors are those of `open_session`."""
    if preset is None:
        own = yours.model is not None or yours.data is not None
        preset = "task" if yours.task is not None else "own" if own else "quickstart"
    if not isinstance(preset, str | Path | Study | Mapping):
        raise ConfigError(
            "preset: expected a shipped preset's name, the path of a YAML file, a Study or a dict of its keys, got"
            f" {type(preset).__name__}"
        )
    source = preset_path(str(preset)) if isinstance(preset, str | Path) else preset
    name = source.stem if isinstance(source, Path) else "study"
    asked: Any = _seeds(seeds)
    if until:
        if until != "decided":
            raise ConfigError(f"--until: must be decided, got {until!r}")
        if not isinstance(asked, Mapping):
            asked = {"until": until} | ({} if asked is None else {"max": asked})
    data = yours.data
    expect_text("a data set's name, FILE.npz, FILE.txt, a folder of images or hf:NAME", data=data)
    expect_text("a file", weights=yours.weights)
    expect_text("a pattern", sites=yours.sites)
    named = None if data is None else str(data)
    return name, read_study(source, sets, _names(variants), asked, named, data_dir, yours.changes())


def describe_damage(damage: DamageError, store: Store) -> str:
    """What is wrong with a stored run, and what becomes of it, in a line."""
    remedy = f"the run is trained again, and what is there moves to {store.aside}"
    return as_line(f"{damage.place}: cannot be read ({damage.why}); {remedy}")


def written_seconds(seconds: float) -> str:
    """A duration in words."""
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def describe_plan(session: Session) -> str:
    """What training the session would do: runs, jobs, which are stored, how long it takes, in lines."""
    found, damaged = session.store.read_intact(run.id for run in session.runs)
    missing = session.missing(found)
    stored = sum(run.id in found for run in session.runs)
    lanes = sum(job.lanes for job in session.jobs)
    searches, duration = session.study.any_search, written_seconds(session.expected_seconds(missing))
    lines = ["this is the first stage only; what follows depends on its results"] if searches else []
    lines += [describe_damage(damage, session.store) for damage in damaged.values()]
    lines += [
        f"{session.name}: {len(session.runs)} runs ({stored} stored in {session.store.folder})",
        f"jobs: {len(session.jobs)} ({lanes} with several lanes), {len(missing)} to train, {session.slots()} workers",
        f"expected: about {duration} on {session.device} (a rough estimate)"
        if not session.study.task
        else "expected: how long a task takes is not known",
    ]
    lines += [f"needs --yes: {warning}" for warning in session.warnings()]
    if session.study.looks:
        lines.append(
            f"until decided: reported with {', '.join(map(str, session.looks()))} seeds, and no more than needed"
        )
    for job in session.jobs:
        first, kept = job.runs[0], sum(run.id in found for run in job.runs)
        seeds = ", ".join(str(run.seed) for run in job.runs)
        took = "" if first.task else f"{f', to step {first.steps:,}' * first.pauses}, ~{seconds_of(job):.0f} s"
        arm = as_line(" ".join([first.variant, *(f"{key}={value}" for key, value in first.setting.items())]))
        count = f"{len(job.runs)} runs (seeds {seeds})" if job.lanes else f"1 run (seed {seeds})"
        lines.append(f"  {arm}: {count}, {kept} stored{took}")
    for variant, notes in dict.fromkeys((run.variant, _notes(run)) for run in session.runs):
        lines += [f"{as_line(variant)}: {notes[0]}", *(f"  {note}" for note in notes[1:])] if notes else []
    return "\n".join(lines)


def list_plan(session: Session) -> dict[str, Any]:
    """The same as plain data: the study, whole, every run with its id, and the jobs that they are trained in."""
    found, _ = session.store.read_intact(run.id for run in session.runs)
    return {
        "name": session.name,
        "study": session.study.model_dump(mode="json"),
        "device": session.device,
        "store": str(session.store.folder),
        "first_stage_only": bool(session.study.any_search),
        "runs": [
            {"id": run.id, "variant": run.variant, "setting": run.setting, "seed": run.seed, "stored": run.id in found}
            for run in session.runs
        ],
        "jobs": [{"runs": [run.id for run in job.runs], "expected_seconds": seconds_of(job)} for job in session.jobs],
    }


def _notes(run: Run) -> tuple[str, ...]:
    facts = MODELS.facts(facts_key(run))
    return facts.notes if facts else ()


def _names(variants: str | Iterable[str]) -> list[str]:
    given: object = variants.split(",") if isinstance(variants, str) else variants
    names = [name for name in given if isinstance(name, str)] if isinstance(given, Iterable) else []
    blank = bool(variants) and not all(map(str.strip, names))  # a variable that is not set, in a list
    if not isinstance(given, Sequence) or len(names) != len(given) or blank:
        raise ConfigError(f"variants: expected names, as in 'batch,zca' or ['batch', 'zca'], got {variants!r}")
    return [name.strip() for name in names if variants]


def _seeds(seeds: int | str | Iterable[int] | Mapping[str, Any] | None) -> str | list[int] | Mapping[str, Any] | None:
    if seeds is None or isinstance(seeds, str | Mapping):
        return seeds
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        return str(min(seeds, 10**99))  # Python writes no number of thousands of digits
    if not isinstance(seeds, Iterable):
        raise ConfigError(f"seeds: expected how many (5), or which (range(5), [0, 3], '0..4'), got {seeds!r}")
    return list(islice(seeds, budget.MOST_RUNS + 1))  # one too many is refused, also of a range without end
