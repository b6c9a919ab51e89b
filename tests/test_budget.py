"""One number does not exhaust the machine: what is too much is refused before anything is expanded or built."""

import resource
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bncli.api import bench, compare, train
from bncli.config import budget, read_bench, read_study
from bncli.config.budget import count_runs, training_bytes
from bncli.config.parts import Part
from bncli.config.study import Study, study_of
from bncli.errors import ConfigError
from bncli.models import MODELS
from bncli.models.rows import ModelRow
from bncli.norms.rows import undivided
from bncli.plan import bytes_of, runs_of
from bncli.presets import preset_names, preset_path
from bncli.session.bench_plan import plan_bench
from bncli.session.study import Session, describe_plan, open_session

ARMS: dict[str, Any] = {"variants": {"none": "none", "batch": "batch"}, "reference": "none", "seeds": 2}
CASES: dict[str, Any] = {"norms": ["batch"], "shapes": ["N8C8"]}
THOUSAND = [float(i) for i in range(1, 1001)]


def norm(**options: Any) -> dict[str, Any]:
    return {"variants": {"none": "none", "a": {"norm": options}}}


def mistakes(tree: dict[str, Any], **how: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        open_session({**ARMS, **tree}, store="nowhere", **how)
    return str(caught.value)


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"seeds": 10**9}, "seeds: 1,000,000,000 seeds; at most 100,000: 50 decide nearly everything"),
        ({"seeds": 10**20}, "seeds: 10^20 seeds; at most 100,000: 50 decide nearly everything"),
        ({"seeds": "0..999999999"}, "seeds: 1,000,000,000 seeds; at most 100,000: 50 decide nearly everything"),
        ({"seeds": [10**20]}, "seeds.0: must be <= 9.22337e+18, got 100000000000000000000"),
        ({"seeds": {"until": "decided", "max": 10**9}}, "seeds: 1,000,000,000 seeds; at most 100,000: 50 decide nearly everything"),
        ({"seeds": 100_000}, "seeds: 1 settings x 2 variants x 100,000 seeds are 200,000 runs; at most 100,000 in one preset: ask for fewer, or split it over several"),
        ({"looks": list(range(2, 200))}, "looks: must have at most 100, got [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, ..."),
        ({"model": {"name": "deep-mlp", "depth": 10**9}}, "model.depth: must be <= 10000, got 1000000000"),
        ({"model": {"name": "residual-mlp", "blocks": 10**9}}, "model.blocks: must be <= 10000, got 1000000000"),
        ({"model": {"name": "convnet", "convolutions": 10**9}}, "model.convolutions: must be <= 10000, got 1000000000"),
        ({"model": {"name": "resnet", "depth": 6 * 10**9 + 2}}, "model.depth: must be <= 10000, got 6000000002"),
        ({"model": {"name": "mlp", "hidden": [10**9]}}, "model: model 'mlp' has 796,000,000,020 weights, 3,184 GB in float32; at most 100,000,000,000: use a smaller one"),
        ({"sweep": dict.fromkeys(("training.lr", "training.clip", "training.weight_decay", "training.steps", "training.batch_size"), THOUSAND)},
         "sweep: 1,000,000,000,000,000 settings x 2 variants are 2,000,000,000,000,000; at most 10,000 in one preset: ask for fewer, or split it over several"),
        ({"variants": {f"v{i}": "none" for i in range(15_000)}, "reference": "v0"}, "variants: 15,000; at most 1,000, so split them over several presets"),
        ({"tune": {"over": {"training.lr": [0.1, 0.2]}, "seeds": 10**9}}, "tune.seeds: must be <= 10000, got 1000000000"),
        ({"tune": {"over": {"training.lr": THOUSAND}, "seeds": 1000}}, "tune: 1 settings x 2 variants x 2 seeds and 1000 values x 1,000 seeds of a search are 2,000,004 runs; at most 100,000 in one preset: ask for fewer, or split it over several"),
        ({"bisect": {"within": 1 + 1e-12}}, "bisect.within: must be >= 1.001, got 1.000000000001"),
        (norm(name="group", groups=10**10), "variants.a.norm.groups: must be <= 1e+09, got 10000000000"),
        (norm(name="iternorm", T=10**9), "variants.a.norm.T: must be <= 100, got 1000000000"),
        ({"probes": {"units": 10**9}}, "probes.units: must be <= 10000, got 1000000000"),
        ({"probes": {"null_draws": 10**9}}, "probes.null_draws: must be <= 1000, got 1000000000"),
        ({"probes": {"examples": 10**12}}, "probes.examples: must be <= 1e+09, got 1000000000000"),
        ({"probes": {"metrics": "full", "every": 1}, "training": {"steps": 10**7}, "evaluation": {"every": 10**6}},
         "probes: each run leaves about {count} numbers; at most 10,000,000: probe less often"),
        ({"evaluation": {"precise_batches": 10**9}}, "evaluation.precise_batches: must be <= 10000, got 1000000000"),
        ({"training": {"steps": 10**9}}, "evaluation: each run leaves about 80,000,016 numbers; at most 10,000,000: evaluate less often"),
        ({"training": {"steps": 10**15}}, "training.steps: must be <= 1e+09, got 1000000000000000"),
        ({"training": {"batch_size": 10**12}}, "training.batch_size: must be <= 1e+09, got 1000000000000"),
        ({"training": {"lr": 1e300}}, "training.lr: must be <= 1e+30, got 1e+300"),
        ({"training": {"schedule": {"name": "cosine", "warmup": 10**18}}}, "training.schedule.warmup: must be <= 1e+09, got 1000000000000000000"),
        ({"data": {"name": "images", "folder": ".", "size": [10**9, 10**9]}}, "data.size.0: must be <= 8192, got 1000000000\nstudy: data.size.1: must be <= 8192, got 1000000000"),
    ],
)  # fmt: skip
def test_one_number_of_a_study_is_refused_with_its_limit(tree: dict[str, Any], line: str) -> None:
    said = mistakes(tree)
    assert said == "study: " + line.replace("{count}", said.partition("about ")[2].partition(" ")[0])


