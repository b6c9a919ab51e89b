"""What a search tried, as a table and as figures."""

import math
from dataclasses import replace
from typing import Any

from bncli.findings import Importance, SearchFindings, Trial, Tuning
from bncli.report.data import ReportData
from bncli.report.exports import render
from bncli.report.figures import list_figures
from bncli.report.figures.search import best_figure, importance_figure, search_figures
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
    lines = shown(replace(TUNING, by="validation_loss", medians=(-0.8, -0.3, -1.94e12)))
    assert lines[1] == "validation loss, median over tuning seeds, by lr; * is chosen"
    assert lines[3].split() == ["none", "0.800", "0.300*", "1.9e+12"]
    assert lines[4].endswith(": 0.800 0.300 0.300")


def test_a_narrow_terminal_gets_a_list() -> None:
    lines = shown(TUNING, room=24)
    assert "   0.3    95.0*" in lines or "  0.3  95.0*" in lines
    assert all(len(line) <= 24 for text in lines for line in text.splitlines())


def test_a_study_without_a_search_has_no_such_table() -> None:
    assert shown() == []


SEARCH = SearchFindings(
    variant="none", setting={}, by="validation_accuracy", sampler="halton", space={"training.lr": {"log": [0.1, 1.0]}},
    rungs=(10, 90), trials=tuple(Trial({"training.lr": lr}, lr, 90, {0: lr}, lr) for lr in (0.2, 0.5)),
    chosen={"training.lr": 0.5}, best_so_far=(0.2, 0.5),
    importances=(Importance("training.lr", 0.6, 0.001, distinct=True),), on_edge=(), runs=2, steps=180,
)  # fmt: skip


def rows(figure: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = figure.spec["data"]["values"]
    return found


def test_the_figure_of_a_search_has_a_line_an_arm_over_its_trials() -> None:
    batch = replace(SEARCH, variant="batch", setting={"model.depth": 3}, best_so_far=(0.3, 0.3))
    figure = best_figure(replace(figure1(), searches=(SEARCH, batch)))
    assert figure is not None
    assert [(row["at"], row["trial"], row["best"]) for row in rows(figure)] == [
        ("none", [1, 2], [0.2, 0.5]), ("batch (depth 3)", [1, 2], [0.3, 0.3])
    ]  # fmt: skip
    assert figure.title == "Best trial so far, after 10 steps"
    assert figure.alt == (
        "Best trial so far, after 10 steps: after the last trial none 50.0; batch (depth 3) 30.0 (validation"
        " accuracy, %)."
    )


def test_losses_are_drawn_as_losses_and_what_diverged_is_left_out() -> None:
    losses = replace(SEARCH, by="validation_loss", best_so_far=(-math.inf, -0.3))
    assert [row["best"] for row in rows(best_figure(replace(figure1(), searches=(losses,))))] == [[None, 0.3]]


def test_the_figure_of_importance_has_the_keys_of_which_it_is_known() -> None:
    unknown = Importance("model.width", None, None, reason="3 trials; it takes 20")
    some = replace(SEARCH, importances=(*SEARCH.importances, unknown))
    figure = importance_figure(replace(figure1(), searches=(some,)))
    assert rows(figure) == [{"at": "none", "variant": "none", "key": "lr", "share": 0.6, "distinct": 1}]
    assert importance_figure(replace(figure1(), searches=(replace(SEARCH, importances=(unknown,)),))) is None


def test_a_study_without_a_search_has_no_figures_of_it() -> None:
    assert list(search_figures(figure1())) == []


def test_figures_of_a_search_have_names() -> None:
    assert [figure.name for figure in search_figures(replace(figure1(), searches=(SEARCH,)))] == [
        "search",
        "importance",
    ]


def test_the_trials_of_a_search_stand_over_the_learning_rate_with_the_chosen_one_marked() -> None:
    data = ReportData("a", replace(figure1(), searches=(SEARCH,)))
    figure = next(figure for figure in list_figures(data) if figure.name == "trials-lr")
    assert rows(figure) == [
        {"variant": "none", "x": 0.2, "y": 0.2}, {"variant": "none", "x": 0.5, "y": 0.5, "best": 1},
    ]  # fmt: skip
    assert figure.alt == "Validation accuracy over the learning rate, all trials. Chosen for none 0.5."


def test_every_format_has_the_table_of_what_was_tried() -> None:
    text = render(ReportData("a", replace(figure1(), tunings=(TUNING,))), "markdown")
    assert "**validation accuracy, %, median over tuning seeds, by lr; \\* is chosen**" in text
    assert "| none | 80.0 | 95.0\\* | 90.0 |" in text
