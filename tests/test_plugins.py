"""Plug-ins: what they add, how they are checked, hashed, shipped, refused; and that nothing is left of them."""

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bncli import plugins
from bncli.catalogue import Catalogue
from bncli.config import Study, read_study
from bncli.data import DATASETS
from bncli.engine.train import train
from bncli.errors import BncliError, ConfigError, DataError
from bncli.executors import EXECUTORS, open_workers
from bncli.measures import MEASURES
from bncli.models import MODELS
from bncli.norms import NORMS, norm
from bncli.optim import LOSSES, OPTIMIZERS, SCHEDULES
from bncli.plan import jobs_of, runs_of, seconds_of
from bncli.plan.words import describe, warnings_of
from bncli.plugins import load_plugins, plugins_of, receive, register, registered, ship, unregister, using
from bncli.plugins.code import NamedCode, resolve_code
from bncli.records import RunResult
from bncli.shift import METRICS
from tests import made_plugins

Tiny = Callable[..., Study]
Write = Callable[..., str]
CATALOGUES = (NORMS, MODELS, DATASETS, METRICS, OPTIMIZERS, LOSSES, SCHEDULES, MEASURES, EXECUTORS)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test registers is gone after it."""
    before = [list(catalogue) for catalogue in CATALOGUES]
    yield
    for plugin in registered():
        unregister(plugin)
    assert [list(catalogue) for catalogue in CATALOGUES] == before


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file, and return its path."""

    def write(text: str, name: str = "mine.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def add(*paths: str) -> tuple[plugins.Plugin, ...]:
    found = load_plugins(paths)
    for plugin in found:
        register(plugin)
    return found


def trained(study: Study) -> list[RunResult]:
    return [result for job in jobs_of(runs_of(study, "cpu")) for result in train(job)]


# ---- what they add


@pytest.mark.parametrize("table", made_plugins.KINDS)
def test_a_plug_in_of_every_kind_is_a_file_of_under_30_lines(table: str, write: Write) -> None:
    text = made_plugins.KINDS[table]
    assert text.count("\n") < 30
    (plugin,) = add(write(text))
    assert list(plugin.names) == [table]
    for name in plugin.names[table]:
        row = plugins.catalogue(table)[name]
        assert (row.origin, row.code) == ("mine.py", plugin.hash)
        assert callable(plugins.catalogue(table).load(name)) or table == "OPTIMIZERS"


def test_a_norm_of_a_plug_in_trains_one_run_at_a_time_and_untraced(write: Write, tiny: Tiny) -> None:
    add(write(made_plugins.NORM))
    study = tiny(variants={"none": "none", "half": {"norm": {"name": "half", "share": 0.25}}})
    jobs = jobs_of(runs_of(study, "cpu"))
    assert {(job.runs[0].variant, len(job.runs)) for job in jobs} == {("none", 3), ("half", 1)}
    assert not any(job.traced for job in jobs)  # 30 steps
    results = trained(study)
    assert {result.info.status for result in results} == {"done"}
    assert len({result.records[-1].value for result in results}) == 6


def test_a_norm_with_a_row_trains_in_lanes(write: Write, tiny: Tiny) -> None:
    add(write(made_plugins.ROW))
    study = tiny(variants={"none": "none", "double": "double"})
    assert [len(job.runs) for job in jobs_of(runs_of(study, "cpu"))] == [3, 3]
    assert {result.info.status for result in trained(study)} == {"done"}


def test_only_what_a_row_promises_is_traced(write: Write, tiny: Tiny) -> None:
    add(write(made_plugins.NORM), write(made_plugins.ROW, "row.py"))
    training = {"steps": 60, "batch_size": 40, "lr": 0.5}
    study = tiny(variants={"none": "none", "half": "half", "double": "double"}, training=training)
    traced = {job.runs[0].variant: job.traced for job in jobs_of(runs_of(study, "cpu"))}
    assert traced == {"none": True, "half": False, "double": True}


def test_a_model_takes_images_norms_and_options_and_draws_by_the_seed(write: Write, tiny: Tiny) -> None:
    add(write(made_plugins.MODEL))
    study = tiny(model={"name": "small", "widths": [4, 6]}, data="mnist", seeds=2)
    results = trained(study)
    assert {result.info.status for result in results} == {"done"}
    starts = {(r.spec["norm"]["name"], r.spec["seed"]): first(r, "loss") for r in results}
    assert len(set(starts.values())) == 2  # of two seeds; with running statistics of 0 and 1 no norm has done anything
    assert starts == {(r.spec["norm"]["name"], r.spec["seed"]): first(r, "loss") for r in trained(study)}


def first(result: RunResult, metric: str) -> float:
    return next(record.value for record in result.records if record.metric == metric)


def test_variants_of_a_model_start_from_the_same_weights(write: Write, tiny: Tiny) -> None:
    from bncli.engine.network import build

    add(write(made_plugins.MODEL))
    runs = runs_of(tiny(model="small", data="mnist", seeds=2), "cpu")
    weights = {(run.variant, run.seed): build(run).get_parameter("0.weight").flatten()[0].item() for run in runs}
    assert weights["none", 0] == weights["batch", 0] != weights["none", 1] == weights["batch", 1]


def test_a_model_of_which_nothing_is_known_is_planned_with_a_guess(write: Write, tiny: Tiny) -> None:
    add(write(made_plugins.MODEL))
    study = tiny(model="small", variants={"none": "none", "group": {"norm": {"name": "group", "groups": 3}}})
    assert all(0 < seconds_of(job) < 10 for job in jobs_of(runs_of(study, "cpu")))
    assert warnings_of(study) == []
    assert "small" in describe(study, "cpu")


def test_a_model_that_asks_for_channels_refuses_a_norm_of_weights(write: Write, tiny: Tiny) -> None:
    add(write(made_plugins.MODEL))
    study = tiny(model="small", variants={"none": "none", "weight": "weight"}, seeds=1)
    with pytest.raises(
        ConfigError, match=r"acts on the weights of layers, and the model gives it channels; let it say"
    ):
        trained(study)


def test_a_model_that_hands_over_layers_takes_every_norm(write: Write, tiny: Tiny) -> None:
    add(
        write(
            "from torch import nn\n"
            "def two(features, outputs, norm):\n"
            "    return nn.Sequential(norm(nn.Linear(features, 8)), nn.ReLU(), nn.Linear(8, outputs))\n"
            "MODELS = {'two': two}\n"
        )
    )
    results = trained(tiny(model="two", variants={"none": "none", "batch": "batch", "weight": "weight"}, seeds=1))
    assert {result.info.status for result in results} == {"done"}
    assert len({result.records[-1].value for result in results}) == 3


def test_data_tells_its_shape_its_classes_and_its_examples(write: Write, tiny: Tiny) -> None:
    add(write(made_plugins.DATA))
    row = DATASETS["clouds"]
    assert (row.shape, row.classes, row.examples) == ((2,), 2, {"train": 400, "validation": 100, "test": 100})
    results = trained(tiny(data={"name": "clouds", "noise": 0.2}, model={"name": "mlp", "hidden": [8]}))
    assert {result.info.status for result in results} == {"done"}


def test_data_is_loaded_when_a_study_names_it_and_not_when_it_is_listed(write: Write) -> None:
    add(write("def clouds(*, device):\n    raise OSError('no disk')\nDATASETS = {'clouds': clouds}\n"))
    assert "clouds" in dict(DATASETS.listed())
    with pytest.raises(DataError, match=r"^plug-in mine.py: data set 'clouds': OSError: no disk$"):
        DATASETS["clouds"]


def test_numbers_as_targets_are_fitted_by_squares(write: Write) -> None:
    add(
        write(
            "import torch\n"
            "def line(*, device):\n    x = torch.randn(20, 3, 4)\n"
            "    return dict.fromkeys(['train', 'validation', 'test'], (x, x.sum((1, 2))))\n"
            "DATASETS = {'line': line}\n"
        )
    )
    row = DATASETS["line"]
    assert (row.shape, row.classes, row.targets, row.loss) == ((3, 4), 0, 1, "squared_error")


def test_options_that_change_what_data_is_are_refused_when_it_is_loaded(write: Write) -> None:
    add(write(made_plugins.DATA.replace("0, 2, (", "0, 2 + (noise > 1), (")))
    with pytest.raises(DataError, match=r"there is a class 2 in its train part, and by its defaults they are 0 to 1"):
        DATASETS.load("clouds")(device="cpu", noise=2.0)


DESCRIBED = """
from dataclasses import replace
from pathlib import Path
import torch
from bncli.catalogue import Option
from bncli.data import DataRow

def size(row, options):
    classes = int(Path(options["file"]).read_text())
    known = {"train": 60, "validation": 20, "test": 20}
    return replace(row, examples=known, shape=(classes,), classes=classes, checksum=options["checksum"] or f"of {classes}")

def load(*, file, checksum, device):
    y = torch.arange(60) % int(checksum[3:])
    x = torch.nn.functional.one_hot(y).float()
    return {part: (x[:n], y[:n]) for part, n in (("train", 60), ("validation", 20), ("test", 20))}

def splits(**options):
    from bncli.data.splits import Split, Splits
    return Splits(**{part: Split(x, y) for part, (x, y) in load(**options).items()})

OPTIONS = {"file": Option(str, "", "how many classes", place="path"), "checksum": Option(str | None, None, "of them")}
DATASETS = {"counted": DataRow(":splits", "as many classes as a file says", OPTIONS, describe=":size")}
"""


def test_a_row_may_have_a_function_that_says_what_data_with_these_options_are(
    write: Write, tiny: Tiny, tmp_path: Path
) -> None:
    add(write(DESCRIBED))
    studies = []
    for classes in (3, 5):
        (tmp_path / f"{classes}.txt").write_text(str(classes))
        data = {"name": "counted", "file": str(tmp_path / f"{classes}.txt")}
        studies.append(tiny(data=data, model={"name": "mlp", "hidden": [8]}, variants={"none": "none"}, seeds=1))
    three, five = (runs_of(study, "cpu")[0] for study in studies)
    assert (three.spec()["classes"], five.spec()["classes"]) == (3, 5)
    assert three.spec()["data"] == {"name": "counted", "checksum": "of 3"}
    assert {result.info.status for result in trained(studies[1])} == {"done"}
    with pytest.raises(ConfigError, match=r"data set 'counted': FileNotFoundError: .*no\.txt'$"):
        DATASETS.options("counted", {"file": str(tmp_path / "no.txt")})


def test_metrics_are_probed_measured_and_shown_by_channel_or_by_layer(write: Write, tiny: Tiny) -> None:
    add(write(made_plugins.METRIC))
    assert {name: (METRICS[name].kind, METRICS[name].per) for name in ("spread", "moved")} == {
        "spread": ("sample", "unit"), "moved": ("pair", "layer"),
    }  # fmt: skip
    probes = {"metrics": ["spread", "moved"], "every": 10, "examples": 50}
    study = tiny(probes=probes, measures=["final_accuracy", "moved"])
    found = {(record.metric, record.statistic) for result in trained(study) for record in result.records}
    assert {("spread", "mean"), ("moved", ""), ("moved", "null")} <= found


def test_a_metric_changes_no_tier(write: Write, tiny: Tiny) -> None:
    before = tiny(probes="standard").probes.metrics
    add(write(made_plugins.METRIC))
    assert tiny(probes="standard").probes.metrics == before


def test_an_optimiser_and_a_schedule_train(write: Write, tiny: Tiny) -> None:
    add(write(made_plugins.OPTIMIZER), write(made_plugins.SCHEDULE, "schedule.py"))
    training = {
        "steps": 30, "batch_size": 40, "lr": 0.01, "optimizer": {"name": "lion", "beta1": 0.8},
        "schedule": {"name": "triangle", "peak": 0.25, "warmup": 5},
    }  # fmt: skip
    results = trained(tiny(training=training, seeds=1))
    assert {result.info.status for result in results} == {"done"}
    assert all(result.records[-1].value != first(result, result.records[-1].metric) for result in results)


def test_an_executor_opens(write: Write) -> None:
    add(write(made_plugins.EXECUTOR))
    workers = open_workers("one-thread", 3, "cpu")
    assert workers.executor.submit(lambda: threading.current_thread().name).result() == "one_0"
    workers.executor.shutdown()


def test_the_examples_of_the_documentation_are_plug_ins(write: Write, tiny: Tiny) -> None:
    page = (Path(plugins.__file__).parents[2] / "docs" / "extend" / "plugins.md").read_text()
    blocks = [block.partition("```")[0] for block in page.split("```python\n")[1:]]
    found = add(*(write(block, f"block_{i}.py") for i, block in enumerate(blocks)))
    assert [set(plugin.names) for plugin in found] == [{"NORMS"}, {"DATASETS", "MODELS", "METRICS"}, {"NORMS"}]
    results = trained(
        tiny(
            data="two-moons", model="two-layers", variants={"none": "none", "clip": "clip", "stretch": "stretch"}, seeds=1,
            probes={"metrics": ["spread"], "every": 10},
        )
    )  # fmt: skip
    assert {result.info.status for result in results} == {"done"}


# ---- options


def test_options_come_from_the_signature_and_their_meaning_from_the_docstring(write: Write) -> None:
    add(write(made_plugins.NORM))
    row = NORMS["half"]
    assert row.summary == "Each channel less its mean over the batch, times a share"
    assert {k: (o.type, o.default, o.meaning) for k, o in row.options.items()} == {
        "share": (float, 0.5, "of the deviation that is kept"),
        "centre": (bool, True, "whether the mean goes"),
    }
    assert norm("half", 4, share=0.1).share == 0.1


def test_options_are_validated_with_the_line_of_the_preset(write: Write) -> None:
    add(write(made_plugins.NORM), write(made_plugins.MODEL, "model.py"))
    preset = write(
        "model: {name: small, act: gelu}\nvariants:\n  a: {norm: {name: half, share: much}}\n"
        "  b: {norm: {name: half, shore: 1}}\nreference: a\nseeds: 1\n",
        "study.yaml",
    )
    with pytest.raises(ConfigError) as caught:
        read_study(Path(preset))
    assert str(caught.value).splitlines() == [
        "study.yaml:1: model.act: must be one of 'relu' or 'tanh', got 'gelu'",
        "study.yaml:3: variants.a.norm.share: must be a number, got 'much'",
        "study.yaml:4: variants.b.norm.shore: no such key; did you mean 'share'? (known: share, centre)",
    ]


@pytest.mark.parametrize(
    ("parameter", "kind", "default"),
    [
        ("x=3", "whole number", 3), ("x=1e-3", "number", 1e-3), ("x=True", "true or false", True),
        ("x='a'", "text", "a"), ("x: float = 1", "number", 1.0), ("x: int | None = None", "whole number or null", None),
        ("x: 'list[int]' = [1, 2]", "list of whole number", (1, 2)), ("x=(1, 2)", "list of whole number", (1, 2)),
        ("x: 'list[list[int]]' = [[1]]", "list of list of whole number", ((1,),)),
    ],
)  # fmt: skip
def test_a_parameter_is_an_option_of_its_type(parameter: str, kind: str, default: Any, write: Write) -> None:
    add(write(f"def f(channels, *, {parameter}): ...\nNORMS = {{'f': f}}\n"))
    option = NORMS["f"].options["x"]
    assert (option.range(), option.default, type(option.default)) == (kind, default, type(default))
    assert json.dumps(NORMS.options("f", {})["x"]) == json.dumps(default)


@pytest.mark.parametrize("name", ["model_config", "model_fields", "json", "copy"])
def test_an_option_may_be_called_as_it_likes(name: str, write: Write) -> None:
    add(write(f"def f(channels, *, {name}: int = 3): ...\nNORMS = {{'f': f}}\n"))
    assert NORMS.options("f", {name: 4}) == {name: 4}


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("x", "parameter 'x': has no default; what bncli does not give must have one"),
        ("x=None", "parameter 'x': no preset can hold the default None; annotate it as bool, int, float, str, Literal or a tuple of these, or begin its name with _"),
        ("x: object = 3", "parameter 'x': no preset can hold the type object; annotate it as bool, int, float, str, Literal or a tuple of these, or begin its name with _"),
        ("x: list = (1,)", "parameter 'x': no preset can hold the type list; annotate it as bool, int, float, str, Literal or a tuple of these, or begin its name with _"),
        ("x: 'typing.List' = (1,)", "parameter 'x': no preset can hold the type List; annotate it as bool, int, float, str, Literal or a tuple of these, or begin its name with _"),
        ("x: float = float('nan')", "parameter 'x': its default must be number that a preset can hold, got nan"),
        ("x=float('inf')", "parameter 'x': its default must be number that a preset can hold, got inf"),
        ("x: int = 'a'", "parameter 'x': its default must be whole number that a preset can hold, got 'a'"),
        ("x: 'Nothing' = 3", "its annotations cannot be read (name 'Nothing' is not defined); import what they name"),
    ],
)  # fmt: skip
def test_a_parameter_that_is_no_option_is_refused(parameter: str, message: str, write: Write) -> None:
    path = write(f"import typing\ndef f(channels, *, {parameter}): ...\nNORMS = {{'f': f}}\n")
    with pytest.raises(ConfigError) as caught:
        load_plugins([path])
    assert str(caught.value) == f"plug-in {path}: norm 'f': {message}"