@pytest.mark.parametrize("seeds", ["1000000000", "0..999999999", "9" * 5000, "0.." + "9" * 5000])
def test_seeds_on_the_command_line_are_counted_before_they_are_listed(seeds: str) -> None:
    assert "seeds; at most 100,000: 50 decide nearly everything" in mistakes({}, seeds=seeds)


@pytest.mark.parametrize("seeds", [10**5000, range(10**12), count()], ids=["one number", "a range", "no end"])
def test_seeds_of_a_function_are_counted_before_they_are_listed(seeds: Any) -> None:
    assert "at most 100,000" in mistakes({}, seeds=seeds)


@pytest.mark.parametrize("seeds", ["0..5,7..999999999", "1e40"])
def test_seeds_of_every_spelling_are_counted_before_they_are_listed(seeds: str) -> None:
    assert "seeds; at most 100,000: 50 decide nearly everything" in mistakes({}, seeds=seeds)


def test_seeds_and_runs_of_a_task_are_counted(tmp_path: Path) -> None:
    loop = tmp_path / "loop.py"
    loop.write_text("def train(run, steps=3):\n    yield {'loss': 1.0}\n")
    for seeds, said in ((10**9, "seeds; at most 100,000"), (5001, "10,002 runs, which is more than 10,000")):
        with pytest.raises(ConfigError, match=said):
            train({**ARMS, "seeds": seeds, "measures": ["final_loss"]}, task=f"{loop}:train", store=tmp_path)


