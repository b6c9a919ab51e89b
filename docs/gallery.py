"""Takes the pictures in docs/gallery: reports of shipped presets at small budgets, as Chromium shows them.

    python docs/gallery.py [PRESET...]

Trains for a few minutes on two cores. Needs the extras report, browser and images, and Debian's chromium.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import bncli
from bncli.report.data import ReportData
from bncli.report.page import write_page
from bncli.result import Result

GALLERY = Path(__file__).parent / "gallery"
WIDTH, HEIGHT = 1200, 1350  # of the top of a page, in CSS pixels
COLOURS = 200  # of a picture: enough for flat colours and soft edges of type

# The command that each report says it is of, and the function that does the same.
REPORTS: dict[str, tuple[str, Callable[[Path], Result[Any]]]] = {
    "quickstart": (
        "bncli compare quickstart",
        lambda store: bncli.compare("quickstart", device="cpu", store=store),
    ),
    "figure1-shift": (
        "bncli shift-report figure1-shift --set training.steps=1500 --set probes.every=250 --seeds 3",
        lambda store: bncli.shift_report(
            "figure1-shift", set=["training.steps=1500", "probes.every=250"], seeds=3, device="cpu", store=store
        ),
    ),
    "figure1-tuned": (
        "bncli compare figure1-tuned --set training.steps=1000 --seeds 5 --check",
        lambda store: bncli.compare(
            "figure1-tuned", set=["training.steps=1000"], seeds=5, check=True, device="cpu", store=store
        ),
    ),
    "bench-quick": ("bncli bench", lambda store: bncli.bench("bench-quick", device="cpu", store=store)),
}


def write_report(preset: str, folder: Path) -> Path:
    """The page of one preset, as a file."""
    command, measure = REPORTS[preset]
    result = measure(folder / "store")
    study = result.study.model_dump(mode="json")
    file = folder / f"{preset}.html"
    data = ReportData(preset, result.findings, study, result.runs, result.checks, command)
    file.write_text(write_page(data), encoding="utf-8")
    return file


def take_pictures(preset: str, file: Path, browser: Any) -> None:
    """The top of the page in light colours, its charts in dark ones."""
    for theme in ("light", "dark"):
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme)
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready=charts]")
        charts = page.locator("#charts")
        if theme == "light":
            save_small(page.screenshot(), GALLERY / f"{preset}.png")
        elif charts.count():
            box = charts.bounding_box()
            edge = {"x": 0, "y": box["y"] - 20, "width": WIDTH, "height": box["height"] + 40}
            save_small(page.screenshot(full_page=True, clip=edge), GALLERY / f"{preset}-charts.png")
        page.close()


def save_small(picture: bytes, path: Path) -> None:
    """Write a PNG of few colours."""
    from PIL import Image

    path.parent.mkdir(exist_ok=True)
    with Image.open(BytesIO(picture)) as image:
        image.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path} {path.stat().st_size / 1000:.0f} kB")


def list_pictures() -> str:
    """The gallery's own page: every preset that has pictures, with its command."""
    lines = [
        "# Gallery", "", "Reports of shipped presets at small budgets, as Chromium shows them: the top of each page in",
        "light colours, its charts in dark ones. All are made by `python docs/gallery.py`.", "",
    ]  # fmt: skip
    for preset, (command, _) in REPORTS.items():
        lines += [f"## {preset}", "", f"`{command}`", ""]
        for ending, what in (("", "the top of its report"), ("-charts", "the charts of its report")):
            if (GALLERY / f"{preset}{ending}.png").exists():
                lines += [f"![{preset}: {what}]({preset}{ending}.png)", ""]
    return "\n".join(lines)


def main() -> None:
    """Take the pictures of the presets that are named, or of all."""
    from playwright.sync_api import sync_playwright

    wanted = sys.argv[1:] or list(REPORTS)
    with tempfile.TemporaryDirectory() as place:
        files = {preset: write_report(preset, Path(place)) for preset in wanted}
        with sync_playwright() as driver:
            executable = shutil.which("chromium") or shutil.which("google-chrome")
            browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            for preset, file in files.items():
                take_pictures(preset, file, browser)
            browser.close()
    (GALLERY / "README.md").write_text(list_pictures(), encoding="utf-8")


if __name__ == "__main__":
    main()
