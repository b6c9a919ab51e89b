"""Which runs a study needs next: tuning, racing, a search by trials and rungs, bisection, and the report's runs."""

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from bncli.analysis.readers import TrialRuns
from bncli.analysis.search import rank, rate
from bncli.analysis.tuning import Trials, best, bracket, scores_of, survivors
from bncli.config import Probes, Study
from bncli.config.asking import TUNING_SEED, Bisect, Tune
from bncli.config.search import Search
from bncli.errors import BncliError
from bncli.plan import Engine, Run, runs_of
from bncli.records import RunResult
from bncli.session.samplers import TrialPoint, draw_points
from bncli.session.tpe import BATCH, START, ask_tpe, require_optuna

EXTENSIONS = 8  # values at most that a grid grows by; beyond them the recipe is at fault
ArmKey = tuple[str, str]  # variant, and the sweep's setting as text


@dataclass(frozen=True)
class Stage:
    """Runs that are planned together; those of a search carry the value tried in their setting."""

    runs: tuple[Run, ...]
    searches: str = ""  # the keys that are searched; empty for the runs of the report

    @property
    def rung(self) -> int:
        """At which rung of a search its runs are, from 0."""
        return max([1, *(len(run.rungs) for run in self.runs)]) - 1


def next_stage(study: Study, results: Mapping[str, RunResult], device: str, engine: Engine = "auto") -> Stage | None:
    """The first stage of which a run is not in `results`; None when the study is complete.

    A stage follows from the study and from the results of the stages before it, and from nothing else: an interrupted
    study asks for the same runs again, in the same company, and finds them in the store.
    """
    for stage in stages_of(study, results, device, engine):
        if any(run.id not in results for run in stage.runs):
            return stage
    return None


def stages_of(study: Study, results: Mapping[str, RunResult], device: str, engine: Engine) -> Iterator[Stage]:
    """Every stage in order; each is worked out when the results of those before it are there.

    Raises:
        BncliError: if no run of an arm's search gave a number to choose by.
    """
    if study.bisect:
        yield from _bisecting(study, study.bisect, results, device, engine)
    elif study.tune:
        yield from _tuning(study, study.tune, results, device, engine)
    elif study.search:
        yield from _trying(study, study.search, results, device, engine)
    else:
        yield Stage(tuple(runs_of(study, device, engine)))


def search_of(runs: Iterable[Run], key: str, results: Mapping[str, RunResult]) -> dict[ArmKey, dict[int, Trials]]:
    """The trials of each arm by seed, in order of values; runs without a result are left out."""
    found: dict[ArmKey, dict[int, list[tuple[float, RunResult]]]] = {}
    for run in runs:
        seeds = found.setdefault(arm_of(run, key), {})
        if run.id in results and results[run.id].info.has_numbers:
            seeds.setdefault(run.seed, []).append((float(run.setting[key]), results[run.id]))
    return {
        arm: {seed: sorted(trials, key=lambda trial: trial[0]) for seed, trials in seeds.items()}
        for arm, seeds in found.items()
    }


def trials_of(runs: Iterable[Run], search: Search, results: Mapping[str, RunResult]) -> dict[ArmKey, list[TrialRuns]]:
    """The trials of each arm in the order in which they were tried; runs without numbers are left out."""
    found: dict[ArmKey, dict[str, tuple[TrialPoint, list[dict[int, RunResult]]]]] = {}
    for run in runs:
        point = {key: run.setting[key] for key in search.over}
        _, rungs = found.setdefault(arm_of(run, *point), {}).setdefault(repr(point), (point, []))
        while len(rungs) < max(1, len(run.rungs)):
            rungs.append({})
        if run.id in results and results[run.id].info.has_numbers:
            rungs[len(run.rungs) - 1][run.seed] = results[run.id]
    return {arm: [TrialRuns(*trial) for trial in trials.values()] for arm, trials in found.items()}


def arm_of(run: Run, *keys: str) -> ArmKey:
    """The arm of a run: its variant and its setting without the searched keys."""
    return run.variant, repr({k: v for k, v in run.setting.items() if k not in keys})


