"""Shift findings on a terminal: what fits, what is left out, what is marked."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bncli.findings.shift import Definition, ShiftFindings
from bncli.report.figures.shift import last_bands, layer_names
from bncli.report.shift.table import MOST_LAYERS, show
from tests.report.made_shift import LAYERS, METRICS, cell, findings


def shown(given: ShiftFindings, room: int = 160) -> str:
    file = io.StringIO()
    show(given, Console(file=file, width=room))
    return file.getvalue()


@pytest.mark.parametrize("room", [80, 100, 160])
def test_no_line_is_wider_than_the_terminal(room: int) -> None:
    assert max(map(len, shown(findings(LAYERS), room).splitlines())) <= room


def test_every_metric_and_layer_of_every_variant_is_in_a_table() -> None:
    text = shown(findings(LAYERS), 80)
    assert text.count("0.15 ±0.07 ↓") == 2 * 2 * len(METRICS)
    assert "none (ref)" in text


def test_a_variant_has_one_heading_and_what_is_of_the_whole_network_is_the_last_row() -> None:
    given = findings(LAYERS)
    arms = tuple(replace(arm, cells=(*arm.cells, cell("loss-range", ""))) for arm in given.arms)
    definition = Definition("loss-range", "loss range", "landscape", "", "ratio", None)
    text = shown(replace(given, arms=arms, definitions=(*given.definitions, definition)), 200)
    assert text.count("none (ref)\n") == 1
    rows = [line.split()[0] for line in text.splitlines() if line.startswith((" hidden", " network"))]
    assert rows == ["hidden.0", "hidden.1", "network"] * 2
    assert shown(given, 60).count("none (ref)\n") == 1


def test_what_is_within_noise_has_its_sign() -> None:
    assert "±0.07 ↓~" in shown(findings(LAYERS, within_noise=True))
    assert "~" not in shown(findings(LAYERS))


def test_one_run_has_no_spread() -> None:
    assert "  0.15 ↓" in shown(findings(LAYERS, std=None))


def test_the_place_is_said_only_where_there_are_several() -> None:
    assert layer_names(findings(LAYERS))["hidden.0", "norm"] == "hidden.0"
    assert layer_names(findings(["a/norm", "a/layer"]))["a", "norm"] == "a/norm"


def test_of_a_deep_network_some_layers_are_shown_the_first_and_the_last_among_them() -> None:
    layers = [f"layer.{i}/norm" for i in range(25)]
    text = shown(findings(layers))
    rows = {line.split()[0] for line in text.splitlines() if line.startswith(" layer.")}
    assert len(rows) == MOST_LAYERS
    assert {"layer.0", "layer.24"} <= rows
    assert "9 layers are shown, evenly spaced; --layers '*' shows all" in text
    whole = shown(findings(layers, ("*",)))
    assert "evenly spaced" not in whole
    assert "layer.1 " in whole


def test_the_bands_are_those_of_the_last_layer_the_typical_unit_after_the_median() -> None:
    groups = last_bands(findings(LAYERS))
    assert [[(band.variant, band.index) for band in group] for group in groups] == [
        [("none", None), ("batch", None)], [("none", 3), ("batch", 3)],
    ]  # fmt: skip
    assert {(band.layer, band.place) for group in groups for band in group} == {("hidden.1", "norm")}
    assert "typical (unit 3)" in shown(findings(LAYERS))