def test_a_layer_of_torch_is_a_norm_as_it_is(write: Write, tiny: Tiny) -> None:
    add(write("from torch import nn\nNORMS = {'torch': nn.BatchNorm1d}\n"))
    assert list(NORMS["torch"].options)[:4] == ["eps", "momentum", "affine", "track_running_stats"]
    variants = {"torch": "torch", "batch": {"norm": {"name": "batch", "impl": "plain"}}}
    results = trained(tiny(variants=variants, reference="torch", seeds=1))
    torch_loss, ours = (result.records[-1].value for result in results)
    assert torch_loss == pytest.approx(ours, rel=1e-3)


# ---- registering


def test_registered_twice_is_registered_once(write: Write) -> None:
    (plugin,) = add(write(made_plugins.NORM))
    register(plugin)
    assert add(plugin.place.file) == (plugin,)
    assert registered() == (plugin,)
    assert len(list(NORMS)) == len(NORMS.own) + 1


def test_using_leaves_no_trace(write: Write) -> None:
    path = write("import beside_it\n" + made_plugins.NORM)
    write("x = 1\n", "beside_it.py")
    with using([path]) as (plugin,):
        assert "half" in NORMS
        assert plugins_of([("NORMS", "half"), ("NORMS", "batch")]) == (plugin,)
        assert "beside_it" in sys.modules
    assert "half" not in NORMS
    assert "beside_it" not in sys.modules
    with pytest.raises(ConfigError, match="no norm is called 'half'"):
        NORMS["half"]