def _tuning(study: Study, tune: Tune, results: Mapping[str, RunResult], device: str, engine: Engine) -> Iterator[Stage]:
    seeds, done = tuple(range(TUNING_SEED, TUNING_SEED + tune.seeds)), list[Run]()
    values: Sequence[float] = tune.values
    grid = tuple(values)
    while values:
        alive = None  # (arm, value) that get more seeds; all at first
        for first, last in _rungs(tune):
            planned = _searching(study, {tune.key: values}, seeds[first:last], device, engine)
            stage = Stage(tuple(run for run in planned if alive is None or _point(run, tune.key) in alive), tune.key)
            yield stage
            done += stage.runs
            found = search_of(done, tune.key, results)
            alive = {(arm, value) for arm, search in found.items() for value in survivors(scores_of(search, tune.by))}
        values = _extension(grid, found, tune)
        grid = tuple(sorted({*grid, *values}))
    yield Stage(tuple(_chosen(study, tune, found, device, engine)))


def _rungs(tune: Tune) -> list[tuple[int, int]]:
    """Seeds of one stage after the other: all at once, or 2, 4, 8, ... of them where values race."""
    ends = [0, *(2**i for i in range(1, 20) if 2**i < tune.seeds and tune.race), tune.seeds]
    return list(pairwise(ends))


def _extension(grid: Sequence[float], found: Mapping[ArmKey, Mapping[int, Trials]], tune: Tune) -> list[float]:
    """Values by which the grid grows, the same for all: one beyond each edge on which an arm's best lies."""
    if not tune.extend or len(grid) >= len(tune.values) + EXTENSIONS:
        return []
    chosen = {_choice(search, tune.by, arm) for arm, search in found.items()}
    inner = 2 if len(grid) > 2 else 1  # two steps back: a grid of 1, 3, 10, 30 goes on in its own rhythm
    below = grid[inner - 1] * grid[0] / grid[inner]
    above = grid[-inner] * grid[-1] / grid[-1 - inner]
    return [_rounded(v) for edge, v in ((grid[0], below), (grid[-1], above)) if edge in chosen]


def _chosen(
    study: Study, tune: Tune, found: Mapping[ArmKey, Mapping[int, Trials]], device: str, engine: Engine
) -> Iterator[Run]:
    """The report's runs: each arm at its own value, with fresh seeds, in the order of the study."""
    choice = {arm: _choice(search, tune.by, arm) for arm, search in found.items()}
    at = study.model_copy(update={"sweep": {**study.sweep, tune.key: tuple(sorted(set(choice.values())))}})
    places = {arm: place for place, arm in enumerate(found)}
    for run in sorted(runs_of(at, device, engine), key=lambda run: places[arm_of(run, tune.key)]):
        if choice[arm_of(run, tune.key)] == run.setting[tune.key]:
            yield replace(run, setting={k: v for k, v in run.setting.items() if k != tune.key})


def _choice(search: Mapping[int, Trials], by: str, arm: ArmKey) -> float:
    scores = scores_of(search, by)
    if not scores or not math.isfinite(best(scores).median):
        raise _no_choice(arm, by)
    return best(scores).value


def _bisecting(
    study: Study, bisect: Bisect, results: Mapping[str, RunResult], device: str, engine: Engine
) -> Iterator[Stage]:
    done = _searching(study, {bisect.over: (bisect.low, bisect.high)}, study.seeds, device, engine)
    yield Stage(tuple(done), bisect.over)
    while True:
        wanted = {}
        for arm, search in search_of(done, bisect.over, results).items():
            for seed, trials in search.items():
                low, high = bracket(trials)
                if low is not None and high is not None and high / low > bisect.within:
                    wanted[arm, seed] = _rounded(math.sqrt(low * high))
        if not wanted:
            return
        values = sorted(set(wanted.values()))
        planned = _searching(study, {bisect.over: values}, study.seeds, device, engine)
        tried = {run.id for run in done}
        runs = [
            run
            for run in planned
            if wanted.get((arm_of(run, bisect.over), run.seed)) == run.setting[bisect.over] and run.id not in tried
        ]
        if not runs:  # what is left was tried, and failed
            return
        yield Stage(tuple(runs), bisect.over)
        done += runs


