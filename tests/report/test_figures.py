"""Figures: what their specifications hold, and that they can be drawn."""

import json
import math
import sys

import pytest

from bncli.errors import BncliError
from bncli.report.bands import Band
from bncli.report.figures import draw
from bncli.report.figures.panels import Point, Ratio, Share, by_layer, curves, percentile_bands, ratios, shares
from bncli.report.figures.parts import make_figure

STEPS = [0, 500, 1000]


def band(label, middle=(0.1, 0.2, 0.3), panel=""):
    return Band(label, STEPS, [m - 0.1 for m in middle], list(middle), [m + 0.1 for m in middle], panel)


FIGURES = {
    "percentile_bands": percentile_bands([band("none"), band("batch")]),
    "curves": curves([band(v, panel=layer) for layer in ("first", "second") for v in ("none", "batch")], y="||G||"),
    "curves on their own scales": curves([band("none", (1, 2, 3), "a")], y="w1", log=True, free=True),
    "by_layer": by_layer(
        [Point(m, layer, v, 1.5, 2.5, 0.5) for m in ("w1", "ks") for layer in "ab" for v in ("none", "batch")],
    ),
    "ratios": ratios([Ratio("w1", "a", "batch", 0.16, True), Ratio("ks", "a", "batch", 140, False)], reference="none"),
    "shares": shares([Share(k, v, 0.3, v == "a") for k in ("lr", "width") for v in ("a", "b")]),
}
every_figure = pytest.mark.parametrize("spec", FIGURES.values(), ids=FIGURES)


@every_figure
def test_a_specification_is_plain_json(spec):
    assert json.loads(json.dumps(spec, allow_nan=False)) == spec


@every_figure
def test_a_figure_is_drawn_as_svg_pdf_and_png(spec, tmp_path):
    pytest.importorskip("vl_convert", reason="needs the extra: pip install 'bncli[report]'")
    figure = make_figure("a", "What is seen", "How it is read.", "What it shows.", spec)
    for form, start in (("svg", b"<svg"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        draw(figure, tmp_path / "figures" / f"a.{form}")
        assert (tmp_path / "figures" / f"a.{form}").read_bytes().startswith(start)
    text = (tmp_path / "figures" / "a.svg").read_text()
    assert "What is seen" in text
    assert text.count("mark-") > 10


def test_every_panel_and_every_label_is_drawn(tmp_path):
    pytest.importorskip("vl_convert", reason="needs the extra: pip install 'bncli[report]'")
    draw(make_figure("a", "", "", "", FIGURES["curves"]), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for word in ("first", "second", "none", "batch", "training step", "||G||"):
        assert f">{word}<" in text


def test_bands_hold_their_numbers_one_row_a_step():
    rows = FIGURES["percentile_bands"]["data"]["values"]
    assert len(rows) == 6
    assert rows[1] == {
        "panel": "none",
        "label": "none",
        "step": 500,
        "low": 0.1,
        "middle": 0.2,
        "high": pytest.approx(0.3),
    }


def test_panels_and_colours_keep_the_order_given():
    spec = FIGURES["percentile_bands"]
    assert spec["facet"]["sort"] == ["none", "batch"]
    assert spec["spec"]["encoding"]["color"]["scale"]["domain"] == ["none", "batch"]


def test_percentiles_of_all_variants_have_one_scale():
    assert "resolve" not in FIGURES["percentile_bands"]


def test_what_is_not_finite_breaks_the_line():
    spec = percentile_bands([band("none", (0.1, math.nan, 0.3))])
    assert [row["middle"] for row in spec["data"]["values"]] == [0.1, None, 0.3]


def test_on_a_logarithmic_scale_what_is_not_above_0_breaks_the_line():
    spec = curves([band("none", (1.0, 0.1, 2.0))], y="", log=True)
    assert [row["middle"] for row in spec["data"]["values"]] == [1.0, None, 2.0]


def test_a_ratio_is_coloured_by_its_logarithm_up_to_8_and_written_in_full():
    rows = FIGURES["ratios"]["data"]["values"]
    assert [(row["text"], row["shown"]) for row in rows] == [("0.16×", pytest.approx(math.log2(0.16))), ("140×", 3)]


@pytest.mark.parametrize(
    ("ratio", "text"), [(6.1, "6.1×"), (9.96, "10×"), (1.0, "1.0×"), (0.2, "0.20×"), (0.032, "0.032×")]
)
def test_ratios_are_written_with_two_digits(ratio, text):
    spec = ratios([Ratio("w1", "a", "batch", ratio, True)], reference="none")
    assert spec["data"]["values"][0]["text"] == text


FIGURE = make_figure("ratios", "", "", "", FIGURES["ratios"])


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(BncliError) as error:
        draw(FIGURE, tmp_path / "a.svg")
    assert str(error.value) == "figures need vl-convert: pip install 'bncli[report]'"


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    pytest.importorskip("vl_convert", reason="needs the extra: pip install 'bncli[report]'")
    (tmp_path / "file").touch()
    with pytest.raises(BncliError, match=r"file: cannot write figures: (Not a directory|File exists)"):
        draw(FIGURE, tmp_path / "file" / "a.svg")