def test_a_plug_in_beside_a_broken_one_leaves_no_trace(write: Write) -> None:
    good, bad = write("def f(channels): ...\nNORMS = {'f': f}\n"), write("1 / 0\n", "bad.py")
    before = set(sys.modules)
    with pytest.raises(ConfigError, match="ZeroDivisionError"), using([good, bad]):
        pass
    assert set(sys.modules) == before


def test_a_plug_in_stays_while_anybody_uses_it(write: Write) -> None:
    path = write("def f(channels): ...\nNORMS = {'f': f}\n")
    first, second = using(path), using(path)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert "f" in NORMS
    second.__exit__(None, None, None)
    assert "f" not in NORMS.added


def test_using_what_is_registered_leaves_it(write: Write) -> None:
    path = write(made_plugins.NORM)
    add(path)
    with using([path]):
        pass
    assert "half" in NORMS


def test_a_file_that_was_edited_gives_way_to_itself(write: Write) -> None:
    path = write("import changes\n" + made_plugins.NORM.replace("share: float = 0.5", "share: float = changes.SHARE"))
    write("SHARE = 0.25\n", "changes.py")
    (old,) = add(path)
    write("SHARE = 0.75\n", "changes.py")  # as long, within the same second: what Python keeps compiled is not asked
    (new,) = add(path)
    assert old.hash != new.hash
    assert NORMS["half"].options["share"].default == 0.75
    assert registered() == (new,)


