"""Every mistake of a preset is said at once, with its place, in one line."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from bncli.config import Study, Training, read_study
from bncli.errors import ConfigError
from bncli.norms import NORMS
from bncli.presets import preset_path

TRAINING, STUDY = ", ".join(Training.model_fields), ", ".join(Study.model_fields)
GOOD = "variants: {none: none, batch: batch}\nreference: none\nseeds: 3\n"


def mistakes(tmp_path: Path, text: str, sets: Sequence[str] = (), **more: object) -> list[str]:
    preset = tmp_path / "study.yaml"
    preset.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_study(preset, sets, **more)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("training:\n  seed: 3\n", f"study.yaml:2: training.seed: no such key; did you mean 'seeds'? (known: {TRAINING})"),
        ("training:\n  lr: 0\n", "study.yaml:2: training.lr: must be > 0, got 0"),
        ("training: {steps: many}\n", "study.yaml:1: training.steps: must be a whole number, got 'many'"),
        ("training: {steps: 2.5}\n", "study.yaml:1: training.steps: must be a whole number, got 2.5"),
        ("training: {lr: .inf}\n", "study.yaml:1: training.lr: must be a finite number, got inf"),
        ("training: fast\n", "study.yaml:1: training: must be a mapping (key: value), got 'fast'"),
        ("modle: mlp\n", f"study.yaml:1: modle: no such key; did you mean 'model'? (known: {STUDY})"),
        (
            "model: mpl\n",
            "study.yaml:1: model: no model is called 'mpl'; did you mean 'mlp'? (known: convnet, deep-linear, deep-mlp, inception-bn, mlp, residual-mlp, resnet, shift, transformer)",
        ),
        (
            "model:\n  name: mlp\n  hiden: [3]\n",
            "study.yaml:3: model.hiden: no such key; did you mean 'hidden'? (known: hidden, activation, init, bias, placement)",
        ),
        (
            "model: {name: mlp, init: {normal: -1}}\n",
            "study.yaml:1: model.init: normal must be > 0, got -1",
        ),
        (
            "model: {name: mlp, init: {normal: .inf}}\n",
            "study.yaml:1: model.init: normal must be > 0 and finite, got inf",
        ),
        (
            "evaluation: {statistics: moving}\n",
            "study.yaml:1: evaluation.statistics: must be one of 'running', 'precise' or 'batch', got 'moving'",
        ),
        ("target: {}\n", "study.yaml:1: target: give one of {accuracy: 0.95}, {METRIC: LEVEL} and {final_of: VARIANT}"),
        (
            "target: {final_of: nobody}\n",
            "study.yaml:1: target: no variant is called 'nobody' (known: none, batch)",
        ),
        ("sweep: {training.lrr: [1, 2]}\n", f"study.yaml:1: sweep.training.lrr: no such key; did you mean 'lr'? (known: {TRAINING})"),
        ("sweep: {seeds: [1, 2]}\n", "study.yaml:1: sweep.seeds: only data, model, training and evaluation can be swept"),
        ("training: {batch_size: 1}\n", "study.yaml:1: training.batch_size: variant 'batch': norm 'batch' takes its"
         " statistics over the batch and needs at least 2 examples, got 1"),
        ("training: {batch_size: 99999}\n", "study.yaml:1: training.batch_size: must be <= 55000 training examples, got 99999"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, text: str, line: str) -> None:
    assert mistakes(tmp_path, text + GOOD) == [line]


@pytest.mark.parametrize("norm", ["fixup", "skipinit"])
def test_a_norm_for_residual_networks_is_refused_elsewhere(tmp_path: Path, norm: str) -> None:
    text = f"variants:\n  none: none\n  other: {norm}\nreference: none\nseeds: 3\n"
    message = f"norm '{norm}' needs residual branches, and model 'mlp' has none; use model residual-mlp or resnet or transformer"
    assert mistakes(tmp_path, text) == [f"study.yaml:3: variants.other.norm: {message}"]
    preset = tmp_path / "study.yaml"
    preset.write_text(text + "model: residual-mlp\n")
    assert read_study(preset).variants["other"].norm.name == norm


@pytest.mark.parametrize(("batch", "size"), [(33, 32), (40, 1)])
def test_a_virtual_batch_of_one_example_is_refused(tmp_path: Path, batch: int, size: int) -> None:
    def text(batch: int, model: str = "mlp") -> str:
        ghost = f"ghost: {{norm: {{name: ghost, ghost_size: {size}}}}}"
        head = f"model: {model}\ntraining: {{batch_size: {batch}}}\n"
        return f"{head}variants: {{none: none, {ghost}}}\nreference: none\nseeds: 3\n"

    assert mistakes(tmp_path, text(batch)) == [
        f"study.yaml:2: training.batch_size: variant 'ghost': norm 'ghost' with ghost_size {size} leaves a virtual batch of"
        f" 1 example, which has no variance, of {batch}; use a multiple of the ghost_size, of 2 or more"
    ]


def test_a_virtual_batch_of_one_image_has_a_variance(tmp_path: Path) -> None:
    preset = tmp_path / "study.yaml"
    preset.write_text(
        "model: convnet\ntraining: {batch_size: 33}\nvariants: {none: none, ghost: ghost}\nreference: none\nseeds: 3\n"
    )
    assert read_study(preset).training.batch_size == 33


def test_what_needs_an_accuracy_is_refused_of_data_without_classes(tmp_path: Path) -> None:
    text = "data: offset\nmodel: shift\nvariants: {none: none}\nreference: none\nseeds: 3\n"
    why = "data 'offset' has no classes, so no accuracy"
    assert mistakes(tmp_path, text + "target: {accuracy: 0.95}\nmeasures: [final_loss, steps_to_target]\n") == [
        f"study.yaml:6: target: {why}; leave it out, and ask for measures: [final_loss, loss_change]",
        f"study.yaml:7: measures.1: {why}; ask for final_loss or loss_change instead of steps_to_target",
    ]
    (tmp_path / "study.yaml").write_text(text + "measures: [final_loss]\n")
    study = read_study(tmp_path / "study.yaml")
    assert read_study(study) == study


def test_a_norm_of_weights_is_refused_where_no_layer_has_any(tmp_path: Path) -> None:
    text = "data: offset\nmodel: shift\ntarget: {final_of: w}\nvariants: {w: weight}\nreference: w\nseeds: 3\n"
    line = "study.yaml:4: variants.w.norm: norm 'weight' acts on the weights of layers, and model 'shift' has none"
    assert mistakes(tmp_path, text) == [line]


def test_every_mistake_is_said_at_once(tmp_path: Path) -> None:
    text = "training:\n  lr: -1\n  steps: 0\nvariants:\n  none: nune\n  bn: {norm: {name: batch, epz: 1}}\nreference: none\n"
    assert mistakes(tmp_path, text) == [
        "study.yaml:3: training.steps: must be >= 1, got 0",
        "study.yaml:2: training.lr: must be > 0, got -1",
        "study.yaml:5: variants.none.norm: no norm is called 'nune'; did you mean 'none'?"
        f" (known: {', '.join(sorted(NORMS))})",
        "study.yaml:6: variants.bn.norm.epz: no such key; did you mean 'eps'? (known: eps, momentum, affine, track_running_stats, impl)",
        "study.yaml:1: seeds: is required",
    ]


@pytest.mark.parametrize(
    ("norm", "why"),
    [
        ("instance", "norm 'instance' takes its statistics over locations, and this network's layers have none"),
        (
            "group",
            "norm 'group': groups=32 does not divide 100 channels (their divisors: 1, 2, 4, 5, 10, 20, 25, 50, 100)",
        ),
        (
            "{name: evonorm-s0, groups: 100}",
            "norm 'evonorm-s0': groups=100 makes groups of 1 value, whose variance is 0; use fewer groups",
        ),
    ],
)
def test_a_norm_that_does_not_fit_the_network_is_said_before_training(tmp_path: Path, norm: str, why: str) -> None:
    text = f"variants:\n  none: none\n  other: {{norm: {norm}}}\nreference: none\nseeds: 3\n"
    assert mistakes(tmp_path, text) == [f"study.yaml:3: variants.other.norm: {why}"]


@pytest.mark.parametrize(
    ("data", "model", "why"),
    [
        ("offset", "resnet", "'resnet' needs images, and an example here is a list of numbers"),
        (
            "mnist",
            "{name: convnet, channels: [4, 4, 4, 4, 4]}",
            "'convnet' halves 28x28 pixels 5 times, and nothing is left; give fewer channels",
        ),
        (
            "mnist",
            "{name: resnet, channels: [8, 4, 8]}",
            "'resnet' cannot pad channels [8, 4, 8] on its shortcuts, where they get fewer; use shortcut: projection",
        ),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_said_before_training(
    tmp_path: Path, data: str, model: str, why: str
) -> None:
    text = f"data: {data}\nmodel: {model}\nvariants: {{none: none}}\nreference: none\nseeds: 3\n"
    assert mistakes(tmp_path, text) == [f"study.yaml:2: model: model {why}"]


def test_a_depth_that_is_not_6n_plus_2_is_a_mistake(tmp_path: Path) -> None:
    text = "model:\n  name: resnet\n  depth: 18\nvariants: {none: none}\nreference: none\nseeds: 3\n"
    assert mistakes(tmp_path, text) == ["study.yaml:3: model.depth: must be 6n + 2 (8, 14, 20, ...), got 18"]


def test_a_norm_over_locations_fits_a_network_that_has_some(tmp_path: Path) -> None:
    preset = tmp_path / "study.yaml"
    preset.write_text("model: convnet\nvariants: {none: none, instance: instance}\nreference: none\nseeds: 3\n")
    assert set(read_study(preset).variants) == {"none", "instance"}


def test_a_swept_width_that_the_groups_do_not_divide_is_said_before_training(tmp_path: Path) -> None:
    text = "variants: {none: none, group: {norm: {name: group, groups: 4}}}\nreference: none\nseeds: 3\n"
    assert mistakes(tmp_path, text + "sweep: {model.hidden: [[8, 8], [8, 6]]}\n") == [
        "study.yaml:1: variants.group.norm: norm 'group': groups=4 does not divide 6 channels (their divisors: 1, 2, 3, 6)"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "study.yaml:1: is empty; see `bncli ls presets` for examples"),
        ("# only a comment\n", "study.yaml:1: is empty; see `bncli ls presets` for examples"),
        ("- a\n- b\n", "study.yaml:1: holds list, not keys with values; see `bncli ls presets` for examples"),
        ("a: [1\nb: 2\n", "study.yaml:2: not YAML: expected ',' or ']', but got ':'"),
        ("a: 1\n---\nb: 2\n", "study.yaml:2: not YAML: but found another document"),
        ("a: *nobody\n", "study.yaml:1: not YAML: found undefined alias 'nobody'"),
        ("\x00", "study.yaml:1: not YAML: unacceptable character #x0000: special characters are not allowed"),
        ("[" * 5000, "study.yaml:1: nested too deeply for a preset"),
    ],
)
def test_what_is_not_a_preset_is_said_so(tmp_path: Path, text: str, line: str) -> None:
    assert mistakes(tmp_path, text) == [line]


def test_a_duplicate_key_is_a_mistake_with_both_lines(tmp_path: Path) -> None:
    assert mistakes(tmp_path, GOOD + "seeds: 4\n") == ["study.yaml:4: seeds: given twice; first in line 3"]


def test_an_object_tag_is_refused_and_builds_nothing(tmp_path: Path) -> None:
    text = "question: !!python/object/apply:os.system ['touch owned']\n" + GOOD
    assert mistakes(tmp_path, text) == [
        "study.yaml:1: question: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed;"
        " presets hold plain values only",
        "study.yaml:1: question: must be a text, got None",
    ]


def test_an_alias_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    (line,) = mistakes(tmp_path, bomb)
    assert line.endswith("more than 20,000 values or 60 levels (aliases count)")


def test_an_alias_to_itself_is_refused(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, "a: &a [*a]\n")
    assert line == "study.yaml:1: more than 20,000 values or 60 levels (aliases count)"


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "#" * 10_000_000) == ["study.yaml: 10,000,000 bytes; a preset has at most 1,000,000"]


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    preset = tmp_path / "study.yaml"
    preset.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ConfigError, match=r"^study.yaml: not a text file \(UTF-8\)$"):
        read_study(preset)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("training.lr=0", "--set training.lr=0: training.lr: must be > 0, got 0"),
        ("training.lr=0.1,-1", "--set training.lr=0.1,-1: sweep.training.lr: must be > 0, got -1"),
        ("training.rl=1", f"--set training.rl=1: training.rl: no such key; did you mean 'lr'? (known: {TRAINING})"),
        ("training.lr", "--set training.lr: expected key=value, as in training.lr=0.1"),
        ("training.lr=", "--set training.lr=: '' is not a value"),
        ("training.lr=]", "--set training.lr=]: ']' is not a value"),
    ],
)
def test_a_mistake_on_the_command_line_names_the_option(tmp_path: Path, given: str, line: str) -> None:
    (found,) = mistakes(tmp_path, GOOD, [given])
    assert found == line


def test_wrong_seeds_name_the_option(tmp_path: Path) -> None:
    assert mistakes(tmp_path, GOOD, seeds="0") == ["--seeds 0: seeds: must be one seed or more, got 0"]
    assert mistakes(tmp_path, GOOD, seeds="x") == [
        "--seeds x: seeds: must be a number of seeds, a range like 0..9 or a list, got 'x'"
    ]


def test_a_variant_that_is_no_norm_names_the_option(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, GOOD, variants=["bacth"])
    assert line.startswith("--variants: variants.bacth.norm: no norm is called 'bacth'; did you mean 'batch'?")


@pytest.mark.parametrize(
    ("head", "norm", "line"),
    [
        ("model: {name: mlp, hidden: [5]}", "group-whitening", "2: variants.a.norm: norm 'group-whitening': groups=4 does not divide 5 channels (their divisors: 1, 5)"),
        ("model: {name: mlp, hidden: [4]}", "group-whitening", "2: variants.a.norm: norm 'group-whitening': groups=4 makes groups of 1 value, whose variance is 0; use fewer groups"),
        ("model: {name: mlp, hidden: [1]}", "layer", "2: variants.a.norm: norm 'layer' takes its statistics over the values of an example, and a layer has 1; use more channels"),
        ("model: {name: mlp, hidden: [1]}", "switchable", "2: variants.a.norm: norm 'switchable' takes its statistics over the values of an example, and a layer has 1; use more channels"),
        ("model: {name: mlp, hidden: [1, 1]}", "weight-std", "2: variants.a.norm: norm 'weight-std' takes its statistics over the weights of each output, and a layer has 1 for each; use more channels"),
        ("model: convnet", "{name: rms, over: last}", "2: variants.a.norm: norm 'rms': over=last normalises the last axes, which are locations in this network; use sample or channels"),
    ],
)  # fmt: skip
def test_a_norm_that_cannot_take_the_layers_is_refused(tmp_path: Path, head: str, norm: str, line: str) -> None:
    text = f"{head}\nvariants: {{a: {{norm: {norm}}}}}\nreference: a\nseeds: 1\n"
    assert mistakes(tmp_path, text) == [f"study.yaml:{line}"]


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (
            "data: digits\ntraining: {batch_size: 32}\nevaluation: {statistics: batch}",  # 300 examples in 9 parts
            "study.yaml:3: evaluation.statistics: variant 'a': norm 'ghost' with ghost_size 32 leaves a virtual batch of 1 example, which has no variance, of 33; use a multiple of the ghost_size, of 2 or more",
        ),
        (
            "training: {batch_size: 64}\nprobes: {metrics: light, mode: train, examples: 33}",
            "study.yaml:2: probes.examples: variant 'a': norm 'ghost' with ghost_size 32 leaves a virtual batch of 1 example, which has no variance, of 33; use a multiple of the ghost_size, of 2 or more",
        ),
        (
            "training: {batch_size: 64}\nprobes: {metrics: light, mode: train, examples: 1}",
            "study.yaml:2: probes.examples: variant 'a': norm 'ghost' takes its statistics over the batch, which would be of 1 example; use 2 or more",
        ),
    ],
)  # fmt: skip
def test_a_batch_of_evaluation_or_of_a_probe_that_a_norm_cannot_take_is_refused(
    tmp_path: Path, head: str, line: str
) -> None:
    assert mistakes(tmp_path, f"{head}\nvariants: {{a: ghost}}\nreference: a\nseeds: 1\n") == [line]


@pytest.mark.parametrize("text", ["a" * 5_000, "~nobody-of-that-name~~~/x.npz", "\0", "\ud800"])
def test_what_cannot_be_a_path_is_one_line(tmp_path: Path, text: str) -> None:
    assert len(mistakes(tmp_path, GOOD, data=text)) == 1
    data = (
        yaml.safe_dump({"data": {"name": "npz", "file": text}})
        if text != "\ud800"
        else "data: {name: npz, file: nowhere}\n"
    )
    assert len(mistakes(tmp_path, data + GOOD)) == 1
    with pytest.raises(ConfigError):
        preset_path(text)
