"""Every key and every option says what it means, on the terminal, in docs/presets.md and in the schema for editors."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import made_schema
import pytest
from typer.testing import CliRunner

from bncli.catalogue import Key
from bncli.cli import app
from bncli.cli.ls import KINDS, _catalogue
from bncli.config import PRESETS, read_bench, read_study
from bncli.config.keys import list_sections
from bncli.config.yaml_tree import parse
from bncli.errors import ConfigError
from bncli.presets import preset_names, preset_path

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = json.loads((DOCS / "preset.schema.json").read_text())
CATALOGUES = [kind for kind in KINDS if kind != "presets"]
STUDY: dict[str, Any] = {"variants": {"none": "none", "batch": "batch"}, "reference": "none", "seeds": 2}
BENCH: dict[str, Any] = {"cases": [{"norms": ["batch"], "shapes": ["N32C64"]}]}


def every_key() -> Iterator[tuple[str, Key]]:
    for place, keys in list_sections(PRESETS).items():
        yield from ((f"{place}.{key.name}", key) for key in keys)
    for kind in CATALOGUES:
        for name, row in _catalogue(kind).own.items():
            yield from ((f"{kind} {name} {key.name}", key) for key in row.list_options())


KEYS = dict(every_key())


@pytest.mark.parametrize("place", KEYS)
def test_every_key_says_what_it_means_and_every_quantity_its_unit(place: str) -> None:
    key = KEYS[place]
    assert key.meaning, "give it a Meaning(...)"
    assert "see its meaning" not in key.range, "give its type a Spelling(...)"
    assert key.unit or "number" not in key.range.partition("{")[0], "give it a unit"


def test_every_section_of_every_kind_of_preset_is_listed() -> None:
    places = list(list_sections(PRESETS))
    assert {"study", "training.augment", "variants", "claims.ratio", "bench.cases", "observed.metrics"} <= set(places)
    assert [key.name for key in list_sections(PRESETS)["study"]] == list(PRESETS["study"].model_fields)


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["ls", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("kind", [kind for kind in CATALOGUES if _catalogue(kind).own])
def test_a_card_of_every_name_of_every_list_gives_its_options(kind: str) -> None:
    name, row = max(_catalogue(kind).own.items(), key=lambda item: len(item[1].options))
    text = invoke(kind, name)
    assert text.startswith(f"{name}: ")
    assert all(f"  {key.name} " in text for key in row.list_options())


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^no model is called 'mpl'; did you mean 'mlp'\? \(known: convnet, "):
        CliRunner().invoke(app, ["ls", "models", "mpl"], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"^no key or section is called 'trainig'; did you mean 'training'\? \(sec"):
        CliRunner().invoke(app, ["ls", "keys", "trainig"], catch_exceptions=False)


def test_keys_of_a_section_and_one_key_are_listed() -> None:
    assert invoke("keys", "training.augment").splitlines()[0].startswith("  crop    0  (whole number >= 0) [pixels]  ")
    assert invoke("keys", "training.lr") == "  lr  0.1  (number > 0) [step a unit of gradient]  learning rate\n"
    assert invoke("keys", "bench").startswith("  question ")
    assert "\ntraining:\n  steps " in invoke("keys")


def test_a_preset_by_name_is_printed_as_it_is() -> None:
    assert invoke("presets", "smoke") == preset_path("smoke").read_text()


def test_lists_and_keys_are_written_for_programs() -> None:
    (row,) = json.loads(invoke("optimizers", "adamw", "--json", "-"))["optimizers"]
    assert row["options"][0] == {
        "name": "beta1", "range": "number >= 0 and < 1", "default": "0.9", "unit": "share a step",
        "meaning": "decay of the gradient's average",
    }  # fmt: skip
    assert set(json.loads(invoke("--json", "-"))) == set(KINDS)
    (key,) = json.loads(invoke("keys", "training.steps", "--json", "-"))["training.steps"]
    assert (key["default"], key["unit"]) == ("2000", "optimiser steps")
    listed = json.loads(invoke("norms", "--json", "-"))["norms"]
    assert [row["name"] for row in listed] == list(_catalogue("norms").own)


@pytest.mark.parametrize("name", preset_names())
def test_the_schema_accepts_every_shipped_preset(name: str) -> None:
    assert made_schema.fits(parse(preset_path(name).read_text()).data, SCHEMA, SCHEMA)


def fits(document: dict[str, Any]) -> bool:
    """Whether the schema takes a document, which must be what bncli itself says."""
    found = made_schema.fits(document, SCHEMA, SCHEMA)
    with nullcontext() if found else pytest.raises(ConfigError):
        read_bench(document) if "cases" in document else read_study(document)
    return found


@pytest.mark.parametrize(
    "more",
    [{"seeds": "0..9"}, {"seeds": "0,5"}, {"seeds": [3, 7]}, {"seeds": {"until": "decided"}}, {"seeds": 1e1},
     {"seeds": {"until": "decided", "max": 20}}, {"probes": "light"}, {"probes": {"metrics": "full", "units": 3}},
     {"probes": {"metrics": ["w1"]}}, {"model": "mlp"}, {"model": {"hidden": [5]}}, {"data": {"binarize": 127}},
     {"model": {"name": "resnet", "depth": 8}}, {"training": {"optimizer": {"momentum": 0.5}, "steps": 1e2}},
     {"training": {"schedule": {"name": "cosine", "warmup": 5}, "clip": None, "augment": {"flip": True}}},
     {"variants": {"none": {"norm": {"name": "batch", "momentum": "cumulative"}, "training": {"lr": 0.5}}}},
     {"variants": {"none": {"norm": "batch", "evaluation": {"statistics": "precise"}}}},
     {"sweep": {"training.lr": [0.1, 0.2], "model.hidden": [[8], [9]]}}, {"target": {"final_of": "batch"}},
     {"model": {"init": {"normal": 0.5}}}, {"tune": {"over": {"training.lr": [0.1, 0.2]}}}, {"bisect": {}},
     {"claims": [{"measure": "final_accuracy", "of": "none", "level": {"below": 0.5}, "source": "x"}]}],
    ids=str,
)  # fmt: skip
def test_the_schema_knows_every_short_form_of_a_study(more: dict[str, Any]) -> None:
    assert fits(STUDY | more)


@pytest.mark.parametrize(
    "more",
    [{"trainig": {}}, {"training": {"learning_rate": 1}}, {"training": {"augment": {"flop": 1}}}, {"model": "mpl"},
     {"model": {"hiden": [5]}}, {"model": {"name": "resnet", "hidden": [5]}}, {"data": {"name": "mnist", "file": "x"}},
     {"variants": {"none": {"norm": {"name": "batch", "group": 3}}}}, {"variants": {"none": {"nrm": "batch"}}},
     {"variants": {"none": {"norm": "none", "training": {"rl": 1}}}}, {"training": {"steps": 2.5}},
     {"training": {"lr": 0}}, {"seeds": "some"}, {"seeds": {"until": "tired"}}, {"probes": "heavy"},
     {"probes": {"metrics": ["w7"]}}, {"sweep": {"seeds": [1, 2]}}, {"sweep": {"training.lr": []}}, {"variants": {}},
     {"training": {"optimizer": {"name": "adam", "momentum": 0.5}}}, {"model": {"init": {"normal": 0}}},
     {"model": {"init": "xavier"}}, {"measures": ["speed"]}, {"training": {"precision": "half"}}],
    ids=str,
)  # fmt: skip
def test_the_schema_refuses_what_bncli_refuses_of_a_study(more: dict[str, Any]) -> None:
    assert not fits(STUDY | more)


@pytest.mark.parametrize(
    ("more", "well"),
    [({}, True), ({"truth": {"name": "batch", "eps": 1e-3}}, True), ({"budgt": 3}, False),
     ({"cases": [{"norms": "batch", "shapes": "N32C64H5W5", "threads": 2}]}, True),
     ({"cases": [{"norms": "bacth", "shapes": "N32C64"}]}, False),
     ({"cases": [{"norms": "batch", "shapes": "32x64"}]}, True),
     ({"cases": [{"norms": "batch", "shapes": "32x64x5"}]}, False),
     ({"cases": [{"norms": "batch", "shapes": ["N32C64"], "layout": "nchw"}]}, False),
     ({"claims": [{"of": "batch", "ratio": {"below": 3}, "source": ""}]}, False)],
    ids=str,
)  # fmt: skip
def test_the_schema_knows_bench_presets(more: dict[str, Any], well: bool) -> None:
    assert fits(BENCH | more) == well


def test_the_page_of_keys_shows_a_preset_that_is_valid() -> None:
    text = (DOCS / "presets.md").read_text()
    assert read_study(parse(text.partition("```yaml\n")[2].partition("```")[0]).data, data="mnist").seeds == (
        0,
        1,
        2,
        3,
        4,
    )