@pytest.mark.parametrize("table", ["NORMS", "MODELS", "DATASETS", "METRICS", "OPTIMIZERS", "SCHEDULES", "EXECUTORS"])
def test_a_name_of_bncli_is_taken(table: str, write: Write) -> None:
    text, name = made_plugins.KINDS[table], next(iter(plugins.catalogue(table).own))
    (plugin,) = load_plugins([write(text + f"{table}[{name!r}] = next(iter({table}.values()))\n")])
    with pytest.raises(ConfigError) as caught:
        register(plugin)
    kind = plugins.catalogue(table).kind
    assert str(caught.value) == f"plug-in mine.py: {kind} {name!r} is bncli's own; give yours another name"
    assert registered() == ()


@pytest.mark.parametrize(("kind", "name"), [("measure", "reached"), ("metric", "loss"), ("metric", "percentile_15")])
def test_a_metric_may_not_be_called_like_what_is_measured_anyway(kind: str, name: str, write: Write) -> None:
    (plugin,) = load_plugins([write(f"METRICS = {{{name!r}: lambda x: x.mean(0)}}\n")])
    with pytest.raises(
        ConfigError, match=rf"^plug-in mine.py: {kind} '{name}' is bncli's own; give yours another name$"
    ):
        register(plugin)


def test_a_name_of_another_plug_in_is_taken(write: Write) -> None:
    add(write(made_plugins.NORM))
    (second,) = load_plugins([write(made_plugins.NORM + "# another\n", "second.py")])
    with pytest.raises(ConfigError) as caught:
        register(second)
    message = "plug-in second.py: norm 'half' is already that of plug-in mine.py; rename one of the two"
    assert str(caught.value) == message
    assert NORMS["half"].origin == "mine.py"


