"""Studies of a store analysed anew: nothing is trained, and nothing is written."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from bncli.config import Study, read_study
from bncli.errors import BncliError, StoreError, unknown
from bncli.findings import Findings
from bncli.findings.shift import ShiftFindings
from bncli.plan import Engine, Run, runs_of
from bncli.presets import preset_names, preset_path
from bncli.records import RunResult
from bncli.session.resolve import resolve
from bncli.session.study import Session
from bncli.store.folder import Store, require_store
from bncli.store.studies import StoredStudy, Studies, sort_studies

StudyKind = Literal["study", "shift"]
_PLACES: tuple[tuple[str, Engine], ...] = tuple(
    (device, engine) for engine in ("auto", "untraced", "plain") for device in ("cpu", "cuda", "mps")
)


def list_readable(folder: Path) -> tuple[Sequence[StoredStudy], Sequence[StoreError]]:
    """Every study of a store, the last asked first, and what could not be read of it."""
    studies, found, problems = Studies(folder), list[StoredStudy](), list[StoreError]()
    for key in studies.ids():
        try:
            found.append(studies.read(key, looks_needed=False))
        except StoreError as error:
            problems.append(error)
    return sort_studies(found), problems


def open_stored(folder: Path, name: str = "") -> Session:
    """A study of a store, or a preset whose runs are there, as it was planned when last asked.

    Args:
        folder: the store.
        name: what a study was called, how its id begins, or a preset; empty is the study that was asked last.

    Raises:
        StoreError: if there is no such study, or this bncli would train other runs for it.
        ConfigError: for a preset that cannot be read.
    """
    require_store(folder)
    found, problems = list_readable(folder)
    of_name = [study for study in found if not name or name in study.names] or [
        study for study in found if study.id.startswith(name)
    ]
    if of_name:
        return _plan_again(of_name[0], folder)
    if name in preset_names() or Path(name).suffix in (".yaml", ".yml"):
        return _open_preset(name, folder)
    if problems:
        raise problems[0]
    known = {called for study in found for called in study.names}
    if name and known:
        raise StoreError(f"{unknown('study', name, known)}, nor a preset; `bncli ls studies` lists those of {folder}")
    raise StoreError(f"{folder}: it remembers no studies; `bncli compare` trains one and remembers it")


def read_results(session: Session) -> tuple[Session, dict[str, RunResult]]:
    """What the store has of a session's runs, as `train` would return it; of a search, as far as that has come."""
    results, _ = session.store.read_intact(run.id for run in session.runs)
    if not session.study.any_search:
        return session, results
    from bncli.session.search import stages_of

    searched, runs = list[Run](), list[Run]()
    with suppress(BncliError):  # no trial to choose by
        for stage in stages_of(session.study, results, session.device, session.engine):
            (searched if stage.searches else runs).extend(stage.runs)
            results |= session.store.read_intact(run.id for run in stage.runs)[0]
            if any(run.id not in results for run in stage.runs):
                break
    return replace(session.planned(runs), searched=tuple(searched)), results


def analyse_stored(
    session: Session, results: Mapping[str, RunResult], kind: StudyKind | None = None
) -> Findings | ShiftFindings:
    """Findings of what there is, which warn of what is missing.

    Args:
        session: from `read_results`.
        results: by id.
        kind: a comparison, or a shift report; None is what the study's probes say.

    Raises:
        StoreError: if nothing is there, or no run that was probed.
    """
    wanted = [*session.searched, *session.runs]
    there = sum(run.id in results for run in wanted)
    if not there or not any(run.id in results for run in session.runs):
        where = f"none of the {len(wanted)} runs" if not there else "none of the runs after the search"
        raise StoreError(
            f"{session.name}: {where} of the study is in {session.store.folder}; `bncli compare` trains them"
        )
    from bncli.session.analysis import analyse_session, analyse_shift_session, choose_metrics

    probed = bool(session.study.probes.metrics)
    if kind == "shift" and not probed:
        raise StoreError(f"{session.name}: was trained without probes; `bncli shift-report` trains with them")
    found: Findings | ShiftFindings
    if kind == "shift" or (kind is None and probed):
        found = analyse_shift_session(session, results, choose_metrics(session, ""), "")
    else:
        found = analyse_session(session, results)
    if there == len(wanted):
        return found
    missing = f"incomplete: {there} of {len(wanted)} runs are in the store, and what is said is of those"
    return replace(found, warnings=(missing, *found.warnings))


def write_command(session: Session, kind: StudyKind) -> str:
    """The command that makes a stored study again, where a preset's name and seeds say all of it."""
    study, verb = session.study, "compare" if kind == "study" else "shift-report"
    with suppress(BncliError):
        preset = read_study(preset_path(session.name))
        if preset.model_copy(update={"seeds": study.seeds, "looks": study.looks}) == study:
            seeds = "" if preset.seeds == study.seeds else f" --seeds {','.join(map(str, study.seeds))}"
            return f"bncli {verb} {session.name}{seeds}"
    return ""


def _plan_again(stored: StoredStudy, folder: Path) -> Session:
    """The session that trained a study: with the seeds of the last look, where and how its runs are known to be."""
    last = stored.looks[-1] if stored.looks else max(stored.plans, key=lambda plan: plan.asked)
    try:
        study = Study.model_validate({**stored.study, "seeds": list(last.seeds)})
    except ValueError as error:
        why = str(error).splitlines()
        raise StoreError(
            f"{stored.name} ({stored.id[:12]}): cannot be planned by this bncli ({why[0]}); was it trained with a"
            " plug-in? name it by --plugin"
        ) from None
    device, engine, runs, known = _find_place(study, stored.planned.intersection)
    if not known:
        raise StoreError(
            f"{stored.name} ({stored.id[:12]}): this bncli would train other runs for it than {folder} has;"
            f" `bncli compare {stored.name}` trains them"
        )
    return _plan(Session(stored.name, study, device, (), (), Store(folder), engine), runs)


def _open_preset(name: str, folder: Path) -> Session:
    path = preset_path(name)
    study, store = read_study(path), Store(folder)
    device, engine, runs, _ = _find_place(study, store.select_stored)
    return _plan(Session(path.stem, study, device, (), (), store, engine), runs)


def _find_place(
    study: Study, known: Callable[[Iterable[str]], Collection[str]]
) -> tuple[str, Engine, Sequence[Run], int]:
    """The device and the path on which most of a study's first runs are known, with these runs and that number."""
    found = list[tuple[str, Engine, Sequence[Run], int]]()
    for device, engine in _PLACES:
        runs: Sequence[Run] = ()
        if not study.any_search:
            runs = runs_of(study, device, engine)
        else:
            from bncli.session.search import next_stage

            first = next_stage(study, {}, device, engine)
            runs = first.runs if first else ()
        found.append((device, engine, runs, len(known([run.id for run in runs]))))
        if found[-1][3] == len(runs):
            break
    return max(found, key=lambda place: place[3])


def _plan(session: Session, runs: Sequence[Run]) -> Session:
    with suppress(BncliError):  # what is known of the networks is for warnings alone
        resolve(runs, session.data_dir)
    return session.planned(runs)
