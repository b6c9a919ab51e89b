"""Shift findings on a terminal and as figures: what fits, what is left out, what is marked."""

import io
from typing import Any

import pytest
from rich.console import Console

from bncli.findings import Note
from bncli.findings.shift import Cell, Definition, PercentileBand, ShiftArm, ShiftComparison, ShiftFindings
from bncli.report.figures.shift import bands_figure, last_bands, layer_names, layers_figure, ratios_figure
from bncli.report.shift.table import MOST_LAYERS, show

METRICS = ("percentile-drift", "percentile-drift-relative", "symmetric-kl-standardised", "location-drift", "ks")
DEFINITIONS = tuple(Definition(name, name.replace("-", " "), "pair", "", "ratio", "lower") for name in METRICS)


def site(name: str) -> tuple[str, str]:
    """A layer and a place in it, of "layer/place"."""
    layer, _, place = name.partition("/")
    return layer, place


def cell(metric: str, layer: str, **changes: Any) -> Cell:
    given: dict[str, Any] = {
        "values": {0: 0.1, 1: 0.2}, "mean": 0.15, "std": 0.07, "first": 0.2, "last": 0.1,
        "trend": "falling", "null": 0.01, "within_noise": False,
    }  # fmt: skip
    return Cell(metric, *site(layer), **{**given, **changes})


def arm(variant: str, layers: list[str], **changes: Any) -> ShiftArm:
    cells = tuple(cell(metric, layer, **changes) for metric in METRICS for layer in layers)
    return ShiftArm(variant, {}, variant == "none", 2, cells, 0.04)


def findings(layers: list[str], asked: tuple[str, ...] = (), **changes: Any) -> ShiftFindings:
    comparisons = tuple(
        ShiftComparison(metric, *site(layer), "batch", "none", {}, 2, 0.2, 0.1, 0.4, "less", False)
        for metric in METRICS
        for layer in ["", *layers]
    )
    bands = tuple(
        PercentileBand(variant, {}, *site(layer), index, (0, 500), (-1.0, -2.0), (0.0, 0.0), (1.0, 2.0))
        for variant in ("none", "batch")
        for layer in layers
        for index in (None, 3)
    )
    return ShiftFindings(
        "study", "does it shift?", "mnist", "probed", asked, DEFINITIONS,
        (arm("none", layers), arm("batch", layers, **changes)), comparisons, bands, ("it does",), (Note("a note"),), (), {},
    )  # fmt: skip


def shown(given: ShiftFindings, room: int = 160) -> str:
    file = io.StringIO()
    show(given, Console(file=file, width=room))
    return file.getvalue()


LAYERS = ["hidden.0/norm", "hidden.1/norm"]


@pytest.mark.parametrize("room", [80, 100, 160])
def test_no_line_is_wider_than_the_terminal(room: int) -> None:
    assert max(map(len, shown(findings(LAYERS), room).splitlines())) <= room


def test_every_metric_and_layer_of_every_variant_is_in_a_table() -> None:
    text = shown(findings(LAYERS), 80)
    assert text.count("0.15 ±0.07 ↓") == 2 * 2 * len(METRICS)
    assert "none (ref)" in text


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


def test_figures_are_of_every_number_there_is() -> None:
    given = findings(LAYERS)
    layers, ratios, bands = layers_figure(given), ratios_figure(given), bands_figure(given)
    assert layers
    assert ratios
    assert bands
    assert len(layers.spec["data"]["values"]) == 2 * 2 * len(METRICS)
    assert len(ratios.spec["data"]["values"]) == 3 * len(METRICS)
    assert len(bands.spec["data"]["values"]) == 2 * 2 * 2


def test_what_was_not_measured_has_no_figure() -> None:
    empty = ShiftFindings("s", "?", "", "", (), (), (), (), (), (), (), (), {})
    assert (layers_figure(empty), ratios_figure(empty), bands_figure(empty)) == (None, None, None)
