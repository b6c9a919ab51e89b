"""Loops of somebody's own, compared as ours are: statistics, store, sweeps, gates and exports know of no difference."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bncli
from bncli.errors import BncliError, ConfigError
from bncli.report.study.tidy import write_tidy
from bncli.session.events import Started

LOOPS = Path(__file__).parent / "made_loops.py"
STUDY = {"variants": {"none": "none", "batch": "batch"}, "reference": "none", "seeds": 6}

# bleu grows with steps and seed, and batch is better by 5; no torch
GROWS = """
def train(run, steps: int = 40, gain: float = 5.0, metric: str = "bleu"):
    for step in range(0, steps + 1, 10):
        level = step / 4 + run.seed / 10 + gain * (run.norm.name == "batch") * step / 40
        yield {"step": step, metric: level, "loss": 10 - level}
"""
Compare = Callable[..., Any]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Compare the variants of a loop, given by its text, in one thread of this process."""

    def compare(text: str = GROWS, study: Any = STUDY, call: Any = bncli.compare, **more: Any) -> Any:
        (tmp_path / "loop.py").write_text(text)
        more = {"store": tmp_path / "store", "executor": "thread", "device": "cpu", **more}
        return call(study, task=f"{tmp_path / 'loop.py'}:train", **more)

    return compare


def trained(compare: Compare, **more: Any) -> tuple[Any, int]:
    """What is found, and how many runs were trained for it."""
    jobs: list[Any] = []
    found = compare(on_event=lambda event: jobs.extend(event.jobs if isinstance(event, Started) else ()), **more)
    return found, len(jobs)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("gan", {"metrics.distance.better": "lower"}, "batch has a lower final distance than none: -"),
        ("characters", {}, "batch has a lower final loss than none: -"),
        ("regression", {}, "batch has a higher final accuracy than none: +"),
    ],
)
def test_a_gan_a_language_model_and_a_loop_in_numpy_have_a_verdict(
    name: str, changes: dict[str, str], said: str, tmp_path: Path
) -> None:
    how = {"task": f"{LOOPS}:{name}", "store": tmp_path, "executor": "thread", "device": "cpu"}
    found = bncli.compare(STUDY, set=changes, **how).findings
    (headline,) = found.headlines
    assert headline.startswith(said)
    assert found.arms[1].comparisons[0].verdict == "better"
    assert found.setup.startswith(f"task made_loops.{name} · ")


def test_the_first_metric_is_the_measure_and_the_same_loop_gives_the_same_numbers(
    compare: Compare, tmp_path: Path
) -> None:
    found, count = trained(compare)
    assert count == 12
    assert [(m.name, m.direction, m.scale) for m in found.findings.measures] == [
        ("final_bleu", "higher", "difference"), ("best_bleu", "higher", "difference"),
    ]  # fmt: skip
    assert found.findings.arms[1].comparisons[0].estimate == pytest.approx(5)
    again, count = trained(compare)
    assert (count, again.findings) == (0, found.findings)
    elsewhere, count = trained(compare, store=tmp_path / "other")
    assert count == 12
    assert [run.result.records for run in elsewhere.runs] == [run.result.records for run in found.runs]


def test_the_loops_code_and_options_are_in_the_ids(compare: Compare) -> None:
    def ids(**more: Any) -> set[str]:
        return {run.id for run in compare(call=bncli.train, **more).runs}

    first = ids()
    assert ids() == first
    assert not ids(set={"task.steps": 20}) & first
    assert not ids(text=GROWS + "\n# edited") & first


def test_a_metric_of_which_nothing_says_what_is_better_is_asked_after_training_and_nothing_is_lost(
    compare: Compare,
) -> None:
    with pytest.raises(ConfigError, match=r"nothing says which way it is better; --set metrics.wobble.better=higher$"):
        compare(set={"task.metric": "wobble"})
    found, count = trained(compare, set={"task.metric": "wobble", "metrics.wobble.better": "higher"})
    assert (count, found.findings.arms[1].comparisons[0].verdict) == (0, "better")