def test_two_plug_ins_may_not_import_two_modules_of_one_name(write: Write) -> None:
    for folder in ("one", "two"):
        write(f"x = '{folder}'\n", f"{folder}/shared_name.py")
        write(f"import shared_name\nNORMS = {{'{folder}': lambda channels: None}}\n", f"{folder}/{folder}.py")
    one, two = (str(Path(write("", "x")).parent / f"{folder}/{folder}.py") for folder in ("one", "two"))
    add(one)
    with pytest.raises(ConfigError) as caught:
        load_plugins([two])
    assert str(caught.value) == (
        f"plug-in {two}: imports 'shared_name' that lies beside it, but plug-in {one} imports another one;"
        " rename one of the two"
    )


def test_a_module_that_was_loaded_from_elsewhere_is_not_taken_for_the_one_beside_the_file(write: Write) -> None:
    write("", "pytest.py")
    path = write("import pytest\nNORMS = {'a': lambda channels: None}\n")
    with pytest.raises(ConfigError) as caught:
        load_plugins([path])
    assert str(caught.value) == (
        f"plug-in {path}: imports 'pytest' that lies beside it, but this process has loaded another 'pytest' from"
        f" {pytest.__file__}; rename one of the two"
    )


def test_a_module_of_the_working_directory_is_a_plug_in_too(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("from lab.parts import Half\nNORMS = {'half': Half}\n", "lab/norms.py")
    parts = write(made_plugins.NORM.replace("NORMS", "_"), "lab/parts.py")
    monkeypatch.chdir(Path(parts).parent.parent)
    (plugin,) = add("lab.norms")
    assert (plugin.origin, NORMS["half"].origin) == ("lab.norms", "lab.norms")
    unregister(plugin)
    Path(parts).write_text(Path(parts).read_text() + "# a comment\n")
    assert load_plugins(["lab.norms"])[0].hash != plugin.hash
    assert not [name for name in sys.modules if name == "lab"] or unregister(load_plugins(["lab.norms"])[0]) is None


# ---- broken plug-ins


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NORMS = {\n", "SyntaxError: '{' was never closed (mine.py:1)"),
        ("\n1 / 0\n", "ZeroDivisionError: division by zero (mine.py:2)"),
        ("raise ValueError\n", "ValueError (mine.py:1)"),
        ("import sys\nsys.exit('gone')\n", "SystemExit: gone (mine.py:2)"),
        ("import nowhere_to_be_found\n", "imports 'nowhere_to_be_found', which is not installed here (mine.py:1); install it, or put it beside the file"),
        ("import broken_beside\n", "ZeroDivisionError: division by zero (broken_beside.py:2)"),
        ("import unclosed_beside\n", "SyntaxError: '(' was never closed (unclosed_beside.py:1)"),
        ("from torch import nothing_such\n", "ImportError: cannot import name 'nothing_such' from 'torch'"),
        ("NORM = {}\n", "has none of NORMS, MODELS, DATASETS, METRICS, OPTIMIZERS, SCHEDULES, LOSSES, TASKS, EXECUTORS; did you mean 'NORMS'?"),
        ("x = 1\n", "has none of NORMS, MODELS, DATASETS, METRICS, OPTIMIZERS, SCHEDULES, LOSSES, TASKS, EXECUTORS; NORMS = {name: function} is one"),
        ("NORMS = [1]\n", "NORMS must be a dictionary {name: function or row}, got list [1]"),
        ("NORMS = {'a:b': print}\n", "NORMS: a name has letters, digits and _ . + - only, got 'a:b'"),
        ("NORMS = {'../a': print}\n", "NORMS: a name has letters, digits and _ . + - only, got '../a'"),
        ("NORMS = {'a': 3}\n", "norm 'a': must be a function or a row, got int 3"),
        ("from bncli.catalogue import Row\nNORMS = {'a': Row('a:b', '')}\n", "norm 'a': must be a NormRow or a function, got a Row"),
        ("MODELS = {'a': lambda width: None}\n", "model 'a': parameter 'width': has no default; what bncli does not give must have one"),
        ("DATASETS = {'a': lambda: None}\n", "data set 'a': must take the keyword device, got ()"),
        ("METRICS = {'a': lambda a, b, c: None}\n", "metric 'a': must take one sample, or two of the same examples, got (a, b, c)"),
        ("SCHEDULES = {'a': lambda step: 1}\n", "schedule 'a': must take step and steps, got (step)"),
        ("\0", ""),
    ],
)  # fmt: skip
def test_a_broken_plug_in_is_one_line_that_names_it(text: str, message: str, write: Write) -> None:
    write("x = 1\n1 / 0\n", "broken_beside.py")
    write("(\n", "unclosed_beside.py")
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_plugins([path])
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"plug-in {path}: {message}")
    assert not [name for name in sys.modules if name in ("broken_beside", "unclosed_beside")]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing.py", "there is no file nothing.py (looked from {here})"),
        ("nothing.nowhere", "no module 'nothing' is installed, nor is it in {here}"),
        ("folder/", "expected FILE.py or MODULE; folder/ is a folder"),
        ("mine.txt/x", "expected FILE.py or MODULE"),
        ("mine.py:half", "expected FILE.py or MODULE, got 'mine.py:half'"),
    ],
)
def test_a_plug_in_that_is_not_there_is_one_line(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError) as caught:
        load_plugins([spec])
    assert str(caught.value) == f"plug-in {spec}: {message.format(here=tmp_path)}"


