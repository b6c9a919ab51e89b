"""Reports of shipped presets in a browser: no error, no request, every control by pointer and by keys, in any light."""

import functools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bncli
from bncli.report.data import ReportData
from bncli.report.page import write_page
from bncli.result import Result

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra: pip install 'bncli[browser]'")
pytest.importorskip("vl_convert", reason="needs the extra: pip install 'bncli[report]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: apt-get install chromium"),
    pytest.mark.timeout(600),
    pytest.mark.nightly,
]

PRESETS = ("quickstart", "figure1-shift", "figure1-tuned", "bench-quick")
WIDTHS = (360, 768, 1280, 1600)
THEMES = ("light", "dark")


def measure(preset: str, store: Path) -> Result[Any]:
    """A shipped preset at a budget of seconds."""
    if preset == "quickstart":
        changes = ["training.steps=300", "target.accuracy=0.5"]
        return bncli.compare(preset, set=changes, seeds=3, device="cpu", store=store)
    if preset == "figure1-shift":
        changes = ["training.steps=1000", "evaluation.every=500", "probes.every=250", "probes.examples=200"]
        return bncli.shift_report(preset, set=changes, seeds=3, device="cpu", store=store)
    if preset == "figure1-tuned":
        changes = [
            "training.steps=300",
            "evaluation.every=50",
            "tune.extend=false",
            "tune.over={training.lr: [0.1, 0.3, 1]}",
        ]
        return bncli.compare(preset, set=changes, seeds=3, device="cpu", store=store, check=True)
    return bncli.bench(preset, budget=6, device="cpu", store=store)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file for each preset's report."""
    folder, found = tmp_path_factory.mktemp("reports"), {}
    for preset in PRESETS:
        result = measure(preset, folder / "store")
        command = f"bncli {'bench' if preset == 'bench-quick' else 'compare'} {preset}"
        study = result.study.model_dump(mode="json")
        data = ReportData(preset, result.findings, study, result.runs, result.checks, command)
        found[preset] = folder / f"{preset}.html"
        found[preset].write_text(write_page(data), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Reader:
    """A page that is open, and everything that went wrong in it."""

    def __init__(self, browser: Any, file: Path, width: int = 1280, theme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        self.faults: list[str] = []
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda r: self.faults.append(r.url) if r.url != file.as_uri() else None)
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-ready=charts]", timeout=60_000)

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, *_: object) -> None:
        self.page.close()
        assert self.faults == []


@pytest.fixture
def read(browser: Any, pages: dict[str, Path]) -> Any:
    return lambda preset, width=1280, theme="light": Reader(browser, pages[preset], width, theme)


every_preset = pytest.mark.parametrize("preset", PRESETS)
every_theme = pytest.mark.parametrize("theme", THEMES)

# Boxes of all texts that are shown, of SVG too, and which of them lie on each other.
OVERLAPS = """() => {
  const boxes = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const sunk = (at) => !at.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || at.closest(".skip");
  const clipped = (node, box) => {
    for (let at = node; at && at !== document.body; at = at.parentElement) {
      if (getComputedStyle(at).overflowX === "visible") continue;
      const frame = at.getBoundingClientRect();
      if (box.left >= frame.right || box.right <= frame.left || box.top >= frame.bottom || box.bottom <= frame.top) return true;
    }
    return false;
  };
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.textContent.trim() || sunk(node.parentElement)) continue;
    const turned = node.parentElement.closest("text"), place = turned && turned.getScreenCTM();
    const angle = place ? Math.round(Math.atan2(place.b, place.a) * 57.2958) : 0;
    if (angle % 90) { // a slanted label: as if the page were turned so that it is level
      const [sin, cos] = [-Math.sin(angle / 57.2958), Math.cos(angle / 57.2958)], own = turned.getBBox();
      const left = place.e * cos - place.f * sin + own.x, top = place.e * sin + place.f * cos + own.y;
      const box = { left, top, right: left + own.width, bottom: top + own.height, height: own.height, angle };
      boxes.push({ box, text: node.textContent.trim() });
      continue;
    }
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects())
      if (box.width > 1 && box.height > 1 && !clipped(node.parentElement, box)) boxes.push({ box, text: node.textContent.trim() });
  }
  const found = [];
  boxes.sort((a, b) => a.box.top - b.box.top);
  boxes.forEach((a, i) => {
    for (const b of boxes.slice(i + 1)) {
      if (b.box.top > a.box.bottom) break;
      if (a.box.angle !== b.box.angle) continue;
      const wide = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
      const high = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
      const line = Math.min(a.box.height, b.box.height);
      if (wide > 1.5 && high > 0.35 * line) found.push(`${a.text} | ${b.text}`);
    }
  });
  return found;
}"""


