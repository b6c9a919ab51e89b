"""What a search tried, as a table."""

from dataclasses import replace

from bncli.findings import Tuning
from bncli.report.study.table import search_lines
from tests.report.made_findings import figure1

TUNING = Tuning(
    variant="none", setting={}, key="training.lr", by="validation_accuracy", values=(0.1, 0.3, 1.0),
    scores=({1000: 0.8}, {1000: 0.95}, {1000: 0.9}), medians=(0.8, 0.95, 0.9), chosen=0.3, on_edge=False,
    usable_low=0.3, usable_high=0.3, expected_best=(0.88, 0.92, 0.94), runs=3, saved=0, steps=300,
)  # fmt: skip


def shown(*tunings: Tuning, room: int = 80) -> list[str]:
    return [line.plain for line in search_lines(replace(figure1(), tunings=tunings), room)]


def test_every_value_of_every_variant_is_shown_and_the_chosen_one_marked() -> None:
    batch = replace(TUNING, variant="batch", values=(0.3, 1.0), medians=(0.97, 0.96), scores=({}, {}))
    assert shown(TUNING, batch) == [
        "",
        "validation accuracy, %, median over tuning seeds, by lr; * is chosen",
        " variant     0.1    0.3      1",
        " none      80.0   95.0*  90.0",
        " batch            97.0*  96.0",
        " none, best so far in that order: 80.0 95.0 95.0",
        " batch, best so far in that order: 97.0 97.0",
    ]


def test_losses_are_shown_as_losses() -> None:
    lines = shown(replace(TUNING, by="validation_loss", medians=(-0.8, -0.3, -0.4)))
    assert lines[1] == "validation loss, median over tuning seeds, by lr; * is chosen"
    assert lines[3].split() == ["none", "0.800", "0.300*", "0.400"]
    assert lines[4].endswith(": 0.800 0.300 0.300")


def test_a_narrow_terminal_gets_a_list() -> None:
    lines = shown(TUNING, room=24)
    assert "   0.3    95.0*" in lines or "  0.3  95.0*" in lines
    assert all(len(line) <= 24 for text in lines for line in text.splitlines())


def test_a_study_without_a_search_has_no_such_table() -> None:
    assert shown() == []
