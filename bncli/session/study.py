"""A study from what was asked to its results: plan, train what the store lacks, stage after stage."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import Any

from bncli.config import Study, read_study
from bncli.engine.environment import device_count, resolve_device
from bncli.engine.work import Surroundings, fetch_data
from bncli.errors import ConfigError, StoreError, expect, expect_text
from bncli.executors import OpenWorkers, load_factory, open_workers
from bncli.executors.loop import Finished, Progress, run_jobs
from bncli.plan import Engine, Job, Run, jobs_of, runs_of, seconds_of
from bncli.plugins import registered, ship
from bncli.presets import preset_path
from bncli.records import RunResult, StudyRun
from bncli.session.events import OnEvent, Started, Warned, ignore
from bncli.store.folder import Store
from bncli.store.studies import Look, Studies

DEVICES = ("auto", "cpu", "cuda", "mps")
Preset = str | Path | Study | Mapping[str, Any]  # a shipped preset's name, a YAML file, a study, or its keys and values


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
    searched: tuple[Run, ...] = ()  # runs of the search that went before `runs`

    def missing(self) -> list[Job]:
        """Jobs of which the store lacks a run; such a job is trained whole, so that its lanes keep their company."""
        return [job for job in self.jobs if any(run.id not in self.store for run in job.runs)]

    def arms(self, results: Mapping[str, RunResult]) -> list[tuple[str, Mapping[str, Any], dict[int, RunResult]]]:
        """(variant, setting, results by seed) for every arm, in the order of the plan."""
        arms: dict[tuple[str, str], tuple[str, Mapping[str, Any], dict[int, RunResult]]] = {}
        for run in self.runs:
            arm = arms.setdefault((run.variant, repr(run.setting)), (run.variant, run.setting, {}))
            if run.id in results:
                arm[2][run.seed] = results[run.id]
        return list(arms.values())

    def study_runs(self, results: Mapping[str, RunResult]) -> tuple[StudyRun, ...]:
        """Every run of the plan, those of a search first, with its result."""
        return tuple(
            StudyRun(run.variant, run.setting, run.seed, run.id, results.get(run.id))
            for run in (*self.searched, *self.runs)
        )

    def planned(self, runs: Sequence[Run]) -> "Session":
        """The same session with other runs to train."""
        return replace(self, runs=tuple(runs), jobs=tuple(jobs_of(runs)))

    def slots(self) -> int:
        """How many jobs are expected to run at once."""
        return self.workers or device_count(self.device)


def open_session(
    preset: Preset, *, variants: str | Iterable[str] = (), seeds: int | str | Iterable[int] | None = None,
    sets: Sequence[str] = (), device: str = "auto", engine: str = "auto", jobs: int | None = None,
    store: str | Path = ".bncli", data_dir: str | Path | None = None,
    executor: str | Executor | OpenWorkers = "local", time_limit: float | None = None, data: str | Path | None = None,
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
        data: as given to --data; None is the preset's.

    Raises:
        ConfigError: with every mistake found.
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
    name, study = read_preset(preset, variants=variants, seeds=seeds, sets=sets, data=data, data_dir=folder)
    session = Session(
        name, study, resolve_device(device), (), (), Store(Path(store)), path, executor, jobs, folder, time_limit
    )
    if not (study.tune or study.bisect):
        return session.planned(runs_of(study, session.device, session.engine))
    from bncli.session.search import next_stage  # brings in scipy, which a plain study's plan does without

    first = next_stage(study, {}, session.device, session.engine)
    return session.planned(first.runs if first else ())


def read_preset(
    preset: Preset, *, variants: str | Iterable[str] = (), seeds: int | str | Iterable[int] | None = None,
    sets: Sequence[str] = (), data: str | Path | None = None, data_dir: Path | None = None,
) -> tuple[str, Study]:  # fmt: skip
    """A study and its name; arguments and errors are those of `open_session`."""
    if not isinstance(preset, str | Path | Study | Mapping):
        raise ConfigError(
            "preset: expected a shipped preset's name, the path of a YAML file, a Study or a dict of its keys, got"
            f" {type(preset).__name__}"
        )
    source = preset_path(str(preset)) if isinstance(preset, str | Path) else preset
    name = source.stem if isinstance(source, Path) else "study"
    expect_text("a data set's name, FILE.npz, a folder of images or hf:NAME", data=data)
    return name, read_study(
        source, sets, _names(variants), _seeds(seeds), None if data is None else str(data), data_dir
    )


def train(session: Session, on_event: OnEvent = ignore) -> tuple[Session, dict[str, RunResult]]:
    """Train what the store lacks, stage after stage, and store every run as it ends.

    Interrupted, by whatever `on_event` raises or by Ctrl-C, it ends the workers that it started; what was stored
    stays, and the same call continues.

    Returns:
        The session with the report's runs and those of the search before them, and all results by id.

    Raises:
        BncliError: for a mistake that shows only while training, such as wrong data.
    """
    results = _train_missing(session, on_event)
    if not (session.study.tune or session.study.bisect):
        return session, results
    from bncli.session.search import next_stage, stages_of

    while stage := next_stage(session.study, results, session.device, session.engine):
        results |= _train_missing(session.planned(stage.runs), on_event)
    stages = list(stages_of(session.study, results, session.device, session.engine))
    searched = tuple(run for stage in stages if stage.searches for run in stage.runs)
    runs = [run for stage in stages if not stage.searches for run in stage.runs]
    return replace(session.planned(runs), searched=searched), results


def remember(session: Session, on_event: OnEvent = ignore, look: Look | None = None) -> None:
    """Note in the store that the study was asked, with the runs planned for it; or that it was reported.

    What cannot be noted is said and loses nothing: a store may be one that is only read.
    """
    studies, study = Studies(session.store.folder), session.study.model_dump(mode="json")
    try:
        key = studies.remember(session.name, study, [run.id for run in session.runs], [job.id for job in session.jobs])
        if look:
            studies.add_look(key, look)
    except StoreError as error:
        on_event(Warned(f"{error}; `bncli ls studies` will not know of it"))


def take_look(session: Session, results: Mapping[str, RunResult], summary: Sequence[str]) -> Look:
    """What is to be remembered of a report: when, how many seeds, how many runs, the headlines."""
    ended = [results[run.id].info.has_numbers for run in session.runs if run.id in results]
    return Look(
        session.name, session.study.seeds, session.device, len(session.runs), sum(ended), len(ended) - sum(ended),
        "; ".join(summary),
    )  # fmt: skip


def _train_missing(session: Session, on_event: OnEvent) -> dict[str, RunResult]:
    """Train one stage, and return all of its results by id.

    The store is told of the study once a worker has given a sign of life: what is refused, for wrong data say, was no
    study.
    """
    missing, failed, said = session.missing(), dict[str, RunResult](), set[str]()
    if missing:
        fetch_data(missing, session.data_dir, lambda text: on_event(Warned(text)))
        session.store.prepare()
        on_event(Started(tuple(missing)))
        same = Surroundings(data=session.data_dir, plugins=ship(registered()), seconds=session.time_limit)
        events = run_jobs(
            missing,
            lambda: open_workers(session.executor, session.workers, session.device),
            lambda job: replace(same, checkpoints=session.store.checkpoints(job.id)),
        )
        for place, event in enumerate(events):
            if place == 0:
                remember(session, on_event)
            if isinstance(event, Progress):
                for note in event.notes:
                    if note not in said:
                        said.add(note)
                        on_event(Warned(note))
            if isinstance(event, Finished):
                failed |= _store(event, session.store)
            on_event(event)
    else:
        remember(session, on_event)
    return session.store.read_all(run.id for run in session.runs if run.id not in failed) | failed


def _store(event: Finished, store: Store) -> dict[str, RunResult]:
    """Store the runs of a job that ended as they should, forget its checkpoints; the other runs by id."""
    for result in event.results:
        if result.info.has_numbers:
            store.write(result)
    if all(result.info.id in store for result in event.results):
        store.drop_checkpoints(event.job.id)
    return {r.info.id: r for r in event.results if not r.info.has_numbers and r.info.id not in store}


def describe_plan(session: Session) -> str:
    """What training the session would do: runs, jobs, which are stored, how long it takes, in lines."""
    missing = session.missing()
    stored = sum(run.id in session.store for run in session.runs)
    lanes = sum(job.lanes for job in session.jobs)
    seconds = max(sum(map(seconds_of, missing)) / session.slots(), max(map(seconds_of, missing), default=0))
    searches = session.study.tune or session.study.bisect
    lines = ["this is the first stage only; what follows depends on its results"] if searches else []
    lines += [
        f"{session.name}: {len(session.runs)} runs ({stored} stored in {session.store.folder})",
        f"jobs: {len(session.jobs)} ({lanes} with several lanes), {len(missing)} to train, {session.slots()} workers",
        f"expected: about {seconds / 60:.1f} minutes on {session.device} (a rough estimate)",
    ]
    for job in session.jobs:
        first, kept = job.runs[0], sum(run.id in session.store for run in job.runs)
        seeds = ", ".join(str(run.seed) for run in job.runs)
        lines.append(
            f"  {first.variant}: {len(job.runs)} runs (seeds {seeds}), {kept} stored, ~{seconds_of(job):.0f} s"
        )
    return "\n".join(lines)


def _names(variants: str | Iterable[str]) -> list[str]:
    given: object = variants.split(",") if isinstance(variants, str) else variants
    names = [name for name in given if isinstance(name, str)] if isinstance(given, Iterable) else []
    blank = not isinstance(variants, str) and not all(map(str.strip, names))
    if not isinstance(given, Sequence) or len(names) != len(given) or blank:
        raise ConfigError(f"variants: expected names, as in 'batch,zca' or ['batch', 'zca'], got {variants!r}")
    return [name.strip() for name in names if name.strip()]


def _seeds(seeds: int | str | Iterable[int] | None) -> str | list[int] | None:
    if seeds is None or isinstance(seeds, str):
        return seeds
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        return str(seeds)
    if not isinstance(seeds, Iterable) or isinstance(seeds, Mapping):
        raise ConfigError(f"seeds: expected how many (5), or which (range(5), [0, 3], '0..4'), got {seeds!r}")
    return list(seeds)