@every_preset
@pytest.mark.parametrize("width", WIDTHS)
def test_no_texts_overlap_and_nothing_scrolls_sideways(read: Any, preset: str, width: int) -> None:
    with read(preset, width) as page:
        assert page.evaluate(OVERLAPS) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_texts_that_overlap_are_seen(read: Any) -> None:
    with read("quickstart") as page:
        page.evaluate("document.querySelector('.setup').style.marginTop = '-3rem'")
        assert page.evaluate(OVERLAPS) != []


@every_preset
@every_theme
def test_no_serious_fault_of_accessibility_is_found(read: Any, preset: str, theme: str) -> None:
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="needs the extra: pip install 'bncli[browser]'")
    with read(preset, theme=theme) as page:
        found = axe.Axe().run(page)["violations"]
        assert [
            (f["id"], [n["html"][:120] for n in f["nodes"]]) for f in found if f["impact"] in ("serious", "critical")
        ] == []


@every_preset
def test_a_column_sorts_by_pointer_and_by_keys(read: Any, preset: str) -> None:
    with read(preset) as page:
        table = page.locator("table.sortable").first
        head = table.locator("thead th").nth(1)
        cells = functools.partial(table.locator("tbody tr > :nth-child(2)").all_inner_texts)
        before = cells()
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert cells() == sorted(before, key=str.lower)
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert cells() == sorted(before, key=str.lower, reverse=True)
        head.locator("button").press("Space")
        assert head.get_attribute("aria-sort") is None
        assert cells() == before


def test_numbers_sort_as_numbers_and_what_is_missing_comes_last(read: Any) -> None:
    with read("bench-quick") as page:
        table = page.locator("table.sortable").first
        heads = table.locator("thead th").all_inner_texts()
        place = next(i for i, head in enumerate(heads) if head.startswith("time"))
        table.locator("thead th").nth(place).locator("button").click()
        units = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
        texts = table.locator(f"tbody tr > :nth-child({place + 1})").all_inner_texts()
        seconds = [float(value) * units[unit] for value, unit, *_ in map(str.split, texts)]
        assert seconds == sorted(seconds)
        assert len(seconds) > 5


def marks(page: Any) -> int:
    """Drawn lines and points of the first chart, of any extent."""
    return int(page.evaluate(
        "[...document.querySelector('figure .chart').querySelectorAll('.role-mark path')]"
        ".filter(e => { const b = e.getBBox(); return b.width + b.height > 0; }).length"
    ))  # fmt: skip


@pytest.mark.parametrize("preset", ["quickstart", "figure1-tuned"])
def test_a_variant_can_be_left_out_and_comes_back(read: Any, preset: str) -> None:
    with read(preset) as page:
        before = marks(page)
        box = page.locator("#variants input").last
        box.click()
        page.wait_for_timeout(100)
        fewer = marks(page)
        box.focus()
        page.keyboard.press("Space")
        page.wait_for_timeout(100)
        assert fewer < before == marks(page)


def test_single_seeds_are_drawn_on_demand(read: Any) -> None:
    with read("quickstart") as page:
        before = marks(page)
        page.get_by_label("single seeds").first.check()
        page.wait_for_timeout(100)
        assert marks(page) > before


def ticks(page: Any) -> list[str]:
    """Labels of the axes of the first chart; a browser keeps them in no order."""
    return sorted(page.locator("figure").first.locator(".chart .role-axis-label text").all_text_contents())


def test_a_chart_zooms_by_buttons_keys_and_wheel_and_comes_back(read: Any) -> None:
    with read("quickstart") as page:
        before, figure = ticks(page), page.locator("figure").first
        figure.get_by_role("button", name="Zoom in").click()
        zoomed = ticks(page)
        figure.get_by_role("button", name="Reset").click()
        assert ticks(page) == before != zoomed
        chart = figure.locator(".chart")
        chart.press("+")
        assert ticks(page) == zoomed
        chart.press("0")
        assert ticks(page) == before
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.move(box["x"] + box["width"] / 2 + 5, box["y"] + box["height"] / 2 + 5)
        page.keyboard.down("Control")
        page.mouse.wheel(0, -300)
        page.keyboard.up("Control")
        page.wait_for_timeout(100)
        assert ticks(page) != before