def test_metrics_have_units_and_margins_by_declaration(compare: Compare) -> None:
    parts = {"metrics.bleu": {"better": "higher", "unit": "points", "margin": 9.0}}
    found = compare(set=parts).findings
    assert found.headlines[0].startswith("batch and none have the same final bleu: +5 points (95 % interval ")
    assert "±9 points (final bleu)" in " ".join(note.text for note in found.notes)


def test_a_target_may_be_of_any_metric(compare: Compare) -> None:
    found = compare(set={"target": {"bleu": 7.6}}).findings
    assert [m.label for m in found.measures] == ["steps to 7.6", "final bleu", "best bleu"]
    assert [arm.reached for arm in found.arms] == [6, 6]
    assert [[v.value for v in arm.summaries[0].values] for arm in found.arms] == [
        [40, 30, 30, 30, 30, 30], [30, 20, 20, 20, 20, 20],
    ]  # fmt: skip
    found = compare(set={"target": {"final_of": "none"}, "measures": ["reached", "final_bleu"]}).findings
    assert found.arms[0].target == pytest.approx(10.25)
    assert [s.mean for s in found.arms[1].summaries] == [1, pytest.approx(15.25)]


def test_final_best_and_area_are_of_the_metric_that_a_study_is_about(compare: Compare) -> None:
    found = compare(set={"measures": ["final", "best", "area"]}).findings
    assert [(m.name, m.label) for m in found.measures] == [
        ("final", "final bleu"), ("best", "best bleu"), ("area", "mean bleu"),
    ]  # fmt: skip
    assert [s.mean for s in found.arms[0].summaries] == pytest.approx([10.25, 10.25, 5.25])


def test_options_of_a_task_are_swept(compare: Compare) -> None:
    found = compare(set=["task.gain=0,5"], seeds=3).findings
    assert [(arm.variant, dict(arm.setting)) for arm in found.arms] == [
        ("none", {"task.gain": 0}), ("batch", {"task.gain": 0}), ("none", {"task.gain": 5}), ("batch", {"task.gain": 5}),
    ]  # fmt: skip
    assert [arm.comparisons[0].estimate for arm in found.arms[1::2]] == [pytest.approx(0), pytest.approx(5)]


def test_seeds_are_added_until_decided(compare: Compare) -> None:
    noisy = GROWS.replace("run.seed / 10", "run.seed % 3 * (run.norm.name == 'batch') - run.seed % 3 / 2")
    found = compare(noisy, until="decided", seeds=20)
    assert found.study.looks == (5, 8, 10, 15, 20)
    assert len(found.findings.arms[0].summaries[0].values) == 5


def test_a_gate_holds_a_loop_against_its_baseline(compare: Compare) -> None:
    compare(save_baseline="before")
    limit = {"baseline": "before", "fail_if": ["final_bleu:-5%"]}
    assert {check.outcome for check in compare(**limit).checks} == {"passed"}
    worse = compare(GROWS.replace("step / 4", "step / 5"), **limit)
    assert [c.name for c in worse.checks if c.outcome == "failed"] == [
        "none: final bleu, limit -5 %",
        "batch: final bleu, limit -5 %",
    ]
    with pytest.raises(ConfigError, match="--fail-if final_blue:-5%"):
        compare(baseline="before", fail_if=["final_blue:-5%"])
    with pytest.raises(ConfigError, match="higher is better, and a limit says how much worse"):
        compare(baseline="before", fail_if=["final_bleu:+5%"])
    assert [check.name for check in compare(aa=True).checks] == [
        "final bleu, none against itself", "best bleu, none against itself",
    ]  # fmt: skip


def test_exported_runs_have_the_verdicts_that_they_have_in_the_store(compare: Compare, tmp_path: Path) -> None:
    ours = compare(set={"target": {"bleu": 7.6}})
    (tmp_path / "runs.csv").write_text(write_tidy(ours.runs, ".csv"))
    theirs = bncli.compare_results(tmp_path / "runs.csv", set={"target": {"bleu": 7.6}})
    assert [arm.comparisons for arm in theirs.findings.arms] == [arm.comparisons for arm in ours.findings.arms]


DIVERGES = GROWS.replace("yield", "if run.norm.name == 'none' and step == 20: level = float('nan')\n        yield")


