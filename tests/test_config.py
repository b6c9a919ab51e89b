"""What a preset means."""

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bncli.config import read_preset, read_study
from bncli.config.study import Study, study_of
from bncli.config.yaml_tree import parse
from bncli.errors import ConfigError
from bncli.presets import preset_names, preset_path

MINIMAL: dict[str, Any] = {"variants": {"none": "none", "batch": "batch"}, "reference": "none", "seeds": 2}


def read(tmp_path: Path, text: str, *sets: str, **more: Any) -> Study:
    preset = tmp_path / "study.yaml"
    preset.write_text(text + "\nvariants: {none: none, batch: batch}\nreference: none\nseeds: 3\n")
    return read_study(preset, sets, **more)


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_is_valid(name: str) -> None:
    assert read_preset(preset_path(name)).question


@pytest.mark.parametrize("name", [name for name in preset_names() if not name.startswith("bench")])
def test_a_preset_judges_at_most_three_claims_of_one_paper(name: str) -> None:
    study = read_study(preset_path(name))
    papers = Counter[str]()
    for claim in study.claims:
        paper = re.match(r".+? (19|20)\d\d", claim.source)  # "Ioffe & Szegedy 2015, section 4.1"
        settings = [len(values) for key, values in study.sweep.items() if key not in claim.at]
        papers[paper[0] if paper else claim.source] += math.prod(settings)
    assert max(papers.values(), default=0) <= 3


@pytest.mark.parametrize(
    ("text", "value"),
    [("off", "off"), ("no", "no"), ("1e-5", 1e-5), ("12:30", "12:30"), ("0b1", "0b1"), ("~", None), ("true", True),
     ("'1'", "1"), ("007", 7), ("+.5", 0.5), ("2024-01-01", "2024-01-01"), ("-.inf", float("-inf"))],
)  # fmt: skip
def test_scalars_are_read_as_yaml_1_2_says(text: str, value: Any) -> None:
    assert parse(f"a: {text}").data == {"a": value}


def test_a_norm_may_be_a_name_or_a_mapping_and_every_option_is_filled_in() -> None:
    study = study_of(
        {**MINIMAL, "variants": {"none": "none", "a": "zca", "b": {"norm": {"name": "zca", "eps": 0.001}}}}
    )
    assert study.variants["a"] == study.variants["b"]
    assert study.variants["a"].norm.options["group_size"] == 16


def test_a_variant_overrides_the_recipe() -> None:
    study = study_of({**MINIMAL, "variants": {"none": "none", "x5": {"norm": "batch", "training": {"lr": 0.5}}}})
    assert (study.training_of("none").lr, study.training_of("x5").lr) == (0.1, 0.5)
    assert study.training_of("x5").steps == study.training.steps


def test_set_changes_one_key(tmp_path: Path) -> None:
    assert read(tmp_path, "training: {lr: 0.1, steps: 7}", "training.lr=1e-3").training.lr == 1e-3


def test_set_reaches_into_a_part_that_is_only_a_name(tmp_path: Path) -> None:
    study = read(tmp_path, "training: {optimizer: sgd}", "training.optimizer.momentum=0.9")
    assert study.training.optimizer.options == {"momentum": 0.9, "nesterov": False}


def test_set_reaches_into_a_variant_that_is_only_a_name() -> None:
    tree = {**MINIMAL, "variants": {"none": "none", "batch": "batch"}}
    changed = read_study(tree, ["variants.batch.norm.eps=1e-3", "variants.batch.training.lr=0.5"])
    assert changed.variants["batch"].norm.options["eps"] == 1e-3
    assert changed.training_of("batch").lr == 0.5


def test_set_takes_a_list_as_one_value(tmp_path: Path) -> None:
    assert read(tmp_path, "", "model.hidden=[8, 4]").model.options["hidden"] == [8, 4]


def test_several_values_sweep(tmp_path: Path) -> None:
    study = read(tmp_path, "", "training.lr=0.1,0.5", "training.batch_size=20,40")
    settings = [setting for setting, _ in study.settings()]
    assert settings[1] == {"training.lr": 0.1, "training.batch_size": 40}
    assert [at.training.lr for _, at in study.settings()] == [0.1, 0.1, 0.5, 0.5]


def test_one_value_of_a_swept_key_ends_the_sweep_and_keeps_the_claims_about_it() -> None:
    asked = read_study(preset_path("batch-size"), ["training.batch_size=2"])
    assert (asked.sweep, asked.training.batch_size) == ({}, 2)
    assert [(claim.of, claim.at) for claim in asked.claims] == [("group", {}), ("batch", {})]
    fewer = read_study(preset_path("batch-size"), ["training.batch_size=4,32"])
    assert [claim.at for claim in fewer.claims] == [{"training.batch_size": n} for n in (4, 32, 4)]


def test_one_value_of_a_tuned_key_is_refused_unless_it_is_tuned_no_more() -> None:
    with pytest.raises(
        ConfigError, match=r"--set training\.lr=1: tune\.over chooses training\.lr for each variant; --set tune"
    ):
        read_study(preset_path("bert"), ["training.lr=1"])
    assert read_study(preset_path("bert"), ["training.lr=1", "tune=null"]).training.lr == 1


def test_seeds_are_a_number_a_range_or_a_list(tmp_path: Path) -> None:
    assert read(tmp_path, "", seeds="5").seeds == (0, 1, 2, 3, 4)
    assert read(tmp_path, "", seeds="7..9").seeds == (7, 8, 9)
    assert study_of({**MINIMAL, "seeds": [3, 1]}).seeds == (3, 1)


def test_variants_keeps_the_reference_and_adds_norms_by_name(tmp_path: Path) -> None:
    assert list(read(tmp_path, "", variants=["zca"]).variants) == ["none", "zca"]


def test_a_study_survives_its_own_dump() -> None:
    study = study_of({**MINIMAL, "sweep": {"training.lr": [0.1, 0.2]}})
    assert study_of(study.model_dump(mode="json")) == study


def test_one_measure_needs_no_brackets(tmp_path: Path) -> None:
    assert read(tmp_path, "measures: final_accuracy").measures == ("final_accuracy",)
    assert read(tmp_path, "", "measures=final_loss").measures == ("final_loss",)
