"""Figures: that their numbers are the findings', that they can be drawn, that a variant looks the same in all."""

import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from bncli.errors import BncliError
from bncli.findings import Tuning
from bncli.findings.shift import ShiftFindings
from bncli.report.data import ReportData
from bncli.report.figures import STYLES, Figure, draw, history_figure, list_figures, render, theme, write_figures
from bncli.report.figures.parts import DASHES, MOST_POINTS, SHAPES, make_figure, short, thin
from bncli.report.figures.style import COLOURS, DARK_COLOURS
from tests.report.made_figures import VARIANTS, bench, curve, figures_without_curves, history, shift, study, swept
from tests.report.made_findings import figure1
from tests.report.made_shift import METRICS, findings

DATA = {"study": study(), "swept": swept(), "shift": shift(), "one-layer": shift(["hidden.1/norm"]), "bench": bench()}
FIGURES = {f"{name}-{figure.name}": figure for name, data in DATA.items() for figure in list_figures(data)}
FIGURES["history"] = history_figure(history())
every_figure = pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
needs_extra = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('vl_convert')", reason="[report]")


def rows(figure: Figure) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = figure.spec["data"]["values"]
    return found


def find(spec: Any, key: str) -> Iterator[Any]:
    """Everything that stands under a key, however deep, but in the data."""
    if isinstance(spec, dict):
        for name, value in spec.items():
            if name == key:
                yield value
            if name != "data":
                yield from find(value, key)
    elif isinstance(spec, list):
        for each in spec:
            yield from find(each, key)


@every_figure
def test_a_figure_has_words_and_a_specification_that_is_plain_json(figure: Figure) -> None:
    assert json.loads(json.dumps(figure.spec, allow_nan=False)) == figure.spec
    assert all((figure.title, figure.caption, figure.alt))
    assert figure.caption.endswith(".")
    assert figure.spec["description"] == figure.alt
    assert "config" not in figure.spec


@every_figure
def test_every_number_of_the_data_has_at_most_four_digits_but_steps(figure: Figure) -> None:
    for row in rows(figure) if "data" in figure.spec else ():
        for key, value in row.items():
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and key not in ("step", "seed", "run"):
                    assert number == short(number)


@every_figure
def test_every_mark_of_data_has_a_tooltip(figure: Figure) -> None:
    marks = [layer for layers in find(figure.spec, "layer") for layer in layers]
    assert marks
    for layer in marks:
        assert "tooltip" in layer["encoding"] or layer["mark"].get("style") in ("target", "cell", "label")


@every_figure
def test_no_panel_stands_empty(figure: Figure) -> None:
    for panels in find(figure.spec, "facet"):
        assert {row[panels["field"]] for row in rows(figure)} == set(panels["sort"])


@every_figure
def test_lines_of_variants_can_be_hidden(figure: Figure) -> None:
    if figure.name not in ("roofline", "history"):
        assert {"name": "hidden", "value": []} in figure.spec["params"]
        assert {"filter": "indexof(hidden, datum.variant) < 0"} in [
            t for ts in find(figure.spec, "transform") for t in ts
        ]


def width(figure: Figure, style: Any) -> float:
    svg = render(figure, "svg", style)
    found = re.search(r'<svg[^>]* width="([\d.]+)"', svg if isinstance(svg, str) else "")
    assert found
    return float(found[1])


DRAWN = [
    "study-convergence", "study-cost", "swept-convergence", "swept-sweep-lr", "shift-figure1", "shift-bands",
    "shift-layers", "shift-ratios", "shift-course-ks", "one-layer-layers", "bench-bench", "bench-roofline", "history",
]  # fmt: skip


@needs_extra
@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_on_paper_is_as_wide_as_a_column(name: str) -> None:
    assert width(FIGURES[name], "paper") == pytest.approx(STYLES["paper"].width, rel=0.06)


@needs_extra
@pytest.mark.parametrize("style", ["slides", "web"])
def test_a_figure_is_as_wide_as_its_style_says_and_has_its_words_in_it(style: Any) -> None:
    assert width(FIGURES["study-convergence"], style) == pytest.approx(STYLES[style].width, rel=0.02)
    assert "Accuracy over training" in str(render(FIGURES["study-convergence"], "svg", style))