def _trying(
    study: Study, search: Search, results: Mapping[str, RunResult], device: str, engine: Engine
) -> Iterator[Stage]:
    """Every arm's trials, in batches where they follow from those before; then rung after rung the better ones."""
    keys, done = ", ".join(search.over), list[Run]()
    arms = dict.fromkeys(arm_of(run) for run in runs_of(study, device, engine))
    if search.sampler == "tpe":
        require_optuna()  # a search that could not go on is not begun
    first = draw_points(search, min(START, search.trials) if search.sampler == "tpe" else search.trials)
    wanted: Mapping[ArmKey, Sequence[TrialPoint]] = dict.fromkeys(arms, first)
    asked, found = len(first), dict[ArmKey, list[TrialRuns]]()
    while True:
        if runs := _trial_runs(study, search, wanted, 0, device, engine):
            yield Stage(runs, keys)
        done += runs
        found = trials_of(done, search, results)
        if search.sampler != "tpe" or asked >= search.trials:
            break
        many = min(BATCH, search.trials - asked)
        wanted = {arm: _ask_new(search, found[arm], asked, many) for arm in arms}
        asked += many
    for rung, many in enumerate(search.count_trials()[1:], start=1):
        wanted = {arm: [t.point for t in rank(found[arm], rung - 1, search.by)[:many]] for arm in arms}
        for arm, points in wanted.items():
            if not points:
                raise _no_choice(arm, search.by)
        runs = _trial_runs(study, search, wanted, rung, device, engine)
        yield Stage(runs, keys)
        done += runs
        found = trials_of(done, search, results)
    chosen = {arm: choose_trial(found[arm], search, arm).point for arm in arms}
    yield Stage(tuple(_report_runs(study, chosen, device, engine)))


def choose_trial(trials: Sequence[TrialRuns], search: Search, arm: ArmKey) -> TrialRuns:
    """The best of those that were trained to their end.

    Raises:
        BncliError: if none gave a number.
    """
    last = len(search.count_trials()) - 1
    ranked = rank(trials, last, search.by)
    if not ranked or not math.isfinite(rate(ranked[0].rungs[last], search.by)[1]):
        raise _no_choice(arm, search.by)
    return ranked[0]


def _ask_new(search: Search, trials: Sequence[TrialRuns], asked: int, many: int) -> list[TrialPoint]:
    """An arm's next points, by its trials' scores at the first rung, to which all were trained.

    One that was tried already counts among those asked for, and need not be trained again.
    """
    told = [(trial.point, rate(trial.rungs[0], search.by)[1] if trial.rungs[0] else None) for trial in trials]
    return [point for point in ask_tpe(search, told, asked, many) if all(point != trial.point for trial in trials)]


def _trial_runs(
    study: Study, search: Search, wanted: Mapping[ArmKey, Sequence[TrialPoint]], rung: int, device: str, engine: Engine
) -> tuple[Run, ...]:
    """The runs of each arm's points up to one rung: point after point, and of each the seeds."""
    seeds = range(TUNING_SEED, TUNING_SEED + search.seeds)
    points: dict[str, tuple[TrialPoint, set[ArmKey]]] = {}
    for arm, asked in wanted.items():
        for point in asked:
            points.setdefault(repr(point), (point, set()))[1].add(arm)
    found = list[Run]()
    for point, there in points.values():
        some = _only(study, {variant for variant, _ in there})
        runs = _searching(some, {key: (value,) for key, value in point.items()}, seeds, device, engine)
        found += [
            replace(run, rungs=search.ladder(run.training.steps)[: rung + 1])
            for run in runs
            if arm_of(run, *point) in there
        ]
    return tuple(found)


def _report_runs(study: Study, chosen: Mapping[ArmKey, TrialPoint], device: str, engine: Engine) -> Iterator[Run]:
    """Each arm at its own point, with fresh seeds, in the order of the study."""
    for arm, point in chosen.items():
        sweep = {**study.sweep, **{key: (value,) for key, value in point.items()}}
        for run in runs_of(_only(study, {arm[0]}).model_copy(update={"sweep": sweep}), device, engine):
            if arm_of(run, *point) == arm:
                yield replace(run, setting={k: v for k, v in run.setting.items() if k not in point})


def _only(study: Study, variants: Container[str]) -> Study:
    kept = {name: variant for name, variant in study.variants.items() if name in variants}
    return study.model_copy(update={"variants": kept})


def _no_choice(arm: ArmKey, by: str) -> BncliError:
    return BncliError(f"nothing to choose by for {arm[0]}: no run of its search ended with {by.replace('_', ' ')}")


def _searching(
    study: Study, values: Mapping[str, Sequence[Any]], seeds: Sequence[int], device: str, engine: Engine
) -> list[Run]:
    """Runs of every arm at these values and seeds, evaluated on the validation examples, without probes."""
    how = study.evaluation.model_copy(update={"split": "validation"})
    sweep = {**study.sweep, **{key: tuple(each) for key, each in values.items()}}
    update = {"sweep": sweep, "seeds": tuple(seeds), "evaluation": how, "probes": Probes()}
    return runs_of(study.model_copy(update=update), device, engine)


def _point(run: Run, key: str) -> tuple[ArmKey, float]:
    return arm_of(run, key), float(run.setting[key])


def _rounded(value: float) -> float:
    """Six digits: values that read well and mean the same on every machine."""
    return float(f"{value:.6g}")
