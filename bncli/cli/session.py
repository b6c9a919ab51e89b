"""One command's study: what was asked, what the store has, and the training of what it lacks."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from bncli.config import Study, read_study
from bncli.engine.environment import device_count, resolve_device
from bncli.errors import ConfigError
from bncli.executors.loop import Finished, Progress, WorkerDied, run_jobs
from bncli.plan import Engine, Job, Run, jobs_of, runs_of, seconds_of
from bncli.records import RunResult
from bncli.store.folder import Store

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Session:
    """A study, ready to be trained."""

    name: str
    study: Study
    device: str
    runs: tuple[Run, ...]
    jobs: tuple[Job, ...]
    store: Store
    workers: int
    engine: Engine = "auto"
    searched: tuple[Run, ...] = ()  # runs of the search that went before `runs`

    def missing(self) -> list[Job]:
        """Jobs of which the store lacks a run; such a job is trained whole, so that its lanes keep their company."""
        return [job for job in self.jobs if any(run.id not in self.store for run in job.runs)]

    def checkpoints(self, job: Job) -> Path:
        """Where a job keeps its state while it trains."""
        return self.store.checkpoints(job.id)

    def arms(self, results: Mapping[str, RunResult]) -> list[tuple[str, Mapping[str, Any], dict[int, RunResult]]]:
        """(variant, setting, results by seed) for every arm, in the order of the plan."""
        arms: dict[tuple[str, str], tuple[str, Mapping[str, Any], dict[int, RunResult]]] = {}
        for run in self.runs:
            arm = arms.setdefault((run.variant, repr(run.setting)), (run.variant, run.setting, {}))
            if run.id in results:
                arm[2][run.seed] = results[run.id]
        return list(arms.values())

    def planned(self, runs: Sequence[Run]) -> "Session":
        """The same session with other runs to train."""
        return replace(self, runs=tuple(runs), jobs=tuple(jobs_of(runs)))


def open_session(
    path: Path, variants: str, seeds: str | Sequence[int] | None, sets: Sequence[str] | None, device: str, engine: str,
    jobs: int | None, store: Path, data_dir: Path | None,
) -> Session:  # fmt: skip
    """Read the preset at `path` with the command line's changes, and plan it.

    Raises:
        ConfigError: with every mistake found.
    """
    if device not in DEVICES:
        raise ConfigError(f"--device: must be one of {', '.join(DEVICES)}, got {device!r}")
    chosen = [name.strip() for name in variants.split(",") if name.strip()]
    study = read_study(path, sets or (), chosen, seeds)
    if data_dir is not None:
        os.environ["BNCLI_DATA"] = str(data_dir)  # workers inherit it
    where, how = resolve_device(device), _engine(engine)
    session = Session(path.stem, study, where, (), (), Store(store), jobs or device_count(where), how)
    if not (study.tune or study.bisect):
        return session.planned(runs_of(study, where, how))
    from bncli.session.search import next_stage  # brings in scipy, which a plain study's plan does without

    first = next_stage(study, {}, where, how)
    return session.planned(first.runs if first else ())


def _engine(wanted: str) -> Engine:
    if wanted not in ("auto", "plain"):
        raise ConfigError(f"--engine: must be auto or plain, got {wanted!r}")
    untraced = wanted == "auto" and os.environ.get("BNCLI_COMPILE") == "0"
    return "untraced" if untraced else "auto" if wanted == "auto" else "plain"


def show_plan(session: Session) -> None:
    """Print what a run of the command would do."""
    missing = session.missing()
    stored = sum(run.id in session.store for run in session.runs)
    seconds = max(sum(map(seconds_of, missing)) / session.workers, max(map(seconds_of, missing), default=0))
    if session.study.tune or session.study.bisect:
        print("this is the first stage only; what follows depends on its results")
    lanes = sum(job.lanes for job in session.jobs)
    print(f"{session.name}: {len(session.runs)} runs ({stored} stored in {session.store.folder})")
    print(f"jobs: {len(session.jobs)} ({lanes} with several lanes), {len(missing)} to train, {session.workers} workers")
    print(f"expected: about {seconds / 60:.1f} minutes on {session.device} (a rough estimate)")
    for job in session.jobs:
        first, kept = job.runs[0], sum(run.id in session.store for run in job.runs)
        seeds = ", ".join(str(run.seed) for run in job.runs)
        print(f"  {first.variant}: {len(job.runs)} runs (seeds {seeds}), {kept} stored, ~{seconds_of(job):.0f} s")


def train_study(session: Session, show: Any) -> tuple[Session, dict[str, RunResult]]:
    """Train stage after stage of a study, as `train_missing` does each.

    Returns:
        The session with the report's runs and those of the search before them, and all results by id.
    """
    results = train_missing(session, show)
    if not (session.study.tune or session.study.bisect):
        return session, results
    from bncli.session.search import next_stage, stages_of

    while stage := next_stage(session.study, results, session.device, session.engine):
        results |= train_missing(session.planned(stage.runs), show)
    stages = list(stages_of(session.study, results, session.device, session.engine))
    searched = tuple(run for stage in stages if stage.searches for run in stage.runs)
    runs = [run for stage in stages if not stage.searches for run in stage.runs]
    return replace(session.planned(runs), searched=searched), results


def train_missing(session: Session, show: Any) -> dict[str, RunResult]:
    """Train what the store lacks, store every run as it ends, and return all results of the plan by id.

    Interrupted, it ends its workers and exits with 130; what was stored stays.
    """
    from bncli.executors.local import local, stop

    missing, failed, said = session.missing(), dict[str, RunResult](), set[str]()
    if missing:
        session.store.prepare()
        open_pool = partial(local, min(session.workers, len(missing)), session.device)
        try:
            with show(missing) as display:
                for event in run_jobs(
                    missing, open_pool, session.workers, lambda job: session.store.checkpoints(job.id)
                ):
                    failed |= _take(event, session, missing, display, said)
        except KeyboardInterrupt:
            print("interrupted; finished runs are stored, the same command continues", file=sys.stderr)
            raise typer.Exit(130) from None
        finally:
            stop()
    return session.store.read_all(run.id for run in session.runs if run.id not in failed) | failed


def _take(
    event: object, session: Session, missing: Sequence[Job], display: Any, said: set[str]
) -> dict[str, RunResult]:
    if isinstance(event, Progress):
        for note in [note for note in event.notes if note not in said]:
            print(note, file=sys.stderr)
            said.add(note)
        display.progress(event)
    elif isinstance(event, WorkerDied):
        names = ", ".join(missing[job].runs[0].variant for job in event.jobs) or "none"
        print(f"a worker process died (jobs running then: {names}); trying again, one at a time", file=sys.stderr)
    elif isinstance(event, Finished):
        for result in event.results:
            if result.info.status != "failed":
                session.store.write(result)
        if all(result.info.id in session.store for result in event.results):
            session.store.drop_checkpoints(missing[event.job].id)
        display.finished(event)
        return {r.info.id: r for r in event.results if r.info.status == "failed" and r.info.id not in session.store}
    return {}


def exit_for_failures(results: Mapping[str, RunResult]) -> None:
    """Exit with 5 if a run failed, saying which and why."""
    reasons = {r.info.reason for r in results.values() if r.info.status == "failed"}
    failed = sum(r.info.status == "failed" for r in results.values())
    if failed:
        print(f"{failed} of {len(results)} runs failed: {'; '.join(sorted(reasons))}", file=sys.stderr)
        raise typer.Exit(5)