@needs_extra
def test_on_paper_the_words_around_a_figure_are_the_papers() -> None:
    assert "over training" not in str(render(FIGURES["study-convergence"], "svg", "paper"))


def test_the_study_shows_its_curves_in_steps_and_seconds_then_the_rest() -> None:
    assert [figure.name for figure in list_figures(DATA["study"])] == [
        "convergence", "convergence-time", "cost", "convergence-loss",
    ]  # fmt: skip


def test_a_curve_has_at_most_120_points_and_both_its_ends() -> None:
    row = rows(FIGURES["study-convergence"])[0]
    assert len(row["step"]) == MOST_POINTS
    assert (row["step"][0], row["step"][-1], row["mean"][-1]) == (0, 5000, 0.9)
    gaps = {b - a for a, b in zip(row["step"], row["step"][1:], strict=False)}
    assert gaps <= {40, 50}
    assert thin(3) == [0, 1, 2]


def test_the_numbers_of_curves_are_the_findings_with_four_digits() -> None:
    first = study().findings.curves[0]  # type: ignore[union-attr]
    row = rows(FIGURES["study-convergence"])[0]
    where = [first.steps.index(step) for step in row["step"]]
    assert row["mean"] == [pytest.approx(first.mean[i], rel=5e-4) for i in where]
    assert row["low"] == [pytest.approx(first.low[i], rel=5e-4) for i in where]
    assert rows(FIGURES["study-convergence-time"])[0]["seconds"][-1] == 10


def test_single_seeds_are_there_on_demand_and_those_of_a_search_are_not() -> None:
    spec = FIGURES["study-convergence"].spec
    assert {"name": "seeds", "value": False} in spec["params"]
    seeds = [(row["variant"], row["seed"]) for row in rows(FIGURES["study-convergence"]) if "seed" in row]
    assert seeds == [(variant, seed) for variant in VARIANTS for seed in (0, 1)]


def test_the_target_is_a_line_and_is_said() -> None:
    figure = FIGURES["study-convergence"]
    assert {row["target"] for row in rows(figure) if "seed" not in row} == {0.95}
    assert "the dotted line is the target, 95.0 %" in figure.caption
    assert "target" not in rows(FIGURES["study-convergence-loss"])[0]


def test_the_axis_holds_every_mean_whatever_a_wide_interval_does() -> None:
    wide = curve("none", low=(-9.0,) * 501, high=(9.0,) * 501)
    data = ReportData("a", replace(figure1(), curves=(wide,)))
    (domain,) = {json.dumps(d) for d in find(list_figures(data)[0].spec, "domain") if isinstance(d[0], int | float)}
    assert json.loads(domain) == [0, 1]
    losses = ReportData("a", replace(figure1(), curves=(replace(wide, metric="loss", unit="nats"),)))
    low, high = next(d for d in find(list_figures(losses)[0].spec, "domain") if isinstance(d[0], int | float))
    assert -0.5 < low < 0.1
    assert 0.95 < high < 1.5


def test_a_variant_has_one_place_in_the_order_of_colours_in_every_figure_the_reference_first() -> None:
    found = {
        json.dumps(scale["domain"])
        for name in ("study", "swept")
        for figure in list_figures(DATA[name])
        for scale in find(figure.spec, "scale")
        if isinstance(scale.get("domain", [0])[0], str)
    }
    assert found == {json.dumps(list(VARIANTS))}
    assert FIGURES["study-cost"].alt.startswith("Relative to none: batch")


def test_twelve_variants_differ_in_colour_on_white_and_on_dark_in_dash_and_in_shape() -> None:
    for kinds in (COLOURS, DARK_COLOURS, list(map(str, DASHES)), SHAPES):
        assert len(set(kinds)) == 12


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("colours", "ground"), [(COLOURS, "#ffffff"), (DARK_COLOURS, "#1e1e1e")])
def test_every_colour_stands_out_from_the_ground(colours: tuple[str, ...], ground: str) -> None:
    for colour in colours:
        lighter, darker = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 2.2, colour
    assert theme("web", dark=True)["range"]["category"] == list(DARK_COLOURS)