def test_a_row_that_points_nowhere_is_said_when_it_is_loaded(write: Write) -> None:
    add(write(made_plugins.ROW.replace('":double"', '":dubble"')))
    with pytest.raises(
        ConfigError, match=r"^plug-in mine.py: norm 'double': its target 'bncli_plugin_mine_\w+:dubble' is"
    ):
        NORMS.load("double")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("METRICS = {'m': lambda x: x}\n", "of samples (64, 7) expected one number, or 7 of the channels, got shape (64, 7)"),
        ("METRICS = {'m': lambda x: x.nothing}\n", "AttributeError: 'Tensor' object has no attribute 'nothing' (of samples (64, 7))"),
    ],
)  # fmt: skip
def test_a_metric_that_gives_no_number_is_refused_when_it_is_named(text: str, message: str, write: Write) -> None:
    add(write(text))
    with pytest.raises(ConfigError) as caught:
        METRICS["m"]
    assert str(caught.value) == f"plug-in mine.py: metric 'm': {message}"


# ---- presets name no code


@pytest.mark.parametrize("name", ["mine.py:Half", "os:system", "./mine.py", "torch.nn:BatchNorm1d"])
@pytest.mark.parametrize(
    ("key", "kind"), [("norm", "norm"), ("model", "model"), ("data", "data set"), ("task", "task")]
)
def test_a_preset_cannot_name_code(
    name: str, key: str, kind: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(write("raise SystemExit('it was run')\n")).parent)
    variant = f"{{norm: '{name}'}}" if key == "norm" else "{norm: none}"
    top = "" if key == "norm" else f"{key}: '{name}'\n"
    preset = write(f"{top}variants: {{a: {variant}}}\nreference: a\nseeds: 1\n", "study.yaml")
    with pytest.raises(ConfigError, match=f"{kind} {name!r}: a preset cannot name code; give it by the command line"):
        read_study(Path(preset))


# ---- code by name


