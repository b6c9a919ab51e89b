"""Text as data: windows that overlap nowhere, targets that stand where they are said to, masks of a seed's own."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bncli.config import read_study
from bncli.config.study import study_of
from bncli.data import DATASETS, data_part
from bncli.data.splits import Splits
from bncli.data.tokens import Masking
from bncli.engine.batches import Batches
from bncli.engine.evaluate import each_target
from bncli.errors import BncliError, DataError
from bncli.plan import runs_of
from bncli.presets import preset_path

TEXT = "".join(chr(ord("a") + i * i % 23) for i in range(1, 1001)) + "Ω\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def load(file: str, **options: Any) -> Splits:
    filled = DATASETS.options("text", {"file": file, "length": 10, **options})
    splits: Splits = DATASETS.load("text")(**filled, device="cpu")
    return splits


def kinds() -> str:
    return "".join(sorted(set(TEXT)))


def test_windows_follow_each_other_and_no_part_holds_a_character_of_another(file: str) -> None:
    splits, start = load(file, predict="next"), 0
    for part, end in (("train", 801), ("validation", 901), ("test", 1002)):
        windows = getattr(splits, part).stored
        text = "".join(kinds()[i] for i in windows.flatten().tolist())
        assert text == TEXT[start : start + len(text)]
        last = getattr(splits, part).targets.max(), start + len(text)
        assert last[1] < end  # the target of the last window is of this part too
        start = end


def test_a_target_is_the_character_after_its_position(file: str) -> None:
    train = load(file, predict="next").train
    assert train.targets.shape == (80, 10, 1)
    assert torch.equal(train.targets.flatten()[:-1], train.stored.flatten()[1:])


def test_a_mask_hides_15_percent_of_a_window_and_targets_say_what_was_there(file: str) -> None:
    plain, masked = load(file, predict="next").train, load(file, length=10).train
    assert masked.targets.shape == (80, 2, 2)
    places, there = masked.targets.unbind(-1)
    assert torch.equal(plain.stored.gather(-1, places), there)
    changed = torch.zeros(80, 10, dtype=torch.bool).scatter(-1, places, True)
    assert torch.equal(plain.stored[~changed], masked.stored[~changed])
    assert all(len(set(row)) == 2 for row in places.tolist())


def test_of_masked_tokens_80_percent_are_the_mask_10_another_and_10_as_they_were() -> None:
    masking, n = Masking(50, 3), 40_000
    windows = torch.randint(50, (n, 20), generator=torch.Generator().manual_seed(0))
    masked, targets = masking.mask(windows, masking.draw(n, torch.Generator().manual_seed(1)))
    places, there = targets.unbind(-1)
    put = masked.gather(-1, places)
    assert (put == 50).double().mean().item() == pytest.approx(0.8, abs=0.005)
    assert (put == there).double().mean().item() == pytest.approx(0.1 + 0.1 / 50, abs=0.004)
    others = put[(put != 50) & (put != there)]
    assert others.bincount(minlength=50).double().std() / len(others) * 50 < 0.1
    assert places.flatten().bincount(minlength=20).double() / (3 * n) == pytest.approx([0.05] * 20, abs=0.003)


@pytest.mark.parametrize("lanes", [(), (2,)])
def test_masks_are_of_the_seed_and_new_in_every_epoch(file: str, lanes: tuple[int, ...]) -> None:
    split, seeds = load(file).train, [3, 4][: len(lanes) + 1]
    batches = [*Batches(split, 40, seeds, lanes).next(4)]
    again = [*Batches(split, 40, [3], ()).next(4)]
    assert all(torch.equal((x[0] if lanes else x), other) for (x, _), (other, _) in zip(batches, again, strict=True))
    epochs = [torch.cat([again[i][1], again[i + 1][1]]) for i in (0, 2)]
    assert not torch.equal(epochs[0].sort(0).values, epochs[1].sort(0).values)
    whole = load(file, predict="next").train.stored
    for x, y in again:
        restored = x.scatter(-1, y[..., 0], y[..., 1])
        assert all(any(torch.equal(row, window) for window in whole) for row in restored)
    if lanes:
        assert not torch.equal(batches[0][0][0], batches[0][0][1])


def test_an_evaluation_masks_alike_each_time(file: str) -> None:
    assert torch.equal(load(file).validation.stored, load(file).validation.stored)


def test_what_is_masked_cannot_be_read_off_the_input(file: str) -> None:
    """Two texts that differ in masked characters alone look the same where the mask was put."""
    masking = Masking(50, 3)
    windows, draws = torch.randint(50, (30, 20)), masking.draw(30, torch.Generator().manual_seed(1))
    masked, targets = masking.mask(windows, draws)
    hidden = masked.gather(-1, targets[..., 0]) == 50
    other = windows.scatter(-1, targets[..., 0], torch.where(hidden, (targets[..., 1] + 1) % 50, targets[..., 1]))
    assert not torch.equal(other, windows)
    assert torch.equal(masking.mask(other, draws)[0], masked)


def test_each_target_is_an_example_to_the_loss() -> None:
    outputs = torch.randn(2, 3, 5, 7)  # (lanes, N, T, K)
    y = torch.tensor([[[4, 1], [0, 2]], [[1, 3], [2, 0]], [[3, 6], [4, 5]]])
    found, classes = each_target(outputs, y)
    assert found.shape == (2, 6, 7)
    assert torch.equal(found[1, 2], outputs[1, 1, 1])
    assert torch.equal(found[0, 5], outputs[0, 2, 4])
    assert classes[0].tolist() == [1, 2, 3, 0, 6, 5]
    found, classes = each_target(outputs[0], torch.arange(15).view(3, 5, 1))
    assert torch.equal(found, outputs[0].reshape(15, 7))
    assert classes.tolist() == list(range(15))


def test_the_checksum_of_the_text_is_part_of_the_id(tmp_path: Path) -> None:
    ids = []
    for i, text in enumerate((TEXT, TEXT + "more", TEXT)):
        path = tmp_path / f"{i}.txt"
        path.write_text(text, encoding="utf-8")
        ids.append(runs_of(study(data={"name": "text", "file": str(path), "length": 10}), "cpu")[0].id)
    assert ids[0] == ids[2] != ids[1]


def study(**changes: Any) -> Any:
    tree = {
        "model": {"name": "transformer", "width": 8, "depth": 1}, "training": {"steps": 2, "batch_size": 4},
        "evaluation": {"every": 2, "split": "validation"}, "variants": {"layer": "layer", "none": "none"},
        "reference": "none", "seeds": 2, "measures": ["final_loss"], "target": None,
    }  # fmt: skip
    return study_of(tree | changes)


def test_documentation_of_another_python_is_refused() -> None:
    with pytest.raises(DataError, match=r"planned with; .* or the same version of Python"):
        DATASETS.load("python-docs")(length=32, predict="next", checksum="0" * 64, device="cpu")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"length": 500}, "mine.txt: has 1,002 characters; its last tenth must hold a window of 500 characters"),
        ({"predict": "next"}, "would see the tokens that it is to predict; set model.causal: true"),
    ],
)
def test_what_cannot_be_learned_is_said(file: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BncliError) as error:
        study(data={"name": "text", "file": file, **changes})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_networks_of_numbers_refuse_tokens(file: str) -> None:
    with pytest.raises(
        BncliError, match="model 'mlp' takes numbers, and data 'text' are windows of tokens; use model tr"
    ):
        study(data={"name": "text", "file": file}, model={"name": "mlp"})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff" * 100)
    with pytest.raises(BncliError, match=r"a\.txt: expected text in UTF-8$"):
        study(data={"name": "text", "file": str(tmp_path / "a.txt")})


def test_a_file_of_text_is_data(file: str) -> None:
    assert data_part(file) == {"name": "text", "file": file}


def test_other_text_is_asked_as_the_presets_was(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("abcd efgh\n" * 1_000)
    asked = read_study(preset_path("rmsnorm"), data=str(file)).data
    assert (asked.options["predict"], asked.options["length"]) == ("next", 32)
    images = read_study(preset_path("figure1"), data="digits").data
    assert "binarize" not in images.options or images.options["binarize"] is None  # a level of other numbers
