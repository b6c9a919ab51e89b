"""Cases, their names and their filters; and bench presets with every mistake in its line."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bncli.config import read_bench, read_study
from bncli.errors import ConfigError
from bncli.presets import preset_names, preset_path
from bncli.timing.cases import Case, choose_cases, expand_cases, matches
from bncli.timing.documents import read_case

GRID = """cases:
  - norms: [batch, {name: batch, impl: plain}]
    shapes: [N32C64H56W56, N256C512]
    layouts: [nchw, channels_last]
    passes: train-forward
"""


def bench(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def mistakes(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_bench(path)
    return str(caught.value).splitlines()


def test_a_grid_is_every_combination_and_rows_of_channels_have_one_layout(tmp_path: Path) -> None:
    assert [case.name for case in expand_cases(read_bench(bench(tmp_path, GRID)), "cpu")] == [
        "batch/train-forward/N32C64H56W56/f32/nchw/cpu",
        "batch,impl=plain/train-forward/N32C64H56W56/f32/nchw/cpu",
        "batch/train-forward/N32C64H56W56/f32/channels_last/cpu",
        "batch,impl=plain/train-forward/N32C64H56W56/f32/channels_last/cpu",
        "batch/train-forward/N256C512/f32/nc/cpu",
        "batch,impl=plain/train-forward/N256C512/f32/nc/cpu",
    ]


def test_threads_and_compilation_end_a_name_where_they_are_not_the_default() -> None:
    case = Case("zca", (("group_size", 8), ("eps", 1e-4)), "train-both", (8, 16), "bf16", "nc", "cuda", 4, True)
    assert case.name == "zca,group_size=8,eps=0.0001/train-both/N8C16/bf16/nc/cuda/t4/compiled"


def test_a_case_survives_json() -> None:
    case = Case("zca", (("group_size", 8), ("eps", 1e-4)), "train-both", (8, 16), "bf16", "nc", "cuda", 4, True)
    assert read_case(json.loads(json.dumps(asdict(case)))) == case


def test_a_kernel_of_the_command_line_joins_every_grid(tmp_path: Path) -> None:
    cases = expand_cases(read_bench(bench(tmp_path, GRID)), "cpu", ["mine:Norm"])
    assert sum(case.is_kernel for case in cases) == 3
    assert cases[2].name == "mine:Norm/train-forward/N32C64H56W56/f32/nchw/cpu"


@pytest.mark.parametrize(
    ("pattern", "fits"), [("zca/", True), ("zca/*/cpu", True), ("*f32*", True), ("zca", True), ("batch", False)]
)
def test_a_pattern_is_a_part_of_the_name_or_a_wildcard(pattern: str, fits: bool) -> None:
    assert matches("zca/train-both/N8C16/f32/nc/cpu", pattern) is fits


def test_only_and_skip_choose(tmp_path: Path) -> None:
    cases = expand_cases(read_bench(bench(tmp_path, GRID)), "cpu")
    kept = choose_cases(cases, only=["nchw", "/nc/"], skip=["impl=plain"])
    assert [case.layout for case in kept] == ["nchw", "nc"]


@pytest.mark.parametrize(
    ("only", "skip", "line"),
    [
        (["chanels_last"], [], "--only chanels_last: no case matches; nearest: channels_last"),
        ([], ["bacth"], "--skip bacth: no case matches; nearest: batch"),
        (["batch"], ["batch"], "--only and --skip leave none of the 6 cases"),
        (
            ["§"],
            [],
            "--only §: no case matches (parts of names: batch, train-forward, N32C64H56W56, f32, nchw, cpu, "
            "batch,impl=plain, channels_last, N256C512, nc)",
        ),
    ],
)
def test_a_filter_that_leaves_nothing_is_a_mistake(tmp_path: Path, only: list[str], skip: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_cases(expand_cases(read_bench(bench(tmp_path, GRID)), "cpu"), only, skip)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("shapes: [N32", "shapes: [X32", "mine.yaml:3: cases.0.shapes.0: must be written like N32C64H56W56, 32x64x56x56 or N256C512, got 'X32C64H56W56'"),
        ("layouts:", "layout:", "mine.yaml:4: cases.0.layout: no such key; did you mean 'layouts'?"),
        ("train-forward", "training", "mine.yaml:5: cases.0.passes.0: must be one of 'train-forward', 'train-backward', 'train-both' or 'eval-forward', got 'training'"),
        ("[batch,", "[bacth,", "mine.yaml:2: cases.0.norms.0: no norm is called 'bacth'; did you mean 'batch'?"),
        ("[batch,", "[weight,", "mine.yaml:2: cases.0.norms.0: norm 'weight' acts on a weight, not on activations; it has no case to time"),
        ("[batch,", "[instance,", "mine.yaml:2: cases.0.norms.0: norm 'instance' takes its statistics over locations, and N256C512 has none"),
        ("N256C512", "N1C512", "mine.yaml:2: cases.0.norms.0: norm 'batch' needs more than one value a channel, and N1C512 has one"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_bench_preset_is_said_with_its_line(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert mistakes(bench(tmp_path, GRID.replace(old, new)))[0].startswith(line)


def test_each_kind_of_preset_names_the_command_that_runs_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^mine\.yaml: is a bench preset; run it by `bncli bench`$"):
        read_study(bench(tmp_path, GRID))
    with pytest.raises(
        ConfigError, match=r"^quickstart\.yaml: is a study; run it by `bncli compare` or `bncli train`$"
    ):
        read_bench(preset_path("quickstart"))


@pytest.mark.parametrize("name", [name for name in preset_names() if name.startswith("bench-")])
def test_a_shipped_bench_preset_says_how_many_cases_it_has(name: str) -> None:
    path = preset_path(name)
    cases = expand_cases(read_bench(path), "cpu")
    assert f"# {len(cases)} cases; " in path.read_text()
    assert len({case.name for case in cases}) == len(cases)
