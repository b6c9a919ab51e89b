"""Mistakes are said in bncli's words, blamed on what made them, and nothing is planned twice or asked in vain."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bncli.cli import app
from bncli.cli.ls import _catalogue
from bncli.config import PRESETS, Study, Training, read_bench, read_study
from bncli.config.bench import bench_of
from bncli.config.keys import sections
from bncli.config.observed import observed_of
from bncli.config.study import study_of
from bncli.config.yaml_tree import parse
from bncli.errors import ConfigError

STUDY: dict[str, Any] = {"variants": {"none": "none", "batch": "batch"}, "reference": "none", "seeds": 2}
BENCH: dict[str, Any] = {"cases": [{"norms": ["batch"], "shapes": ["N32C64"]}]}
WHOLE = {"study": STUDY, "bench": BENCH, "observed": {"source": "runs.csv", "reference": "none"}}
READ: dict[str, Any] = {"study": study_of, "bench": bench_of, "observed": observed_of}
WRONG = [
    None, True, -1, 0, 2.5, float("inf"), float("nan"), "x", "", [], [None], ["x"], [[1]], [-1], {}, {"a": 1}, {1: 2},
    {"name": 3}, b"x", [True], {"below": "x"}, [0.5, 0.5],
]  # fmt: skip
OURS = re.compile(
    r"must (be|not|have) |is required$|no such key|no [\w ]+ is called |give |only |each |every seed|values must |a key "
    r"|these |low must be|level is |can never hold|always holds|'\w+' is|'\w+' needs|nothing lies|none of |warmup|seeds from|variant "
    r"|norm |data |crop |needs |no grid|target: give|a variant needs"
)
PYDANTIC = re.compile(
    r"input should|valid |field required|extra inputs|keys should|value error|should (be|have)|pydantic"
)
PLACES = [
    (kind, place, key)
    for kind, root in PRESETS.items()
    for place, model in sections(root)
    for key in model.model_fields
]


def put(tree: Any, place: list[str], value: Any) -> Any:
    if not place:
        return value
    if isinstance(tree, list):
        return [put(tree[0], place, value)]
    tree = tree if isinstance(tree, dict) else {}
    return {**tree, place[0]: put(tree.get(place[0], {}), place[1:], value)}


def problems(kind: str, tree: dict[str, Any]) -> Iterator[str]:
    try:
        READ[kind](tree)
    except ConfigError as error:
        yield from (problem.message for problem in error.problems)


@pytest.mark.parametrize(("kind", "place", "key"), PLACES, ids=".".join)
def test_a_wrong_value_of_any_key_is_said_in_our_words(kind: str, place: str, key: str) -> None:
    name = "none" if kind == "study" else "accuracy"
    steps = [name if step == "NAME" else step for step in place.split(".") if step]
    claim = {"of": "batch", "source": "s", **({"measure": "final_accuracy"} if kind == "study" else {})}
    whole = WHOLE[kind] | ({"claims": [claim]} if steps[:1] == ["claims"] else {})
    for value in WRONG:
        for message in problems(kind, put(whole, [*steps, key], value)):
            assert OURS.match(message), (value, message)
            assert not PYDANTIC.search(message.lower()), (value, message)


@pytest.mark.parametrize("kind", ["norms", "models", "data", "optimizers", "schedules"])
def test_a_wrong_value_of_any_option_is_said_in_our_words(kind: str) -> None:
    for name, row in _catalogue(kind).own.items():
        for key in row.options:
            for value in WRONG:
                try:
                    _catalogue(kind).options(name, {key: value})
                except ConfigError as error:
                    said = [problem.message for problem in error.problems]
                    assert not [m for m in said if PYDANTIC.search(m.lower())], (name, key, value, said)


def test_what_is_none_of_several_types_is_one_line() -> None:
    assert list(problems("observed", WHOLE["observed"] | {"target": {"accuracy": []}})) == [
        "must be a number or a text, got []"
    ]


KNOWN = ", ".join(Training.model_fields)


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["steps=5"], f"--set steps=5: steps: no such key; did you mean 'training.steps'? (known: {', '.join(Study.model_fields)})"),
        (["training.stesp=5"], f"--set training.stesp=5: training.stesp: no such key; did you mean 'steps'? (known: {KNOWN})"),
        (["lr=.1,.2"], "--set lr=.1,.2: sweep.lr: only data, model, training and evaluation can be swept; did you mean 'training.lr'?"),
        # what breaks elsewhere, and what replaces keys that the file has
        (["model.hidden=[6]"], "--set model.hidden=[6]: variants.group.norm: norm 'group': groups=4 does not divide 6 channels (their divisors: 1, 2, 3, 6)"),
        (["training={lr: 0}"], "--set training={lr: 0}: training.lr: must be > 0, got 0"),
        (["training={lr: .2}", "training.lr=-1"], "--set training.lr=-1: training.lr: must be > 0, got -1"),
        (["training.schedule.warmup=50"], "--set training.schedule.warmup=50: training.schedule: warmup must be below the 9 steps of training, got 50; set training.schedule.warmup, or training.schedule=constant"),
        (["training.lr=.1,1e-1"], "--set training.lr=.1,1e-1: sweep.training.lr: each value counts once, got 0.1 twice"),
        (["training.optimizer=sgd,{name: sgd}"], "--set training.optimizer=sgd,{name: sgd}: sweep.training.optimizer: each value counts once, got 'sgd' and {'name': 'sgd'} are the same"),
        (["measures=final_loss,final_loss"], "--set measures=final_loss,final_loss: measures: each counts once, got ['final_loss', 'final_loss']"),
        (["variants={'': none}"], "--set variants={'': none}: variants: a variant needs a name, got ''"),
    ],
)  # fmt: skip
def test_a_mistake_of_set_is_blamed_on_set(tmp_path: Path, sets: list[str], line: str) -> None:
    preset = tmp_path / "study.yaml"
    preset.write_text(
        "model: {name: mlp, hidden: [8]}\ntraining:\n  steps: 9\n  lr: 0.1\n  schedule: constant\n"
        "variants:\n  none: none\n  group: {norm: {name: group, groups: 4}}\nreference: none\nseeds: 2\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_study(preset, sets)
    assert str(caught.value).splitlines()[0] == line


def test_a_mistake_of_the_file_stays_the_files(tmp_path: Path) -> None:
    preset = tmp_path / "study.yaml"
    preset.write_text("training:\n  lr: -1\nvariants: {none: none}\nreference: none\nseeds: 2\n")
    with pytest.raises(ConfigError, match=r"^study.yaml:2: training.lr: must be > 0, got -1$"):
        read_study(preset, ["training.steps=5"])


def test_whole_numbers_and_seeds_may_be_written_in_any_way() -> None:
    assert read_study(STUDY, ["training.steps=1e3", "seeds=4e1"]).seeds == tuple(range(40))
    assert read_study(STUDY, ["training.steps=1e3"]).training.steps == 1000
    assert read_study(STUDY, ["model.hidden=[1e1]"]).model.options["hidden"] == [10]
    assert read_study(STUDY, seeds="0,5").seeds == (0, 5)
    assert read_study(STUDY, seeds="0..2, 7").seeds == (0, 1, 2, 7)
    assert read_study(STUDY, seeds="4e1").seeds == tuple(range(40))
    with pytest.raises(ConfigError, match=r"must be a whole number, got 2\.5"):
        read_study(STUDY, ["training.steps=2.5"])


def test_a_whole_number_keeps_its_run(tmp_path: Path) -> None:
    from bncli.plan import runs_of

    ids = [
        [run.id for run in runs_of(read_study(STUDY, [f"training.steps={steps}"]), "cpu")] for steps in ("1000", "1e3")
    ]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("claim", "why"),
    [({"measure": "final_accuracy", "versus": "none", "difference": {"above": 5}}, "can never hold: it lies between -1 and 1"),
     ({"measure": "final_accuracy", "versus": "none", "difference": {"below": 5}}, "always holds: it lies between -1 and 1"),
     ({"measure": "final_accuracy", "level": {"above": 90}}, "can never hold: it lies between 0 and 1"),
     ({"measure": "diverged", "level": {"below": 0}}, "can never hold: it lies between 0 and 1"),
     ({"measure": "final_loss", "versus": "none", "ratio": {"below": 0}}, "can never hold: it lies between 0 and inf")],
)  # fmt: skip
def test_a_claim_that_no_runs_could_decide_is_refused(claim: dict[str, Any], why: str) -> None:
    (kind,) = claim.keys() & {"ratio", "difference", "level"}
    (said,) = problems("study", {**STUDY, "claims": [{"of": "batch", "source": "s", **claim}]})
    assert said == f"{why}, as every {kind} of {claim['measure']} does"


def test_a_claim_on_times_that_no_times_could_decide_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"ratio: can never hold: it lies between 0 and inf, as every ratio of times does"
    ):
        read_bench({**BENCH, "claims": [{"of": "batch", "ratio": {"below": 0}, "source": "s"}]})


def test_a_linear_model_has_no_place_for_a_norm() -> None:
    linear = {**STUDY, "model": {"name": "mlp", "hidden": []}}
    assert list(problems("study", linear)) == [
        "norm 'batch' has no place: it follows hidden layers, and this network has none"
    ]
    assert read_study({**linear, "variants": {"none": "none"}}).model.options["hidden"] == []


def test_set_reaches_into_a_norm_that_variants_adds() -> None:
    study = read_study(STUDY, ["variants.zca.norm.eps=1e-2"], variants=["zca"])
    assert study.variants["zca"].norm.options["eps"] == 0.01


@pytest.mark.parametrize(
    ("text", "data"),
    [("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", {"x": 1, "y": 3}), ("a: &a {x: 1}\nb:\n  x: 2\n  <<: *a", {"x": 2}),
     ("a: [&a {x: 1}, &b {x: 2, z: 3}]\nb: {<<: [*a, *b]}", {"x": 1, "z": 3}), ("b: {'<<': 1}", {"<<": 1})],
)  # fmt: skip
def test_yaml_merge_keys_share_what_stands_elsewhere(text: str, data: Any) -> None:
    tree = parse(text)
    assert (tree.data["b"], tree.problems) == (data, [])


def test_keys_that_share_themselves_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"nested too deeply|more than 20,000 values"):
        parse("a: &a {<<: *a, x: 1}")


def test_a_merge_key_without_keys_is_said_with_its_line(tmp_path: Path) -> None:
    preset = tmp_path / "study.yaml"
    preset.write_text("variants: {none: none}\nreference: none\nseeds: 2\ntraining:\n  <<: 3\n")
    with pytest.raises(
        ConfigError, match=r"^study.yaml:5: training: <<: must be keys with values, or a list of such, got 3$"
    ):
        read_study(preset)


@pytest.mark.parametrize(
    ("command", "options"),
    [("compare", ["--markdown", "x.md"]), ("compare", ["--events", "-"]), ("compare", ["--junit", "x.xml"]),
     ("compare", ["--github"]), ("shift-report", ["--plot", "x"])],
)  # fmt: skip
def test_a_dry_run_refuses_what_only_results_could_fill(command: str, options: list[str]) -> None:
    why = f"^{options[0]}: --dry-run trains nothing and has no results to write; leave one of them out$"
    with pytest.raises(ConfigError, match=why):
        CliRunner().invoke(app, [command, "smoke", "--dry-run", *options], catch_exceptions=False)


def test_a_plan_is_written_for_programs(tmp_path: Path) -> None:
    arguments = [
        "compare",
        "smoke",
        "--seeds",
        "2",
        "--dry-run",
        "--json",
        "-",
        "--device",
        "cpu",
        "--store",
        str(tmp_path),
    ]
    plan = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    found = {(run["variant"], run["seed"], run["stored"]) for run in plan["runs"]}
    assert found == {("none", 0, False), ("none", 1, False), ("batch", 0, False), ("batch", 1, False)}
    assert sorted(run for job in plan["jobs"] for run in job["runs"]) == sorted(run["id"] for run in plan["runs"])


def test_a_data_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^--data-dir /nonexistent: there is no such folder; leave it and BNCLI_DATA out"
    ):
        CliRunner().invoke(app, ["compare", "smoke", "--dry-run", "--data-dir", "/nonexistent"], catch_exceptions=False)
