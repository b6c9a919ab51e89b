"""Which runs a study needs next: tuning, racing, extension of the grid, bisection, and the report's runs."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bncli.analysis.tuning import Trials, best, bracket, scores_of, survivors
from bncli.config import Probes, Study
from bncli.config.asking import TUNING_SEED, Bisect, Tune
from bncli.errors import BncliError
from bncli.plan import Engine, Run, runs_of
from bncli.records import RunResult

EXTENSIONS = 8  # values at most that a grid grows by; beyond them the recipe is at fault
ArmKey = tuple[str, str]  # variant, and the sweep's setting as text


@dataclass(frozen=True)
class Stage:
    """Runs that are planned together; those of a search carry the value tried in their setting."""

    runs: tuple[Run, ...]
    searches: str = ""  # the key that is searched; empty for the runs of the report


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


def arm_of(run: Run, key: str = "") -> ArmKey:
    """The arm of a run: its variant and its setting without the searched key."""
    return run.variant, repr({k: v for k, v in run.setting.items() if k != key})


def _tuning(study: Study, tune: Tune, results: Mapping[str, RunResult], device: str, engine: Engine) -> Iterator[Stage]:
    seeds, done = tuple(range(TUNING_SEED, TUNING_SEED + tune.seeds)), list[Run]()
    values: Sequence[float] = tune.values
    grid = tuple(values)
    while values:
        alive = None  # (arm, value) that get more seeds; all at first
        for first, last in _rungs(tune):
            planned = _searching(study, tune.key, values, seeds[first:last], device, engine)
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
        raise BncliError(f"nothing to choose by for {arm[0]}: no run of its search ended with {by.replace('_', ' ')}")
    return best(scores).value


def _bisecting(
    study: Study, bisect: Bisect, results: Mapping[str, RunResult], device: str, engine: Engine
) -> Iterator[Stage]:
    done = _searching(study, bisect.over, (bisect.low, bisect.high), study.seeds, device, engine)
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
        planned = _searching(study, bisect.over, values, study.seeds, device, engine)
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


def _searching(
    study: Study, key: str, values: Sequence[float], seeds: Sequence[int], device: str, engine: Engine
) -> list[Run]:
    """Runs of every arm at these values and seeds, evaluated on the validation examples, without probes."""
    how = study.evaluation.model_copy(update={"split": "validation"})
    sweep = {**study.sweep, key: tuple(values)}
    update = {"sweep": sweep, "seeds": tuple(seeds), "evaluation": how, "probes": Probes()}
    return runs_of(study.model_copy(update=update), device, engine)


def _point(run: Run, key: str) -> tuple[ArmKey, float]:
    return arm_of(run, key), float(run.setting[key])


def _rounded(value: float) -> float:
    """Six digits: values that read well and mean the same on every machine."""
    return float(f"{value:.6g}")