def test_cost_is_by_the_first_measure_that_can_be_compared_and_points_are_points() -> None:
    figure = FIGURES["study-cost"]
    assert rows(figure)[1] == {"variant": "batch", "cost": 1.213, "gain": 0.408, "low": 0.361, "high": 0.468}
    assert "on the dotted line the time to the target is none's" in figure.caption
    assert figure.caption.endswith("Not shown, since it cannot be compared on both: late.")
    accuracy = replace(figure1(), measures=figure1().measures[1:], curves=())
    (points,) = list_figures(ReportData("a", accuracy))
    assert rows(points)[1] == {"variant": "batch", "cost": 1.213, "gain": 0.4, "low": 0.2, "high": 0.6}


def test_a_swept_number_is_an_axis_with_the_best_of_each_marked() -> None:
    figure = FIGURES["swept-sweep-lr"]
    best = [(row["variant"], row["x"]) for row in rows(figure) if "best" in row]
    assert [variant for variant, _ in best] == list(VARIANTS)
    assert figure.title == "Final accuracy over the learning rate"
    assert next(find(figure.spec, "x"))["scale"]["type"] == "log"


def test_a_tuned_key_is_an_axis_with_the_chosen_value_marked() -> None:
    tuning = Tuning(
        variant="none", setting={}, key="training.lr", by="validation_loss", values=(0.1, 0.3), scores=({}, {}),
        medians=(-0.8, -0.3), chosen=0.3, on_edge=False, usable_low=0.3, usable_high=0.3, expected_best=(), runs=2,
        saved=0, steps=1,
    )  # fmt: skip
    figure = list_figures(ReportData("a", replace(figure1(), tunings=(tuning,))))[0]
    assert figure.name == "tuning-lr"
    assert rows(figure) == [
        {"variant": "none", "x": 0.1, "y": 0.8}, {"variant": "none", "x": 0.3, "y": 0.3, "best": 1},
    ]  # fmt: skip
    assert figure.alt == "Validation loss over the learning rate. Best for none 0.3 (0.300)."


def test_a_loss_that_blew_up_does_not_hide_the_others() -> None:
    tuning = Tuning(
        variant="none", setting={}, key="training.lr", by="validation_loss", values=(0.1, 0.3, 1.0),
        scores=({}, {}, {}), medians=(-2.0, -3.0, -1.9e12), chosen=0.1, on_edge=False, usable_low=0.1, usable_high=0.3,
        expected_best=(), runs=3, saved=0, steps=1,
    )  # fmt: skip
    y = next(find(list_figures(ReportData("a", replace(figure1(), tunings=(tuning,))))[0].spec, "y"))
    assert (y["scale"]["domainMax"], y["scale"]["clamp"]) == (3.15, True)
    assert y["title"] == "validation loss (what is above stands at the edge)"


def test_findings_of_before_curves_were_kept_have_the_figures_that_they_can() -> None:
    assert [f.name for f in list_figures(ReportData("a", figures_without_curves()))] == ["cost"]


def test_shift_shows_figure_1_of_the_paper_with_a_panel_for_every_variant() -> None:
    figure = FIGURES["shift-figure1"]
    assert [each["text"] if isinstance(each, dict) else each for each in find(figure.spec, "title")][1:] != []
    titles = [panel["title"] for panel in figure.spec["vconcat"][1]["concat"]]
    assert (figure.spec["vconcat"][0]["title"], titles) == ("(a) accuracy", ["(b) none", "(c) batch"])


def test_shift_by_layer_has_every_number_with_its_interval_and_noise() -> None:
    found = rows(FIGURES["shift-layers"])
    assert len(found) == 2 * 2 * len(METRICS)
    assert found[0] == {
        "metric": "percentile drift", "layer": "hidden.0", "variant": "none", "arm": "none", "mean": 0.15, "low": 0.1,
        "high": 0.2, "noise": 0.01,
    }  # fmt: skip
    assert len(rows(FIGURES["shift-ratios"])) == 3 * len(METRICS)
    assert len(rows(FIGURES["shift-bands"])) == 2 * 2


def test_a_map_has_a_row_a_layer_and_there_is_none_of_a_single_layer() -> None:
    assert rows(FIGURES["shift-course-ks"])[0] == {
        "variant": "none", "at": "none", "layer": "hidden.0", "step": [0, 500, 1000], "value": [0.1, 0.2, 0.3],
    }  # fmt: skip
    assert [name for name in FIGURES if name.startswith("one-layer-course")] == []
    assert FIGURES["one-layer-layers"].title == "Shift at hidden.1, mean over training"


