"""A session trained: what the store lacks, stage after stage, stored as it ends; and the looks taken at it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bncli.engine.work import Surroundings, fetch_data
from bncli.errors import DamageError, StoreError
from bncli.executors import open_workers
from bncli.executors.loop import Finished, Progress, run_jobs
from bncli.findings import Findings
from bncli.plan import Job, Run, facts_key
from bncli.plugins import registered, ship
from bncli.records import RunResult, StudyRun
from bncli.session.events import Event, OnEvent, Started, Warned, ignore
from bncli.session.status import StatusNotes
from bncli.session.study import HERE, Session, describe_damage, written_seconds
from bncli.store.folder import PACKED_FROM, Store
from bncli.store.lines import pack_run
from bncli.store.studies import Look, Studies, study_id

_SMALL_BYTES = 2**24  # of a file that travels with every job


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
    if not session.study.any_search:
        return session, results
    from bncli.session.search import stages_of

    stages, waiting = [], set[str]()  # where runs that stopped at a rung left their checkpoints
    for stage in stages_of(session.study, results, session.device, session.engine):
        stages.append(stage)
        planned = session.planned(stage.runs)
        courses = {job.course for job in planned.jobs}
        if stage.rung or not stage.searches:  # who goes on is decided
            for course in waiting - courses:
                _kept(session).drop_checkpoints(course)
            waiting &= courses
        waiting |= {job.course for job in planned.jobs if job.runs[0].pauses}
        if any(run.id not in results for run in stage.runs):
            results |= _train_missing(planned, on_event)
    searched = tuple(run for stage in stages if stage.searches for run in stage.runs)
    runs = [run for stage in stages if not stage.searches for run in stage.runs]
    return replace(session.planned(runs), searched=searched), results


def read_stored(session: Session) -> tuple[StudyRun, ...]:
    """Every run of the plan, with its result where the store has it; of a search, those of the last stage."""
    results, _ = session.store.read_intact(run.id for run in session.runs)
    if session.study.any_search:
        from bncli.session.search import next_stage

        runs = session.runs
        while stage := next_stage(session.study, results, session.device, session.engine):
            found, _ = session.store.read_intact(run.id for run in stage.runs)
            runs, results = tuple(stage.runs), results | found
            if len(found) < len(stage.runs):
                break
        session = session.planned(runs)
    return session.study_runs(results)


def remember(session: Session, on_event: OnEvent = ignore, look: Look | None = None) -> None:
    """Note in the store that the study was asked, with the runs planned for it; or that it was reported.

    What cannot be noted is said and loses nothing: a store may be one that is only read.
    """
    studies, study = Studies(session.store.folder), session.study.model_dump(mode="json")
    try:
        key = studies.remember(
            session.name, study, [run.id for run in session.runs], [job.course for job in session.jobs]
        )
        if look:
            studies.add_look(key, look)
    except StoreError as error:
        on_event(Warned(f"{error}; `bncli ls studies` will not know of it"))


def take_look(session: Session, results: Mapping[str, RunResult], summary: Sequence[str]) -> Look:
    """What is to be remembered of a report: when, how many seeds, how many runs, the answer."""
    ended = [results[run.id].info.has_numbers for run in session.runs if run.id in results]
    return Look(
        session.name, session.study.seeds, session.device, len(session.runs), sum(ended), len(ended) - sum(ended),
        "; ".join(summary), looks=session.study.looks,
    )  # fmt: skip


def train_and_look(
    session: Session, on_event: OnEvent, *, aa: bool
) -> "tuple[Session, dict[str, RunResult], Findings]":
    """Train and analyse; where the study is looked at until decided, with more seeds while a headline is open."""
    from bncli.session.regression import against_itself, both_halves

    planned = against_itself(session) if aa else session
    for seeds in planned.looks():
        session, results = train(planned.first(seeds), on_event)
        from bncli.session.analysis import analyse_session, is_decided  # only now: it brings numpy and scipy

        findings = analyse_session(session, results, both_halves(session, results) if aa else None)
        remember(session, on_event, take_look(session, results, [findings.answer]))
        if is_decided(findings):
            break
    return session, results, findings


def unplanned_looks(session: Session) -> tuple[int, ...]:
    """Numbers of seeds of earlier looks at part of these runs that the session's plan does not allow for.

    Earlier is what was reported before these seeds were first: the same report said again says the same. One seed
    makes no verdict, so that a look at it costs nothing.
    """
    seeds, study = set(session.study.seeds), session.study.model_dump(mode="json")
    try:
        looks = Studies(session.store.folder).read(study_id(study)).looks
    except StoreError:  # a study that nobody asked before, or one that `remember` has warned of
        return ()
    first = min((look.time for look in looks if set(look.seeds) == seeds), default="9")  # later than any year before
    found = {
        len(look.seeds)
        for look in looks
        if len(look.seeds) > 1 and seeds & set(look.seeds) and seeds != set(look.seeds)
        and (look.time, len(look.seeds)) < (first, len(seeds))
        and not (look.looks and look.looks == session.study.looks)
    }  # fmt: skip
    return tuple(sorted(found))


def _train_missing(session: Session, on_event: OnEvent) -> dict[str, RunResult]:
    """Train one stage, and return all of its results by id.

    The store is told of the study once a worker has given a sign of life: what is refused, for wrong data say, was no
    study.
    """
    found, damaged = session.store.read_intact(run.id for run in session.runs)
    for damage in damaged.values():
        on_event(Warned(describe_damage(damage, session.store)))
    missing, trained, failed, said = session.missing(found), dict[str, RunResult](), dict[str, RunResult](), set[str]()
    if not missing:
        remember(session, on_event)
        return found
    fetch_data(missing, session.data_dir, lambda text: on_event(Warned(text)))
    session.store.prepare()
    if any(map(facts_key, session.runs)):  # a step was timed
        duration = written_seconds(session.expected_seconds(missing))
        on_event(Warned(f"{sum(len(job.runs) for job in missing)} runs to train: about {duration}"))
    on_event(Started(tuple(missing)))
    how = replace(session.placement, ranks=max(run.training.ranks for run in session.runs))
    slots = session.slots() if session.executor == "local" else session.workers
    same = Surroundings(
        data=session.data_dir,
        plugins=ship(registered()),
        seconds=session.time_limit,
        files=() if session.executor in HERE else pack_data(session.runs),
    )
    many, kept = sum(len(job.runs) for job in missing) >= PACKED_FROM, _kept(session)
    with StatusNotes(session, missing) as notes:

        def tell(event: Event) -> None:
            notes.take(event)
            on_event(event)

        def surround(job: Job) -> Surroundings:
            notes.hand_over(job)
            return replace(same, checkpoints=kept.checkpoints(job.course).absolute())

        events = run_jobs(
            missing, lambda: open_workers(session.executor, slots, session.device, how), surround, notes.note,
            how.max_in_flight, how.shared,
        )  # fmt: skip
        for place, event in enumerate(events):
            if place == 0:
                remember(session, tell)
            if isinstance(event, Progress):
                for note in event.notes:
                    if note not in said:
                        said.add(note)
                        tell(Warned(note))
            if isinstance(event, Finished):
                if many:
                    event = replace(event, results=tuple(map(pack_run, event.results)))
                failed |= _store(event, session.store, kept, damaged, tell, many=many)
                trained |= {result.info.id: result for result in event.results if result.info.has_numbers}
            tell(event)
    session.store.packs.sync()
    known = trained | found | failed
    others, _ = session.store.read_intact(run.id for run in session.runs if run.id not in known)  # of other commands
    return known | others


def _kept(session: Session) -> Store:
    """Where checkpoints are, for every machine to see."""
    return Store(session.placement.shared) if session.placement.shared else session.store


def pack_data(runs: Sequence[Run]) -> tuple[tuple[str, bytes], ...]:
    """The files of arrays that runs learn from, for machines that lack them; large ones must be there already."""
    places = {Path(run.data.options["file"]) for run in runs if run.data.name == "npz" and not run.task}
    return tuple((p.name, p.read_bytes()) for p in sorted(places) if p.stat().st_size <= _SMALL_BYTES)


def _store(
    event: Finished, store: Store, kept: Store, damaged: dict[str, DamageError], on_event: OnEvent, *, many: bool
) -> dict[str, RunResult]:
    """Store the runs of a job that ended as they should, forget its checkpoints; the other runs by id.

    Runs have a folder each; `many` go into a pack.
    """
    ended = [result for result in event.results if result.info.has_numbers]
    said = store.append(ended) if many else {result.info.id: store.write(result) for result in ended}
    for result in ended:
        if not damaged.pop(result.info.id, None) and (text := said.get(result.info.id)):
            on_event(Warned(text))
    lacking = {r.info.id: r for r in event.results if r.info.id not in store or r.info.id in damaged}
    if not lacking and not event.job.runs[0].pauses:
        kept.drop_checkpoints(event.job.course)
    return lacking