def test_an_axis_can_be_logarithmic(read: Any) -> None:
    with read("quickstart") as page:
        before = ticks(page)
        page.get_by_label("log x").first.check()
        page.wait_for_timeout(300)
        assert ticks(page) != before


@pytest.mark.parametrize("preset", ["quickstart", "figure1-shift", "figure1-tuned"])
def test_values_are_read_by_pointer_by_keys_and_in_a_table(read: Any, preset: str) -> None:
    with read(preset) as page:
        figure = page.locator("figure").first
        figure.locator(".chart").focus()
        page.keyboard.press("ArrowRight")
        said = figure.locator(".reading").inner_text()
        page.keyboard.press("End")
        assert said.startswith("1 of ")
        assert figure.locator(".reading").inner_text() != said
        figure.locator("summary").press("Enter")
        figure.locator("tbody tr").first.wait_for()
        row = figure.locator("tbody tr").first.locator("td").all_inner_texts()
        assert [part.split(": ", 1)[1] for part in said.split(": ", 1)[1].split(" · ")] == [
            cell for cell in row if cell
        ]


def test_the_pointer_reads_a_value(read: Any) -> None:
    with read("quickstart") as page:
        chart = page.locator("figure .chart").first
        chart.scroll_into_view_if_needed()
        box = chart.locator(".role-mark path").last.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2 + 3)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
        page.wait_for_selector("#vg-tooltip-element.visible")
        assert "variant" in page.locator("#vg-tooltip-element").inner_text()


def test_the_keyboard_alone_gets_everywhere_in_the_order_of_the_page(read: Any) -> None:
    with read("quickstart") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        wanted = page.evaluate(
            "[...document.querySelectorAll('main a, main button, main input, main summary, main [tabindex=\"0\"]')]"
            ".filter(e => e.checkVisibility()).map((e, i) => (e.dataset.place = i))"
        )
        reached = []
        for _ in wanted:
            page.keyboard.press("Tab")
            reached.append(page.evaluate(
                "(e => e.dataset.place && getComputedStyle(e).outlineStyle !== 'none' ? +e.dataset.place : e.outerHTML)"
                "(document.activeElement)"
            ))  # fmt: skip
        assert reached == wanted


@every_preset
def test_light_and_dark_follow_the_system_and_the_button(read: Any, preset: str) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with read(preset, theme="dark") as page:
        dark = page.evaluate(paper)
        page.locator("#theme").click()
        light = page.evaluate(paper)
        assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 23, 26)")
        assert page.locator("#theme").inner_text() == "Dark colours"
        page.locator("#theme").press("Enter")
        assert page.evaluate(paper) == dark
        labels = page.locator(".chart .role-axis-label text")
        if labels.count():
            inks = [labels.first.evaluate("e => getComputedStyle(e).fill")]
            page.locator("#theme").click()
            inks.append(labels.first.evaluate("e => getComputedStyle(e).fill"))
            assert inks[0] != inks[1]


@every_preset
def test_on_paper_it_is_white_and_whole_without_controls(read: Any, preset: str) -> None:
    with read(preset, width=720, theme="dark") as page:
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator(".tools:visible, #theme:visible, nav:visible, .board:visible").count() == 0
        assert page.locator("section > details:not([open])").count() == 0
        assert (
            page.evaluate(
                "[...document.querySelectorAll('.chart svg')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
            )
            == 0
        )
        assert page.evaluate(OVERLAPS) == []
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_hostile_names_run_nothing(browser: Any, tmp_path: Path) -> None:
    from tests.report.made_reports import study_report

    nasty = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
    data = study_report(("none", nasty))
    file = tmp_path / "nasty.html"
    file.write_text(write_page(replace(data, name=nasty)), encoding="utf-8")
    with Reader(browser, file) as page:
        page.locator("figure summary").first.click()
        assert page.evaluate("window.ran") is None
        assert nasty in page.locator("#variants").inner_text()


def test_without_scripts_texts_and_tables_are_there(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(pages["quickstart"].as_uri())
    assert "The charts need JavaScript" in page.locator("body").inner_text()
    assert page.locator("table").first.locator("tbody tr").count() == 5
    page.close()