def test_what_was_not_measured_has_no_figure() -> None:
    nothing = replace(findings([]), arms=(), comparisons=(), bands=(), definitions=())
    assert list_figures(ReportData("a", nothing)) == []
    assert list_figures(ReportData("a", None)) == []


def test_bench_has_the_ratio_of_every_case_to_torch_and_what_share_of_the_machine_it_uses() -> None:
    figure = FIGURES["bench-bench"]
    assert rows(figure)[0] == {
        "variant": "batch", "at": "train-forward", "ratio": 0.587, "text": "0.59x", "verdict": "better",
        "low": 0.581, "high": 0.594,
    }  # fmt: skip
    assert figure.title == "Time against torch"
    kinds = [(row["variant"], row["kind"]) for row in rows(FIGURES["bench-roofline"])]
    assert kinds[-1] == ("iternorm", "matrix products")


def test_the_history_of_a_gate_names_the_commit_at_which_a_case_stepped() -> None:
    figure = FIGURES["history"]
    assert "Stepped: batch at run 3 (commit 3abcdef012)." in figure.alt
    assert sum("stepped" in row for row in rows(figure)) == 1


@pytest.mark.parametrize(("number", "text"), [(0.123456, 0.1235), (12345.6, 12350), (2.0, 2), (math.nan, None)])
def test_numbers_have_four_significant_digits(number: float, text: float | None) -> None:
    assert short(number) == text


@needs_extra
def test_a_file_is_what_its_ending_says_and_a_pdf_has_its_fonts_in_it(tmp_path: Any) -> None:
    figure = FIGURES["study-convergence"]
    for form, start in (("svg", b"<svg"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        place = tmp_path / "figures" / f"a.b.{form}"
        draw(figure, place, "paper")
        assert place.read_bytes().startswith(start)
        assert [path.name for path in place.parent.iterdir() if path.name.startswith(".")] == []
    assert b"FontFile" in (tmp_path / "figures" / "a.b.pdf").read_bytes()


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.svg").write_text("before")
    monkeypatch.setattr("bncli.report.figures.files.render", lambda *_: "<svg/>")
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(BncliError, match="cannot write figures: No space left on device"):
        draw(FIGURES["history"], tmp_path / "a.svg")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.svg", "before")]


@pytest.mark.parametrize(
    ("ratio", "text"), [(140, "140"), (9.96, "10"), (6.1, "6.1"), (1, "1.0"), (0.2, "0.20"), (0.032, "0.032")]
)
def test_ratios_are_written_with_two_digits(ratio: float, text: str) -> None:
    made = shift().findings
    assert isinstance(made, ShiftFindings)
    changed = tuple(replace(c, estimate=ratio) for c in made.comparisons)
    figure = next(f for f in list_figures(ReportData("a", replace(made, comparisons=changed))) if f.name == "ratios")
    assert {row["text"] for row in rows(figure)} == {text}


@needs_extra
def test_plots_are_named_after_the_study(tmp_path: Any) -> None:
    (figure,) = list_figures(ReportData("x", figures_without_curves()))
    names = [path.name for path in write_figures([figure], "x", tmp_path, "slides", ("svg", "pdf", "png"))]
    assert names == [f"x-{figure.name}.{form}" for form in ("svg", "pdf", "png")]


@needs_extra
def test_another_ending_is_refused(tmp_path: Any) -> None:
    with pytest.raises(BncliError, match="figures are written as svg, pdf or png, not as 'jpg'"):
        draw(FIGURES["history"], tmp_path / "a.jpg")


FIGURE = make_figure("a", "", "", "", {"data": {"values": []}, "mark": "point"})


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(BncliError) as error:
        draw(FIGURE, tmp_path / "a.svg")
    assert str(error.value) == "figures need vl-convert: pip install 'bncli[report]'"


@needs_extra
def test_a_folder_that_cannot_be_made_is_said(tmp_path: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BncliError, match=r"file: cannot write figures: (Not a directory|File exists)"):
        draw(FIGURE, tmp_path / "file" / "a.svg")
