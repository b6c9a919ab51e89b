"""Networks that bncli did not write: made for the data, their norms replaced, drawn alike for every variant."""

import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bncli
from bncli.config import read_study
from bncli.engine.network import build
from bncli.errors import BncliError, ConfigError
from bncli.models import MODELS
from bncli.models.foreign import _listed
from bncli.plan import Run, runs_of
from bncli.plugins import using
from bncli.plugins.code import NamedCode
from bncli.session.study import Yours, code_of

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10, in_channels=1, width: int = 4, block=nn.Conv2d):
        super().__init__()
        self.conv = block(in_channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.head = nn.Linear(width * 64, num_classes)

    def forward(self, x):
        x = self.bn(self.conv(x)).relu()
        return self.head(x.view(len(x), -1))  # which fails where channels are last

class Pair(Net):
    def forward(self, x):
        return super().forward(x), x

class Functional(Net):
    def forward(self, x):
        return nn.functional.layer_norm(super().forward(x), [10])

class Half(Net):
    def forward(self, x):
        return super().forward(x)[:, :5]

class Normed(Net):
    def __init__(self, num_classes=10):
        super().__init__(num_classes)
        self.conv = nn.utils.parametrizations.spectral_norm(self.conv)

class Shape(Net):
    def forward(self, x):
        return x

ready = Net(num_classes=7)
big = lambda shape, outputs: Net(outputs, shape[0], shape[1])

def absolute(outputs, targets):
    return (outputs - nn.functional.one_hot(targets, 10)).abs().mean()

def several(outputs, targets):
    return outputs.sum(-1)
"""
STUDY = {
    "data": "digits",
    "training": {"steps": 20, "batch_size": 16, "optimizer": "adamw", "lr": 0.01},
    "evaluation": {"every": 10},
    "variants": {"none": "none", "batch": "batch", "group": {"norm": {"name": "group", "groups": 2}}},
    "reference": "none",
    "seeds": 1,
}


@pytest.fixture(autouse=True)
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("nets.py").write_text(NETS)


def runs(model: Mapping[str, Any], **changes: Any) -> dict[str, Run]:
    return {run.variant: run for run in runs_of(read_study({**STUDY, "model": model, **changes}), "cpu")}


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_variants_differ_in_their_norms_alone_and_a_seed_draws_them_alike() -> None:
    with using([NamedCode("MODELS", "nets.py:Net")]):
        planned = runs({"name": "nets.Net", "width": 6}, seeds=2)
        models = {variant: build(run) for variant, run in planned.items()}
        again, other = build(planned["batch"]), build(runs({"name": "nets.Net", "width": 6}, seeds=[5])["batch"])
    assert type(models["batch"].bn).__name__ == "BatchNorm"
    assert type(models["group"].bn).__name__ == "GroupNorm"
    shared = ("conv.weight", "head.weight", "head.bias")
    for model in models.values():
        assert model.conv.out_channels == 6
        assert all(torch.equal(model.state_dict()[name], again.state_dict()[name]) for name in shared)
        assert model(torch.rand(3, 64)).shape == (3, 10)
    assert set(models["batch"].state_dict()) == set(models["group"].state_dict()) | {
        "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"
    }  # fmt: skip
    assert models["none"].conv.bias is not None  # or it could not shift
    assert not torch.equal(other.conv.weight, again.conv.weight)


def test_the_head_is_made_for_the_classes_where_the_network_does_not_take_them() -> None:
    with using([NamedCode("MODELS", "nets.py:ready"), NamedCode("MODELS", "nets.py:Shape")]):
        model = build(runs({"name": "nets.ready"})["batch"])
        assert model.head.out_features == 10
        report = MODELS.load("nets.ready").report
        from bncli.models.unit import Normaliser

        notes = report((1, 8, 8), 10, Normaliser(name="batch"))[2]
        assert notes == ["its last layer head gave 7 numbers; it is drawn anew for 10"]
        with pytest.raises(
            ConfigError, match=r"must give \(2, 10\), a number for each class, and gives \(2, 1, 8, 8\)"
        ):
            build(runs({"name": "nets.Shape"})["batch"])


def test_a_network_that_gives_less_than_a_number_for_each_class_is_refused_before_training() -> None:
    with using([NamedCode("MODELS", "nets.py:Half")]), pytest.raises(ConfigError, match=r"must give \(2, 10\)"):
        build(runs({"name": "nets.Half"})["batch"])


def test_a_norm_of_weights_that_the_network_has_stays() -> None:
    with using([NamedCode("MODELS", "nets.py:Normed")]):
        model = build(runs({"name": "nets.Normed"})["group"])
    assert type(model.bn).__name__ == "GroupNorm"
    assert type(model.conv.parametrizations.weight[0]).__name__ == "_SpectralNorm"


def test_shapes_that_a_network_asks_for_are_those_after_resizing_and_repeating() -> None:
    with using([NamedCode("MODELS", "nets.py:big"), NamedCode("MODELS", "nets.py:Pair")]):
        model = build(runs({"name": "nets.big", "resize": [8, 8], "repeat": True})["batch"])
        assert model.conv.in_channels == 3
        assert model.conv.out_channels == 8
        assert build(runs({"name": "nets.Pair"})["none"])(torch.rand(2, 64)).shape == (2, 10)  # the first that it gives
        with pytest.raises(ConfigError, match=r"^model nets\.big: .*shape"):
            build(runs({"name": "nets.big", "resize": [9, 9]})["batch"])


def test_what_a_variant_does_not_say_stays_as_the_network_has_it() -> None:
    Path("nets.py").write_text(NETS.replace("nn.BatchNorm2d(width)", "nn.BatchNorm2d(width, eps=0.25, momentum=0.3)"))
    with using([NamedCode("MODELS", "nets.py:Net")]):
        planned = runs(
            {"name": "nets.Net"},
            variants={"kept": "batch", "set": {"norm": {"name": "batch", "eps": 0.5}}, "group": "group"},
            reference="kept",
        )
        norms = {variant: build(run).bn for variant, run in planned.items()}
    assert {variant: norm.eps for variant, norm in norms.items()} == {"kept": 0.25, "set": 0.5, "group": 0.25}
    assert norms["kept"].momentum == norms["set"].momentum == 0.3


def weights_of(change: Any = None, **sizes: int) -> str:
    with using([NamedCode("MODELS", "nets.py:Net")]):
        trained = state(MODELS.load("nets.Net").report((1, 8, 8), 10, _Batch, **sizes)[0])
    trained = {name: torch.full_like(value, 0.5) for name, value in trained.items()}
    torch.save(change(trained) if change else trained, "trained.pt")
    return "trained.pt"


class _Batch:
    name, options = "batch", {}


def test_trained_weights_are_loaded_before_the_norms_are_replaced() -> None:
    weights_of(lambda found: {"state_dict": {f"module.{name}": value for name, value in found.items()}})
    with using([NamedCode("MODELS", "nets.py:Net")]):
        planned = runs({"name": "nets.Net", "weights": "trained.pt"})
        for variant in ("batch", "group"):
            found = state(build(planned[variant]))
            assert all((found[name] == 0.5).all() for name in ("conv.weight", "bn.weight", "head.bias"))
        assert (state(build(planned["batch"]))["bn.running_mean"] == 0.5).all()
        first = planned["batch"].id
        Path("trained.pt").rename("moved.pt")
        assert runs({"name": "nets.Net", "weights": "moved.pt"})["batch"].id == first  # by what it holds
        weights_of()
        assert runs({"name": "nets.Net", "weights": "trained.pt"})["batch"].id != first


def test_weights_of_other_classes_leave_the_last_layer_as_drawn_and_those_of_another_network_are_refused() -> None:
    weights_of(lambda found: {**found, "conv.weight": torch.zeros(4, 1, 5, 5)})
    with using([NamedCode("MODELS", "nets.py:Net")]):
        wrong = runs({"name": "nets.Net", "weights": "trained.pt"})["batch"]
        with pytest.raises(BncliError, match=r"conv\.weight \[4, 1, 5, 5\] where \[4, 1, 3, 3\] is expected"):
            build(wrong)
        weights_of(lambda found: {**found, "conv.weight": torch.full((4, 1, 3, 3), torch.nan)})
        wrong = runs({"name": "nets.Net", "weights": "trained.pt"})["batch"]
        with pytest.raises(BncliError, match=r"hold values that are not finite, in conv\.weight"):
            build(wrong)
    weights_of(lambda found: {**found, "head.weight": torch.zeros(7, 256), "head.bias": torch.zeros(7)})
    with using([NamedCode("MODELS", "nets.py:Net")]):
        run = runs({"name": "nets.Net", "weights": "trained.pt"})["batch"]
        assert (state(build(run))["conv.weight"] == 0.5).all()
        assert state(build(run))["head.weight"].std() > 0
        weights_of(lambda found: {f"encoder.{name}": value for name, value in found.items()})
        wrong = runs({"name": "nets.Net", "weights": "trained.pt"})["batch"]
        with pytest.raises(BncliError, match=r"weights trained\.pt are of another network: 10 names or shapes differ"):
            build(wrong)
        with pytest.raises(ConfigError, match=r"model\.weights: .*/none\.pt: No such file"):
            runs({"name": "nets.Net", "weights": "none.pt"})


class Attack:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def test_weights_run_no_code() -> None:
    Path("trained.pt").write_bytes(pickle.dumps({"conv.weight": Attack()}))
    with using([NamedCode("MODELS", "nets.py:Net")]):
        run = runs({"name": "nets.Net", "weights": "trained.pt"})["batch"]
        with pytest.raises(BncliError, match=r"weights trained\.pt cannot be read as a state_dict"):
            build(run)
    assert not Path("executed").exists()


@pytest.mark.parametrize("section", ["model", "data", "norm", "optimizer", "loss"])
def test_a_preset_names_no_code(section: str) -> None:
    text = "nets.py:Net"
    study: dict[str, Any] = {**STUDY, "model": "mlp"}
    if section in ("model", "data"):
        study[section] = text
    elif section == "norm":
        study["variants"] = {"none": "none", "mine": text}
    else:
        study["training"] = {**study["training"], section: text}
    Path("nets.py").write_text("open('executed', 'w')")
    with pytest.raises(ConfigError, match=r"'nets\.py:Net': a preset cannot name code; give it by the command line"):
        read_study(study)
    assert not Path("executed").exists()


@pytest.fixture
def torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A torchvision of one model, whatever is installed."""

    def forget() -> dict[str, Any]:
        _listed.cache_clear()
        return {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "torchvision"}

    info, package = tmp_path / "site" / "torchvision-9.1.dist-info", tmp_path / "site" / "torchvision"
    for folder in (info, package):
        folder.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 9.1\n")
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(
        NETS + "def list_models(): return ['net18']\n"
        "def get_model(name, *, weights, num_classes, **more): return Net(num_classes, **more)\n"
    )
    installed = forget()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    forget()
    sys.modules.update(installed)


@pytest.mark.usefixtures("torchvision")
def test_a_preset_names_models_of_an_installed_packages_own_list() -> None:
    named = {"name": "torchvision:net18", "arguments": {"width": 5}}
    model = build(runs(named)["batch"])
    assert model.conv.out_channels == 5
    assert runs(named)["batch"].spec()["code"] == ["torchvision 9.1"]
    with pytest.raises(ConfigError, match=r"torchvision has no model 'net81'; did you mean 'net18'\?"):
        build(runs({"name": "torchvision:net81"})["batch"])
    with pytest.raises(ConfigError, match="weights may load or download things; trained weights are given by weights"):
        runs({"name": "torchvision:net18", "arguments": {"weights": "DEFAULT"}})


def test_a_comparison_of_a_class_of_somebodys_ends_in_a_verdict_and_tells_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    how: dict[str, Any] = {"model": "nets.py:Net", "executor": "thread", "store": tmp_path / "store", "seeds": 2}
    found = bncli.compare(STUDY, **how, on_event=lambda event: said.append(getattr(event, "text", "")))
    assert [arm.variant for arm in found.findings.arms] == ["none", "batch", "group"]
    assert all(run.result and run.result.info.status == "done" for run in found.runs)
    assert "nets.Net (2,610 parameters)" in found.findings.setup
    assert any(text.startswith("6 runs to train: about ") for text in said)
    monkeypatch.setattr(subprocess, "run", None)  # what was found is kept: no process is asked again
    stored = bncli.compare(STUDY, **how)
    assert stored.document()["verdicts"] == found.document()["verdicts"]
    Path("nets.py").write_text(NETS.replace("relu()", "tanh()"))
    with using(code_of(yours := Yours(model="nets.py:Net"))):
        from bncli.session.study import read_preset

        changed = {run.id for run in runs_of(read_preset(STUDY, yours=yours)[1], "cpu")}
    assert not changed & {run.id for run in found.runs}  # it is another network


def test_what_cannot_train_is_said_of_its_variant_before_anything_is_trained(tmp_path: Path) -> None:
    study = {**STUDY, "variants": {"none": "none", "frozen": "frozen", "batch": "batch"}}
    with pytest.raises(ConfigError) as error:
        bncli.compare(study, model="nets.py:Net", executor="thread", store=tmp_path / "store")
    assert str(error.value).startswith("variants.frozen: model nets.Net: bn: BatchNorm2d ")
    assert not (tmp_path / "store").exists()


def test_norms_that_are_no_modules_and_weights_of_another_norm_are_warned_of(tmp_path: Path) -> None:
    weights_of()
    study = {**STUDY, "variants": {"none": "none", "batch": "batch"}}
    found = bncli.compare(
        study, model="nets.py:Functional", weights="trained.pt", executor="thread", store=tmp_path / "store"
    )
    assert [warning for warning in found.findings.warnings if "seed" not in warning][:2] == [
        "model: layer_norm is no module and stays as it is in every variant; make it one to have it replaced",
        "trained.pt was trained with BatchNorm2d: every other norm starts from weights that were not trained with it; "
        "leave --weights out to train all from the start",
    ]


def test_a_loss_goes_by_name_or_is_a_function_of_somebodys(tmp_path: Path) -> None:
    study = {**STUDY, "model": "mlp", "variants": {"none": "none", "batch": "batch"}}
    how: dict[str, Any] = {"executor": "thread", "store": tmp_path / "store"}
    found = {
        loss: bncli.compare(study, loss=loss, **how).runs[0].result.curve("loss")[1][0]  # type: ignore[union-attr]
        for loss in (None, "cross_entropy", "squared_error", "nets.py:absolute")
    }
    assert found[None] == found["cross_entropy"]
    assert len(set(found.values())) == 3
    with pytest.raises(ConfigError, match=r"must give one number, the mean over the batch, and gives \[300\]"):
        bncli.compare(study, loss="nets.py:several", **how)


def test_a_class_is_named_by_its_place_and_what_has_none_is_refused(tmp_path: Path) -> None:
    from torch.nn import Linear

    assert Yours(model=Linear).changes()["model"][0] == {"name": "linear.Linear"}
    for given in (nn.Linear(2, 3), lambda: None, 3):
        with pytest.raises(ConfigError, match=r"^--model: "):
            Yours(model=given).changes()  # type: ignore[arg-type]