@pytest.mark.usefixtures("small_machine")
def test_the_memory_of_a_task_or_of_a_network_that_somebody_else_wrote_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = runs_of(study_of(ARMS), "cpu")[0]
    assert bytes_of(run) > 0
    monkeypatch.setitem(MODELS.added, "theirs", ModelRow("theirs:Net", "theirs", whole=True))
    assert bytes_of(replace(run, model=Part(name="theirs", options={}))) == 0
    assert bytes_of(replace(run, task=Part(name="loop", options={}))) == 0


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"cases": {**CASES, "shapes": ["N1000000C1000000"]}}, "cases.0.shapes.0: at most 100,000,000,000 numbers can be timed, got N1000000C1000000; give fewer examples"),
        ({"cases": {"norms": [{"name": "group", "groups": 7}], "shapes": ["N1C10000000000"]}}, "cases.0.shapes.0: at most 100,000,000,000 numbers can be timed, got N1C10000000000; give fewer examples"),
        ({"cases": {**CASES, "shapes": [f"N8C{i}" for i in range(1, 1001)], "threads": list(range(1, 1001))}}, "cases: 2,000,000 combinations; at most 10,000 in one preset: list less, or split it over several"),
        ({"cases": CASES, "budget": 1e300}, "budget: must be <= 604800, got 1e+300"),
        ({"cases": {**CASES, "threads": 10**9}}, "cases.0.threads.0: must be <= 1024, got 1000000000"),
    ],
)  # fmt: skip
def test_one_number_of_a_bench_preset_is_refused_with_its_limit(tree: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_bench(tree)
    assert str(caught.value) == f"bench: {line}"


def test_a_budget_on_the_command_line_ends_with_the_week() -> None:
    with pytest.raises(
        ConfigError, match=r"^--budget: must be > 0 and at most 604800 seconds \(a week\), got 1e\+300$"
    ):
        bench({"cases": CASES}, budget=1e300, device="cpu")


def test_more_than_a_thousand_cases_need_yes() -> None:
    many = {"cases": {**CASES, "shapes": [f"N8C{i}" for i in range(1, 502)]}}
    with pytest.raises(ConfigError, match=r"^1,002 cases, more than 1,000; choose by --only, or add --yes if meant$"):
        bench(many, device="cpu")
    assert len(plan_bench(read_bench(many), "many", device="cpu", yes=True).cases) == 1002


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with 8 GB and two cores."""
    for place in ("session.memory", "session.bench_plan"):
        monkeypatch.setattr(f"bncli.{place}.memory_of", lambda device: 8 * 10**9)
    monkeypatch.setattr("bncli.session.study.device_count", lambda device: 2)


@pytest.mark.usefixtures("small_machine")
@pytest.mark.parametrize(
    ("tree", "need"),
    [
        ({"model": {"name": "mlp", "hidden": [10**6]}}, "22.4 GB"),
        ({"model": {"name": "convnet", "channels": [10_000]}, "training": {"batch_size": 500}}, "15.7 GB"),
        ({"model": {"name": "mlp", "hidden": [50_000]}, **norm(name="zca", group_size=50_000)}, "11.1 GB"),
        ({"model": {"name": "mlp", "hidden": [12_000]}, **norm(name="group-whitening", groups=6000)}, "8.91 GB"),
    ],
)
def test_a_run_that_does_not_fit_the_memory_is_refused(tree: dict[str, Any], need: str) -> None:
    said = mistakes(tree, device="cpu")
    assert f"takes at least {need} of memory, and there are 8 GB here; use a smaller model" in said
    assert open_session({**ARMS, **tree}, store="nowhere", device="cpu", executor=lambda jobs: None, yes=True).runs  # type: ignore[arg-type,return-value]


@pytest.mark.usefixtures("small_machine")
def test_a_case_that_does_not_fit_the_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes at least 80 GB of memory, and there are 8 GB here"):
        bench({"cases": {**CASES, "shapes": ["N100000C100000"]}}, device="cpu")


def test_the_estimate_is_of_weights_gradients_state_and_activations() -> None:
    def size(**training: Any) -> int:
        study = study_of({**ARMS, "model": {"name": "mlp", "hidden": [1000]}, "training": training})
        layers = MODELS["mlp"].sizes(study.model.options, (784,), 10)
        return training_bytes(layers, study.variants["batch"].norm, study.training)

    weights = 784 * 1000 + 1000 * 10 + 2 * 1010
    evaluation = 2 * 2000 * 1000  # what two layers give of 2,000 examples, more than a batch leaves behind
    assert size(batch_size=50) == 4 * (2 * weights + evaluation)
    assert size(batch_size=50, optimizer="adam") == 4 * (4 * weights + evaluation)
    assert size(batch_size=50, optimizer={"name": "sgd", "momentum": 0.9}) == 4 * (3 * weights + evaluation)
    assert size(batch_size=50_000) == 4 * (2 * weights + 50_000 * 1010)


MANY = {"seeds": 5001}
LONG = {"training": {"steps": 10**9}, "evaluation": {"every": 10**7}}
WIDE = {"model": {"name": "mlp", "hidden": [200_000]}, "seeds": 10, "variants": {"none": "none"}}


@pytest.mark.usefixtures("small_machine")
@pytest.mark.parametrize(
    ("tree", "doubt"),
    [
        (MANY, "10,002 runs, which is more than 10,000"),
        (LONG, "about 42 days of training, which is more than 30"),
        (WIDE, "44.7 GB or more for 2 jobs at once, of 8 GB there are (--jobs 1 and --engine plain, one run at a time, take less)"),
    ],
)  # fmt: skip
def test_what_may_be_a_mistake_needs_yes(tree: dict[str, Any], doubt: str) -> None:
    assert mistakes(tree, device="cpu") == f"{doubt}; see the plan by --dry-run, and add --yes if it is meant"
    session = open_session({**ARMS, **tree}, store="nowhere", device="cpu", yes=True)
    assert f"\nneeds --yes: {doubt}\n" in describe_plan(session)


def test_functions_take_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="10,002 runs"):
        train({**ARMS, **MANY}, store=tmp_path)

    def stop(session: Session, *_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("bncli.api.train_and_look", stop)
    with pytest.raises(ZeroDivisionError):
        compare({**ARMS, **MANY}, store=tmp_path, yes=True)


def test_the_command_takes_yes_and_validate_knows_the_memory(tmp_path: Path) -> None:
    preset = tmp_path / "large.yaml"
    head = "variants: {none: none, batch: batch}\nreference: none\n"
    preset.write_text(f"{head}seeds: 6000\n")
    plan = subprocess.run([sys.executable, "-m", "bncli", "train", str(preset)], capture_output=True, text=True)
    assert (plan.returncode, plan.stderr.count("\n")) == (2, 1)
    assert "12,000 runs, which is more than 10,000; see the plan by --dry-run, and add --yes" in plan.stderr
    preset.write_text(f"{head}seeds: 1\nmodel: {{name: mlp, hidden: [100000000]}}\n")
    said = subprocess.run([sys.executable, "-m", "bncli", "validate", str(preset)], capture_output=True, text=True)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert "takes at least 2,237 GB of memory" in said.stderr


@pytest.mark.parametrize("name", [name for name in preset_names() if not name.startswith(("bench-", "task"))])
def test_no_shipped_preset_needs_yes(name: str) -> None:
    assert not list(open_session(name, store="nowhere", device="cpu").warnings())


def test_runs_of_searches_are_counted_at_most() -> None:
    def runs(**more: Any) -> int:
        return count_runs(study_of({**ARMS, **more}))

    assert runs() == 4
    assert runs(sweep={"training.lr": [0.1, 0.2, 0.3]}) == 12
    assert runs(tune={"over": {"training.lr": [0.1, 0.2]}, "seeds": 3}) == 2 * (2 * 3 + 2)
    assert runs(bisect={"low": 1.0, "high": 16.0, "within": 2.0}) == 2 * 2 * (2 + 2)


def test_divisors_of_many_channels_are_found_at_once() -> None:
    assert undivided(7, 12) == "groups=7 does not divide 12 channels (their divisors: 1, 2, 3, 4, 6, 12)"
    assert undivided(7, 2 * 10**12).endswith("(their divisors up to 4,096: 1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50, 64, 80, 100, 125, 128, 160, 200, 250, 256, 320, 400, 500, 512, 625, 640, 800, 1000, 1024, 1250, 1280, 1600, 2000, 2048, 2500, 2560, 3125, 3200, 4000, 4096)")  # fmt: skip


def test_too_many_layers_of_all_runs_are_refused() -> None:
    deep = {"model": {"name": "deep-mlp", "depth": 10_000, "width": 2}, "seeds": 1000}
    assert mistakes(deep) == (
        "study: model: all runs together have over 20,002,000 layers; at most 10,000,000: fewer runs, or less deep"
    )


def test_the_page_has_the_limits() -> None:
    page = (Path(__file__).parent.parent / "docs" / "studies.md").read_text()
    rows = [line for line in page.partition("## How much")[2].splitlines() if line.startswith("| ")]
    limits = [value for name, value in vars(budget).items() if name.startswith(("MOST_", "MANY_"))]
    assert len(limits) == 11
    for limit in limits:
        assert any(f"{limit:,.0f}" in row for row in rows), limit


def test_a_study_within_the_limits_is_what_it_was() -> None:
    study = read_study(preset_path("quickstart"))
    assert isinstance(study, Study)
    assert study.seeds == tuple(range(5))


def test_refusals_take_little_memory() -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for tree in ({"seeds": 10**9}, {"model": {"name": "mlp", "hidden": [10**9] * 100}}):
        mistakes(tree)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000  # kilobytes