def test_code_is_named_alike_everywhere(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(made_plugins.NORM)
    monkeypatch.chdir(Path(path).parent)
    assert resolve_code(f"{path}:Half", "--kernel").__name__ == "Half"
    assert resolve_code("mine:Half", "--kernel").__name__ == "Half"
    assert resolve_code("collections:OrderedDict.fromkeys", "--kernel")("a") == {"a": None}
    assert resolve_code("batch", "--kernel", NORMS) is NORMS.load("batch")
    assert resolve_code("mine.py:NORMS", "--kernel", NORMS)["half"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine", "--kernel: expected FILE.py:NAME or MODULE:NAME, got 'mine'"),
        ("mine.py:half", "--kernel mine.py:half: mine.py has no 'half'; did you mean 'Half'?"),
        ("nine.py:Half", "--kernel nine.py:Half: there is no file nine.py (looked from {here})"),
        ("nine:Half", "--kernel nine:Half: no module 'nine' is installed, nor is it in {here}"),
        ("bad.py:Half", "--kernel bad.py:Half: ZeroDivisionError: division by zero (bad.py:1)"),
        ("mine.py:", "--kernel: expected FILE.py:NAME or MODULE:NAME, got 'mine.py:'"),
    ],
)
def test_code_that_is_not_there_is_one_line(
    text: str, message: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(write(made_plugins.NORM)).parent
    write("1 / 0\n", "bad.py")
    monkeypatch.chdir(here)
    with pytest.raises(ConfigError) as caught:
        resolve_code(text, "--kernel")
    assert str(caught.value) == message.format(here=here)


# ---- other processes

RECEIVE = """
import pickle, sys
from bncli.plugins import receive, registered
from bncli.norms import NORMS
from bncli.errors import BncliError
try:
    receive(pickle.load(open(sys.argv[1], "rb")))
    print(NORMS["half"].origin, registered()[0].hash, NORMS.load("half")(3).share)
except BncliError as error:
    print(error)
"""


def receive_elsewhere(shipped: Any, folder: Path) -> str:
    """What a process says that has another working directory and temporary folder."""
    folder.mkdir()
    (folder / "shipped").write_bytes(pickle.dumps(shipped))
    done = subprocess.run(
        [sys.executable, "-c", RECEIVE, "shipped"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(Path(plugins.__file__).parents[2])},
    )  # fmt: skip
    assert not list(folder.glob("bncli-*"))
    return done.stdout.strip() + done.stderr.strip()


def with_helper(write: Write) -> tuple[str, str]:
    helper = write("SHARE = 0.25\n", "lab_of_test/shares.py")
    text = made_plugins.WITHOUT_TORCH.replace("float = 0.5", "float = SHARE")
    return write("from lab_of_test.shares import SHARE\n" + text), helper


@pytest.mark.parametrize("moved", [False, True], ids=["same machine", "the file is not there"])
def test_a_worker_receives_the_file_and_what_it_imports(moved: bool, write: Write, tmp_path: Path) -> None:
    path, helper = with_helper(write)
    (plugin,) = add(path)
    shipped = ship([plugin])
    assert set(shipped[0].files) == {"mine.py", "lab_of_test/shares.py"}
    if moved:
        Path(path).unlink()
        Path(helper).unlink()
    script = receive_elsewhere(shipped, tmp_path / "elsewhere")
    assert script == f"mine.py {plugin.hash} 0.25"


@pytest.mark.parametrize("which", [0, 1], ids=["the file", "what it imports"])
def test_a_worker_refuses_code_that_was_edited_in_between(which: int, write: Write, tmp_path: Path) -> None:
    paths = with_helper(write)
    (plugin,) = add(paths[0])
    shipped = ship([plugin])
    Path(paths[which]).write_text(Path(paths[which]).read_text() + "# edited\n")
    said = receive_elsewhere(shipped, tmp_path / "elsewhere")
    assert said.startswith("plug-in mine.py: its code here is not what the study was planned with (")
    assert "leave the file alone while a study runs" in said
    assert "\n" not in said


def test_what_a_data_set_told_is_not_asked_again_by_a_worker(write: Write) -> None:
    (plugin,) = add(write(made_plugins.DATA + "def never(*, device): raise OSError\nDATASETS['never'] = never\n"))
    told = DATASETS["clouds"]
    (shipped,) = ship([plugin])
    assert set(shipped.measured) == {("DATASETS", "clouds")}
    unregister(plugin)
    receive(pickle.loads(pickle.dumps([shipped])))
    assert DATASETS.added["clouds"] == told
    assert DATASETS.added["never"].shape == ()


def test_receiving_twice_changes_nothing(write: Write) -> None:
    (plugin,) = add(write(made_plugins.NORM))
    receive(ship([plugin]))
    assert registered() == (plugin,)


# ---- installed packages


@pytest.fixture
def installed(tmp_path: Path, write: Write) -> Path:
    """A package with a plug-in among installed ones, and another whose plug-in is broken."""
    write(made_plugins.WITHOUT_TORCH, "site-packages/fakenorms/norms.py")
    write("", "site-packages/fakenorms/__init__.py")
    write("1 / 0\n", "site-packages/brokennorms.py")
    for name, module in (("fakenorms", "fakenorms.norms"), ("brokennorms", "brokennorms")):
        write(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", f"site-packages/{name}-1.2.dist-info/METADATA")
        write(f"[bncli.plugins]\nx = {module}\n", f"site-packages/{name}-1.2.dist-info/entry_points.txt")
    return tmp_path / "site-packages"


def run(code: str, installed: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(plugins.__file__).parents[2]), str(installed)])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": path},
    )


SCAN_ENDS = (  # pydantic looks for plug-ins of its own
    "import sys, importlib.metadata as m\nreal = m.entry_points\n"
    "m.entry_points = lambda group: sys.exit('scanned') if group == 'bncli.plugins' else real(group=group)\n"
)
COMMAND = "import sys\nfrom bncli.cli import main\nsys.argv = ['bncli', {}]\nmain()\n"


def test_an_installed_plug_in_is_found_by_its_name_and_counts_by_version(installed: Path) -> None:
    code = (
        "import bncli.plugins as p\nfrom bncli.norms import NORMS\n"
        "print(NORMS['half'].origin)\nprint(p.registered()[0].hash, p.ship(p.registered())[0].files)"
    )
    done = run(code, installed)
    assert done.stdout.splitlines()[0] == "fakenorms 1.2", done.stderr
    (installed / "fakenorms" / "norms.py").write_text(made_plugins.WITHOUT_TORCH + "# edited\n")
    assert run(code, installed).stdout == done.stdout
    (old,) = installed.glob("fakenorms-*")
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: fakenorms\nVersion: 1.3\n")
    old.rename(installed / "fakenorms-1.3.dist-info")
    again = run(code, installed).stdout.splitlines()
    assert again[0] == "fakenorms 1.3"
    assert again[1] != done.stdout.splitlines()[1]


def test_a_name_that_nobody_has_says_which_installed_plug_in_is_broken(installed: Path) -> None:
    done = run("import bncli.plugins\nfrom bncli.norms import norm\nnorm('bacth', 3)", installed)
    last = done.stderr.splitlines()[-1]
    assert "no norm is called 'bacth'; did you mean 'batch'?" in last
    assert last.endswith("; installed plug-in brokennorms 1.2: ZeroDivisionError: division by zero (brokennorms.py:1)")


