"""bncli as functions: what the commands do, for notebooks, scripts and drivers of clusters.

Nothing here prints, reads the environment, changes signals or ends a process that it did not start.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bncli.api.commands import with_command
from bncli.api.timing import bench
from bncli.config import Study
from bncli.errors import ConfigError, expect, expect_text, expect_texts
from bncli.executors import Placement
from bncli.findings import Findings
from bncli.findings.shift import ShiftFindings
from bncli.measures import measure_row
from bncli.norms import norm
from bncli.plugins import using
from bncli.result import Result
from bncli.session.events import OnEvent, check_events, ignore
from bncli.session.study import Model, Preset, Session, Yours, code_of, open_session, read_preset
from bncli.session.training import remember, take_look, train_and_look
from bncli.session.training import train as _train
from bncli.store.folder import Store

if TYPE_CHECKING:
    from bncli.executors import OpenWorkers

__all__ = [
    "Result",
    "bench",
    "compare",
    "compare_results",
    "norm",
    "read_study",
    "shift_report",
    "train",
]

# {"training.lr": 0.1}, or as --set says it: ["training.lr=0.1,0.5"]
Changes = Mapping[str, object] | Sequence[str] | None


@with_command("compare")
def compare(
    preset: Preset | None = None, *, variants: str | Iterable[str] = (),
    seeds: int | str | Iterable[int] | None = None, until: str = "", set: Changes = None, device: str = "auto",
    engine: str = "auto", jobs: int | None = None, store: str | Path = ".bncli", data_dir: str | Path | None = None,
    executor: "str | Executor | OpenWorkers" = "local", time_limit: float | None = None,
    plugins: Sequence[str] = (), model: Model | None = None, weights: str | Path | None = None,
    sites: str | None = None, loss: Model | None = None, data: str | Path | None = None,
    task: Model | None = None, on_event: OnEvent = ignore,
    check: bool = False, aa: bool = False,
    save_baseline: str | None = None, baseline: str | None = None, fail_if: Sequence[str] = (), yes: bool = False,
    placement: Placement = Placement(),
) -> Result[Findings]:  # fmt: skip
    """Train the variants of a preset and say which converges faster, by how much, and how sure that is.

    Runs that the store has are not trained again; those that fail are missing from the findings, which warn of it. In
    a script, call it under `if __name__ == "__main__":`, since worker processes import the script.

    Args:
        preset: a shipped preset's name, a YAML file, a `Study`, or a preset's keys with their values; None is
            quickstart, and `own` for a model or data of yours.
        variants: only these, or norms that the preset lacks ("batch", "batch,zca", ["batch", "zca"]); all if empty.
        seeds: how many, or which.
        until: "decided", to look at 5, 8, 10, 15, ... seeds, 50 or `seeds` at most, while a headline is open.
        set: keys of the preset with values, {"training.lr": 0.1}; or as `--set` has them, ["training.lr=0.1,0.5"].
        device: auto, cpu, cuda or mps.
        engine: auto; untraced; or plain, one run at a time and nothing traced, the reference.
        jobs: how many jobs run at once; None is one a core, one a GPU, or what the executor has.
        store: folder of finished runs.
        data_dir: folder with the data sets' files; None is the copy that bncli ships.
        executor: what carries jobs to workers: a name, `MODULE:FACTORY`, `FILE.py:FACTORY`, a factory, or an open
            `concurrent.futures.Executor` of yours, which is left open.
        time_limit: seconds after which a job is ended and its runs are `timed out`; None is no limit.
        plugins: files or modules that add norms, models, data sets and more (docs/extend/plugins.md).
        model: a model instead of the preset's: a name, FILE.py:NAME, MODULE:NAME, torchvision:NAME or timm:NAME, or a
            class or function at the top of a file. Its norms are replaced by each variant's (docs/yours.md).
        weights: a file with trained weights for it, a state_dict.
        sites: a pattern on the paths of the norms that are replaced, "layer4.*".
        loss: cross_entropy, squared_error, or a function of outputs and targets likewise.
        data: a data set instead of the preset's: its name, FILE.npz, FILE.txt, a folder of images, or hf:NAME
            (docs/data.md).
        task: a training loop of your own, FILE.py:NAME, MODULE:NAME, a plug-in's, or the function (docs/yours.md).
        on_event: called with everything that happens (bncli.session.events).
        check: judge the preset's claims.
        aa: compare the reference with itself on other seeds.
        yes: train also what is so much that it may be a mistake (docs/studies.md).
        placement: what jobs are to have of the workers: processors, GPUs, a shared folder (docs/cluster.md).
        save_baseline: train with the code as it is, and keep the result under this name or in this file.
        baseline: train with the code as it is, and hold the result against this.
        fail_if: how far from the baseline is too far, "steps_to_target:+10%".

    Raises:
        BncliError: for what the command line answers with exit code 2 or 4, in one line a mistake.
    """
    from bncli.report.study.json import SCHEMA
    from bncli.session import regression

    check_events(on_event)
    expect_text("a baseline's name or file, or None", save_baseline=save_baseline, baseline=baseline)
    expect_texts(fail_if=fail_if)
    regression.refuse_mixtures(save_baseline, baseline, fail_if, aa, check)
    yours = Yours(model, weights, sites, loss, data, task)
    with using(code_of(yours, plugins)):
        asked = open_study(
            preset, variants=variants, seeds=seeds, until=until, set=set, device=device, engine=engine, jobs=jobs,
            store=store, data_dir=data_dir, executor=executor, time_limit=time_limit, yours=yours, yes=yes,
            placement=placement,
        )  # fmt: skip
        if check:
            regression.refuse_no_claims(asked)
        if aa or save_baseline or baseline:
            regression.refuse_looks(asked)
        limits = regression.limits_of(fail_if, asked.study)
        if save_baseline:
            regression.require_place(asked.store, save_baseline)
        before = regression.read_baseline(asked.store, baseline, SCHEMA) if baseline else None
        session = regression.with_fresh_store(asked) if save_baseline or baseline else asked
        session, results, findings = train_and_look(session, on_event, aa=aa)
        from bncli.analysis.claims import check_claims
        from bncli.analysis.regression import regressions

        checks = check_claims(findings) if check else []
        found = Result(session.name, session.study, findings, session.study_runs(results), session.store.folder)
        document = found.document() if before is not None or save_baseline else {}
        if before is not None:
            limits = limits or regression.limits_of(fail_if, asked.study, findings.measures)
            checks += regressions(document, before, limits, asked.study.variants if variants else ())
        if aa:
            checks += regression.check_same(findings)
        failed = any(run.result is None or not run.result.info.has_numbers for run in found.runs)
        if save_baseline and not failed:
            asked.store.write_baseline(save_baseline, document)
        return replace(found, checks=tuple(checks))


@with_command("compare")
def compare_results(
    source: str | Path, *, variant_from: str | None = None, seed_from: str | None = None, set: Changes = None,
    store: str | Path = ".bncli", save_baseline: str | None = None, baseline: str | None = None,
    fail_if: Sequence[str] = (),
) -> Result[Findings]:  # fmt: skip
    r"""Compare runs that were made elsewhere as `compare` compares ours: `bncli compare --from`.

    Args:
        source: a table (.csv, .tsv, .jsonl) or a folder of logs (docs/yours.md).
        variant_from: a column, or a pattern with one group for a run's name or path, that says its variant.
        seed_from: likewise its seed, "seed(\d+)"; runs of one seed are pairs.
        set: how they are compared: {"reference": "none", "target": {"accuracy": 0.9}, "metrics": {...}, ...}.
        store: where baselines are kept.
        save_baseline: as for `compare`; likewise baseline and fail_if.

    Raises:
        BncliError: for what the command line answers with exit code 2 or 4, in one line a mistake.
    """
    from bncli.analysis.regression import regressions
    from bncli.observed import read_results
    from bncli.report.study.json import SCHEMA
    from bncli.session import regression
    from bncli.session.observed import analyse_observed, open_observed, results_of

    expect_text("a file or a folder", source=source)
    expect_text("text, or None", variant_from=variant_from, seed_from=seed_from)
    expect_text("a baseline's name or file, or None", save_baseline=save_baseline, baseline=baseline)
    expect_texts(fail_if=fail_if)
    regression.refuse_mixtures(save_baseline, baseline, fail_if, aa=False, check=False)
    path, kept = Path(source), Store(Path(store))
    read = read_results(path, variant_from=variant_from, seed_from=seed_from)
    session = open_observed(read, path, _sets(set))
    variants = [run.variant for run in read.runs]
    rows = {name: measure_row(name, session.metrics, session.aim) for name in session.study.measures}
    limits = regression.read_limits(fail_if, {name: row.direction for name, row in rows.items()}, variants)
    if save_baseline:
        regression.require_place(kept, save_baseline)
    before = regression.read_baseline(kept, baseline, SCHEMA) if baseline else None
    runs = results_of(read)
    found = Result(path.name, session.study, analyse_observed(session, runs), runs, path)
    document = found.document() if before is not None or save_baseline else {}
    if save_baseline:
        kept.write_baseline(save_baseline, document)
    return replace(found, checks=tuple(regressions(document, before, limits)) if before is not None else ())


@with_command("train")
def train(
    preset: Preset | None = None, *, variants: str | Iterable[str] = (),
    seeds: int | str | Iterable[int] | None = None, set: Changes = None, device: str = "auto", engine: str = "auto",
    jobs: int | None = None, store: str | Path = ".bncli", data_dir: str | Path | None = None,
    executor: "str | Executor | OpenWorkers" = "local", time_limit: float | None = None,
    plugins: Sequence[str] = (), model: Model | None = None, weights: str | Path | None = None,
    sites: str | None = None, loss: Model | None = None, data: str | Path | None = None,
    task: Model | None = None, yes: bool = False, on_event: OnEvent = ignore,
    placement: Placement = Placement(),
) -> Result[None]:  # fmt: skip
    """Train every run of a preset and store what it measures; no comparison. Arguments are those of `compare`.

    Raises:
        BncliError: for what the command line answers with exit code 2.
    """
    check_events(on_event)
    yours = Yours(model, weights, sites, loss, data, task)
    with using(code_of(yours, plugins)):
        session = open_study(
            preset, variants=variants, seeds=seeds, set=set, device=device, engine=engine, jobs=jobs, store=store,
            data_dir=data_dir, executor=executor, time_limit=time_limit, yours=yours, yes=yes, placement=placement,
        )  # fmt: skip
        session, results = _train(session, on_event)
        return Result(session.name, session.study, None, session.study_runs(results), session.store.folder)


@with_command("shift-report")
def shift_report(
    preset: Preset | None = None, *, layers: str | Iterable[str] = (), metrics: str | Iterable[str] = (),
    variants: str | Iterable[str] = (), seeds: int | str | Iterable[int] | None = None, set: Changes = None,
    device: str = "auto", engine: str = "auto", jobs: int | None = None, store: str | Path = ".bncli",
    data_dir: str | Path | None = None, executor: "str | Executor | OpenWorkers" = "local",
    time_limit: float | None = None, plugins: Sequence[str] = (), model: Model | None = None,
    weights: str | Path | None = None, sites: str | None = None, loss: Model | None = None,
    data: str | Path | None = None, yes: bool = False, on_event: OnEvent = ignore,
    placement: Placement = Placement(),
) -> Result[ShiftFindings]:  # fmt: skip
    """Train the variants with probes, and say by every definition asked for whether their distributions shift less.

    Args beside those of `compare`:
        layers: show only layers that match one of these patterns ("a,b*").
        metrics: show only these metrics of those that the preset probes; a preset without probes gets the light ones.

    Raises:
        BncliError: for what the command line answers with exit code 2.
    """
    from bncli.session.analysis import analyse_shift_session, choose_metrics

    check_events(on_event)
    chosen_metrics, chosen_layers = _listed("metrics", metrics), _listed("layers", layers)
    yours = Yours(model, weights, sites, loss, data)
    with using(code_of(yours, plugins)):
        if preset is None and model is None and data is None:
            preset = "figure1-shift"
        session = open_study(
            preset, variants=variants, seeds=seeds, set=set, device=device, engine=engine, jobs=jobs, store=store,
            data_dir=data_dir, executor=executor, time_limit=time_limit, yours=yours, yes=yes, placement=placement,
            probed=True,
        )  # fmt: skip
        chosen = choose_metrics(session, chosen_metrics)
        session, results = _train(session, on_event)
        findings = analyse_shift_session(session, results, chosen, chosen_layers)
        remember(session, on_event, take_look(session, results, findings.sentences))
        return Result(session.name, session.study, findings, session.study_runs(results), session.store.folder)


def open_study(
    preset: Preset | None, *, set: Changes = None, aa: bool = False, fresh: bool = False, probed: bool = False,
    **how: Any,
) -> Session:  # fmt: skip
    """What a function here is about to train.

    Args beside those of `compare`:
        aa: the reference against itself.
        fresh: with the code as it is, whatever older code has trained.
        probed: with the light probes, where the preset asks for none.
    """
    from bncli.session.regression import against_itself, with_fresh_store

    session = open_session(preset, sets=_sets(set), **how)
    if probed and session.study.task:
        raise ConfigError(f"{session.name}: a task is not probed: its network is not bncli's; use `bncli compare`")
    if probed and not session.study.probes.metrics:
        session = open_session(preset, sets=[*_sets(set), "probes.metrics=light"], **how)
    session = with_fresh_store(session) if fresh else session
    return against_itself(session) if aa else session


def read_study(
    preset: Preset, *, variants: str | Iterable[str] = (), seeds: int | str | Iterable[int] | None = None,
    set: Changes = None, plugins: Sequence[str] = (), model: Model | None = None,
    weights: str | Path | None = None, sites: str | None = None, loss: Model | None = None,
    data: str | Path | None = None, task: Model | None = None,
) -> Study:  # fmt: skip
    """Read a preset, with what is to be changed in it, without training anything. Arguments are those of `compare`.

    Raises:
        ConfigError: with every mistake, each with its place.
    """
    yours = Yours(model, weights, sites, loss, data, task)
    with using(code_of(yours, plugins)):
        return read_preset(preset, variants=variants, seeds=seeds, sets=_sets(set), yours=yours)[1]


def _sets(given: Changes) -> list[str]:
    if isinstance(given, Mapping):
        try:
            return [f"{key}={json.dumps(value)}" for key, value in given.items()]
        except TypeError as error:
            raise ConfigError(f"set: {error}; expected texts, numbers, lists and dicts, as YAML has them") from None
    if given is None or (isinstance(given, Sequence) and not isinstance(given, str)):
        expect_texts(set=given or ())
        return list(given or ())
    raise ConfigError(f'set: expected {{"training.lr": 0.1}} or ["training.lr=0.1,0.5"], got {given!r}')


def _listed(name: str, given: str | Iterable[str]) -> str:
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    parts = [part for each in names for part in (each.split(",") if isinstance(each, str) else [""])]
    expect(name, given, not given or all(map(str.strip, parts)), "names, as in 'a,b' or ['a', 'b']")
    return ",".join(names)
