"""Grids in the words of a command line: norms with options, shapes, and the other axes, each mistake in one line."""

import pytest

from bncli.config import read_bench
from bncli.errors import ConfigError
from bncli.presets import preset_path
from bncli.timing.cases import expand_cases
from bncli.timing.grids import Axes, choose_grids, read_norm, split_list


def names(axes: Axes, preset: str = "") -> list[str]:
    bench, kernels = choose_grids(read_bench(preset_path(preset)) if preset else None, axes)
    return [case.name for case in expand_cases(bench, "cpu", kernels)]


def test_norms_without_a_preset_are_a_grid_of_their_own() -> None:
    axes = Axes(
        norm=["batch,group(groups=8)", "mine.py:Norm"], shape=["32x64x56x56"], dtype=["f32,bf16"], pass_=["train-both"],
        layout=["nchw,channels_last"], threads=["1,2"], compile=True,
    )  # fmt: skip
    found = names(axes)
    assert len(found) == 3 * 2 * 2 * 2
    assert found[:3] == [
        f"{norm}/train-both/N32C64H56W56/f32/nchw/cpu/compiled" for norm in ("batch", "group,groups=8", "mine.py:Norm")
    ]
    assert found[-1] == "mine.py:Norm/train-both/N32C64H56W56/bf16/channels_last/cpu/t2/compiled"


def test_a_kernel_alone_is_a_grid_and_what_is_not_said_is_small_and_plain() -> None:
    assert names(Axes(norm=["mine:Norm"])) == [
        f"mine:Norm/{pass_}/N32C64H28W28/f32/nchw/cpu" for pass_ in ("train-forward", "train-backward")
    ]


def test_axes_take_the_place_of_those_of_every_grid_of_a_preset() -> None:
    found = names(Axes(shape=["N8C16", "8x16x4x4"], pass_=["eval-forward"]), "bench-quick")
    assert found == [
        f"{norm}/eval-forward/{at}/cpu"
        for at, norms in {
            "N8C16/f32/nc": ["batch", "batch,impl=plain", "layer", "iternorm"],
            "N8C16H4W4/f32/nchw": ["batch", "batch,impl=plain", "layer", "iternorm"],
            "N8C16H4W4/f32/channels_last": ["batch"],
        }.items()
        for norm in norms
    ] + ["zca/eval-forward/N8C16/f32/nc/cpu", "zca/eval-forward/N8C16H4W4/f32/nchw/cpu"]


def test_both_spellings_of_a_shape_are_the_same_in_presets_and_claims() -> None:
    tree = {
        "cases": [{"norms": ["batch", "layer"], "shapes": ["8x16x4x4", "8x16"], "passes": ["train-forward"]}],
        "claims": [{"of": "batch", "versus": "layer", "at": {"shape": "8x16"}, "ratio": {"below": 2}, "source": "us"}],
    }
    bench = read_bench(tree)
    assert bench.cases[0].shapes == ("N8C16H4W4", "N8C16")
    assert bench.claims[0].at == {"shape": "N8C16"}


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("batch, group(groups=8,eps=1e-3) ,", ["batch", "group(groups=8,eps=1e-3)"]),
        ("a(b=[1,2]),c", ["a(b=[1,2])", "c"]),
        ("", []),
    ],
)
def test_commas_in_brackets_part_nothing(text: str, pieces: list[str]) -> None:
    assert split_list(text) == pieces


def test_options_that_are_the_defaults_are_not_in_a_name() -> None:
    assert read_norm("batch( momentum = 0.1, impl=plain )", "--norm") == ("batch", (("impl", "plain"),))
    assert read_norm("batch()", "--norm") == ("batch", ())


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        (Axes(norm=["bacth"]), "--norm: no norm is called 'bacth'; did you mean 'batch'? (known: "),
        (Axes(norm=["group(grops=8)"]), "--norm group(grops=8): grops: no such key; did you mean 'groups'?"),
        (Axes(norm=["group(groups=0)"]), "--norm group(groups=0): groups: must be >= 1, got 0"),
        (
            Axes(norm=["group(groups)"]),
            "--norm group(groups): expected OPTION=VALUE in the parentheses, as in group(groups=8), got 'groups'",
        ),
        (
            Axes(norm=["group(groups=8"]),
            "--norm group(groups=8: expected NORM or NORM(OPTION=VALUE), as group(groups=8), or FILE.py:NAME",
        ),
        (
            Axes(norm=["batch,impl=plain"]),
            "--norm impl=plain: an option stands in parentheses behind its norm, as in group(groups=8)",
        ),
        (
            Axes(norm=["a.py:B(c=1)"]),
            "--norm a.py:B(c=1): code is called with the number of channels alone, and takes no options",
        ),
        (Axes(norm=["a.py:"]), "--norm: expected FILE.py:NAME or MODULE:NAME, got 'a.py:'"),
        (
            Axes(norm=["instance"], shape=["8x16"]),
            "--norm: norm 'instance' takes its statistics over locations, and N8",
        ),
        (
            Axes(shape=["32x64x56"]),
            "--shape: must be written like N32C64H56W56, 32x64x56x56 or N256C512, got '32x64x56'",
        ),
        (Axes(shape=["999999999x999999999"]), "--shape: at most "),
        (Axes(dtype=["fp16"]), "--dtype: no dtype is called 'fp16'; did you mean 'f16'? (known: f32, f64, bf16, f16)"),
        (Axes(pass_=["train"]), "--pass: no pass is called 'train'"),
        (Axes(layout=["chanels_last"]), "--layout: no layout is called 'chanels_last'; did you mean 'channels_last'?"),
        (Axes(threads=["1,two"]), "--threads: must be a whole number from 1 to 1,024, got 'two'"),
        (Axes(dtype=[" , "]), "--dtype: expected a value, or several with commas, got ' , '"),
        (Axes(norm=[""]), "--norm: expected a value, or several with commas, got ''"),
        (Axes(threads=["0"]), "--threads: must be a whole number from 1 to 1,024, got '0'"),
    ],
)
def test_a_value_that_is_none_is_one_line_with_its_flag(axes: Axes, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_grids(read_bench(preset_path("bench-quick")) if not axes.norm else None, axes)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