def test_ls_shows_where_a_name_comes_from(installed: Path, write: Write) -> None:
    path = write(made_plugins.SCHEDULE, "site-packages/rates.py")
    done = run(COMMAND.format(f"'ls', 'schedules', '--plugin', {path!r}"), installed)
    assert "  triangle     Up to the peak, then down to 0 [rates.py]" in done.stdout.splitlines()
    assert "installed plug-in brokennorms 1.2: ZeroDivisionError" in done.stderr
    norms = run(COMMAND.format("'ls', 'norms'"), installed).stdout
    assert "half (fakenorms 1.2)" in norms
    assert "batch (" not in norms


@pytest.mark.parametrize("arguments", ["'--help'", "'compare', '--help'", "'ls', 'presets'", "'ls', '--help'"])
def test_help_looks_into_no_installed_package(arguments: str, installed: Path) -> None:
    done = run(SCAN_ENDS + COMMAND.format(arguments), installed)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_looks_into_no_installed_package(installed: Path) -> None:
    code = SCAN_ENDS + (
        "import bncli.plugins\nfrom bncli.cli.completion import complete_norm\nprint(complete_norm('zca'))"
    )
    assert run(code, installed).stdout == "['zca', 'zca-cor']\n"


def test_a_plug_in_without_torch_is_loaded_without_it(installed: Path, write: Write) -> None:
    path = write(made_plugins.WITHOUT_TORCH)
    code = f"import sys, bncli.plugins as p\np.register(*p.load_plugins([{path!r}]))\nprint('torch' in sys.modules)"
    assert run(code, installed).stdout == "False\n"


def test_a_name_of_bncli_looks_into_no_installed_package(installed: Path) -> None:
    code = SCAN_ENDS + (
        "import bncli.plugins\nfrom bncli.config import read_study\nfrom bncli.presets import preset_path\n"
        "print(read_study(preset_path('quickstart')).reference)"
    )
    assert run(code, installed).returncode == 0
    assert run(code + "\nfrom bncli.norms import NORMS\nNORMS['half']", installed).stderr == "scanned\n"


def test_a_broken_plug_in_ends_a_command_with_2_and_no_traceback(write: Write, tmp_path: Path) -> None:
    path = write("1 / 0\n")
    done = run(COMMAND.format(f"'ls', 'norms', '--plugin', {path!r}"), tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"plug-in {path}: ZeroDivisionError: division by zero (mine.py:1)\n"


def test_what_a_plug_in_prints_while_it_is_read_is_not_on_stdout(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    load_plugins([write("print('hello')\nNORMS = {}\n")])
    assert capsys.readouterr() == ("", "hello\n")


def test_an_error_of_a_plug_in_is_one_of_bncli(write: Write) -> None:
    with pytest.raises(BncliError):
        load_plugins([write("1 / 0\n")])
    assert Catalogue.installed is plugins.register_installed


MODELS_OF_MINE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, channels=4):
        super().__init__(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels))

ready = Net()

def wrong():
    return 3
"""


def test_a_model_is_made_by_a_class_a_function_or_is_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bncli.plugins.models import build_model

    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(MODELS_OF_MINE)
    made: Any = build_model("nets.py:Net", channels=6)
    assert made[0].out_channels == 6
    first, second = build_model("nets.py:ready"), build_model("nets.py:ready")
    assert first is not second  # nobody changes the one that is there
    with pytest.raises(ConfigError, match=r"^MODEL nets\.py:wrong: must give a torch module, got int$"):
        build_model("nets.py:wrong")
    with pytest.raises(ConfigError, match=r"^--model nets\.py:Net: cannot be made: TypeError: .*'colour'"):
        build_model("nets.py:Net", "--model", colour=1)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_list_of_models_that_is_not_installed_is_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from bncli.plugins.models import build_model

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=f"{package} is not installed: pip install {package}$"):
        build_model(f"{package}:resnet18")


TWO_MODELS = """
from torch import nn

def small(norm, features, classes, *, width: int = 8):
    return nn.Sequential(nn.Linear(features, width), norm(width), nn.Linear(width, classes))

class Nets:
    large = small
"""


def test_one_function_of_a_file_is_named_alone_and_two_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "_my nets.py"
    path.write_text(TWO_MODELS)
    small, large = (NamedCode("MODELS", f"{path}:{name}") for name in ("small", "Nets.large"))
    assert (small.name, large.name) == ("my_nets.small", "my_nets.Nets.large")
    with using([small, large]) as both:
        assert [plugin.names for plugin in both] == [{"MODELS": (small.name,)}, {"MODELS": (large.name,)}]
        assert len({plugin.hash for plugin in both}) == 2
        assert MODELS[small.name].code == MODELS[large.name].code  # a run counts by the code of the file
        with using([small]):
            pass
        assert callable(MODELS.load(large.name))
        parts = ship(both)
    assert small.name not in MODELS
    path.unlink()
    with using(parts):  # as in a worker that lacks the file
        assert all(callable(MODELS.load(code.name)) for code in (small, large))
    other = tmp_path / "nets.py"
    other.write_text(TWO_MODELS)
    with pytest.raises(ConfigError, match=r"^--model .*nets\.py:smal: .* has no 'smal'; did you mean 'small'\?$"):
        load_plugins([NamedCode("MODELS", f"{other}:smal")])