def test_a_diverged_run_counts_as_no_better_than_it_began_and_never_reaches_a_target(compare: Compare) -> None:
    found = compare(DIVERGES, set={"target": {"bleu": 9}}).findings
    none, batch = found.arms
    assert none.statuses == {"diverged": 6}
    assert (none.reached, none.crossing.budget) == (0, 40)
    assert batch.comparisons[0].verdict == batch.comparisons[1].verdict == "better"
    assert "a diverged run's final bleu counts as no better than it began" in [note.text for note in found.notes]


def test_without_an_option_steps_a_diverged_run_was_allowed_as_many_as_the_others(compare: Compare) -> None:
    text = DIVERGES.replace("steps: int = 40, ", "").replace("steps + 1", "41")
    assert compare(text, set={"target": {"bleu": 9}}).findings.arms[0].crossing.budget == 40


def test_runs_that_end_at_different_steps_are_a_warning(compare: Compare) -> None:
    text = GROWS.replace("steps + 1", "steps + 1 - 10 * (run.seed == 0)")
    warned = "runs end after 30 to 40 steps: their last values are not of the same training; end all at one step"
    assert warned in compare(text).findings.warnings


def test_where_every_run_fails_there_is_a_report_and_no_verdict(compare: Compare) -> None:
    found = compare("def train(run):\n    yield 1 / 0\n")
    assert {run.result.info.reason for run in found.runs} == {"ZeroDivisionError: division by zero (loop.py:2)"}
    assert [m.name for m in found.findings.measures] == ["diverged"]
    assert found.findings.arms[0].seeds == 0


def test_a_document_has_the_task_and_no_recipe(compare: Compare) -> None:
    document = json.loads(compare(set={"metrics.bleu.better": "higher"}).to_json())
    assert document["study"]["task"] == {"name": "loop.train", "steps": 40, "gain": 5.0, "metric": "bleu"}
    assert not document["study"].keys() & {"data", "model", "training", "evaluation", "probes"}
    assert document["runs"][0]["curves"][0]["metric"] == "bleu"
    again = compare(study=document["study"])
    assert again.findings.arms[1].comparisons[0].estimate == pytest.approx(5)


def test_cost_is_measured_with_a_verdict_of_its_own(compare: Compare) -> None:
    found = compare(set={"measures": ["seconds_per_step", "peak_memory"]}).findings
    time, memory = found.arms[1].comparisons
    assert {measure.scale for measure in found.measures} == {"ratio"}
    assert time.low is not None
    assert time.low <= time.estimate <= time.high
    assert memory.estimate == pytest.approx(1, abs=0.5)
    assert (
        "seconds, rates and memory are those of this machine and of whatever else ran on it then; end other programs and "
        "compare within this table only"
    ) in found.warnings


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"training": {"steps": 5}}, "training: a task brings its own data, model and training; leave it out"),
        ({"data": "mnist"}, "data: a task brings its own data, model and training; leave it out"),
        ({"model": "mlp", "probes": "light"}, "model: a task brings .*\n.*probes: a task brings"),
        ({"variants": {"none": {"norm": "none", "training": {"lr": 1}}}}, "variants.none.training: a task brings"),
        ({"sweep": {"training.lr": [1, 2]}}, "of a task only its options can be swept: task.lr"),
        ({"sweep": {"task.stps": [1, 2]}}, "no such key; did you mean 'steps'"),
        ({"tune": {"over": {"task.gain": [1, 2]}}}, "tune: does not search options of a task; sweep them instead"),
        ({"measures": ["bias_growth"]}, "measures.0: 'bias_growth' needs what tasks do not hold"),
        ({"measures": ["final_blue"]}, "no measure is called 'final_blue'; did you mean 'final_bleu'"),
        ({"measures": ["steps_to_target"]}, "'steps_to_target' needs a target; --set target.bleu=LEVEL"),
        ({"target": {"blue": 3}}, r"no metric is called 'blue'; did you mean 'bleu'\? \(known: bleu, loss\)"),
        ({"target": {"bleu": 3, "loss": 3}}, "target: give one of"),
        ({"metrics": {"blue": {"better": "higher"}}}, "no metric is called 'blue'; did you mean 'bleu'"),
        ({"variants": {"none": "none", "dbn": "detached", "net": "residual"}}, "no norm is called 'residual'"),
    ],
)  # fmt: skip
def test_what_does_not_apply_is_one_line(study: dict[str, Any], message: str, compare: Compare) -> None:
    with pytest.raises(BncliError, match=message):
        compare(study={**STUDY, "seeds": 2, **study})


def test_a_preset_names_no_code_and_the_preset_of_tasks_asks_for_one() -> None:
    with pytest.raises(ConfigError, match=r"study: task: task 'evil.py:f': a preset cannot name code"):
        bncli.read_study({**STUDY, "task": "evil.py:f"})
    with pytest.raises(ConfigError, match=r"task: task: it trains a loop of your own; say which: --task FILE.py:NAME"):
        bncli.train("task")


def test_a_task_of_a_plugin_goes_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(GROWS + "\nTASKS = {'mine': train}\n")
    study = {**STUDY, "task": {"name": "mine", "gain": 1.0}}
    how = {"plugins": [str(tmp_path / "plugin.py")], "executor": "thread", "device": "cpu", "store": tmp_path}
    assert bncli.compare(study, **how).findings.arms[1].comparisons[0].estimate == pytest.approx(1)
    assert bncli.read_study(STUDY, task="mine", plugins=how["plugins"]).task.options["gain"] == 5.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def train(): yield", r"--task .*task 'loop.train': must take run first, without a default, got \(\)"),
        ("def train(run=None): yield", "must take run first, without a default"),
        ("def train(run, lr): yield", "parameter 'lr': has no default"),
        ("def tain(run): yield", "has no 'train'; did you mean 'tain'"),
        ("train = 3", "must be a function or a row, got int 3"),
    ],
)
def test_what_is_no_task_is_said_before_training(text: str, message: str, compare: Compare) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(text)


def test_probes_need_a_network_of_bnclis(compare: Compare, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(GROWS + "\nTASKS = {'mine': train}\n")
    with pytest.raises(ConfigError, match="a task is not probed"):
        bncli.shift_report({**STUDY, "task": "mine"}, plugins=[str(tmp_path / "plugin.py")])


def test_our_own_studies_declare_metrics_and_aim_at_a_loss(tmp_path: Path) -> None:
    study = {
        **STUDY, "seeds": 2, "model": {"name": "mlp", "hidden": [8]}, "training": {"steps": 20, "lr": 0.5},
        "evaluation": {"every": 10}, "target": {"loss": 2.0}, "metrics": {"train_loss": {"better": "lower", "unit": "nats"}},
        "measures": ["steps_to_target", "final", "best_loss", "final_train_loss", "seconds_per_step", "examples_per_second"],
    }  # fmt: skip
    found = bncli.compare(study, store=tmp_path, executor="thread", device="cpu").findings
    assert [(m.name, m.label) for m in found.measures[:4]] == [
        ("steps_to_target", "steps to 2 nats"), ("final", "final loss (nats)"), ("best_loss", "best loss (nats)"),
        ("final_train_loss", "final train loss (nats)"),
    ]  # fmt: skip
    batch = found.arms[1]
    step, rate = batch.summaries[4].mean, batch.summaries[5].values
    assert all(value.value is not None for summary in batch.summaries[1:] for value in summary.values)
    assert step is not None
    assert rate[0].value == pytest.approx(60 / batch.summaries[4].values[0].value, rel=1e-6)
    with pytest.raises(
        ConfigError, match=r"metrics.blue: no metric is called 'blue' \(known: accuracy, loss, train_loss"
    ):
        bncli.read_study({**STUDY, "metrics": {"blue": {"better": "lower"}}})
    with pytest.raises(ConfigError, match=r"target.acuracy: no metric is called 'acuracy'; did you mean 'accuracy'"):
        bncli.read_study({**STUDY, "target": {"acuracy": 0.5}})
    with pytest.raises(
        ConfigError, match=r"measures.0: no measure is called 'final_acuracy'; did you mean 'final_accu"
    ):
        bncli.read_study({**STUDY, "measures": ["final_acuracy"]})
