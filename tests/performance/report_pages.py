"""How large reports are and how long they take to write and to open in Chromium; a table, or --json.

Made by hand, so that no training is timed: a study of 10 variants with 10 seeds and 101 evaluations a run, one of 5
variants with 5 seeds, shift, kernels. Opened is a page whose charts are all drawn. Needs the extras report and browser.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from bncli.report.page import write_page  # noqa: E402
from tests.report.made_reports import bench_report, shift_report, study_report  # noqa: E402

GOALS = {"bytes": 1_500_000, "open": 2.0}
REPORTS = {
    "study 10 x 10": lambda: study_report(("none", *(f"variant {i}" for i in range(9))), seeds=10, points=101),
    "study 5 x 5": lambda: study_report(("none", "batch", "zca", "iternorm", "cholesky"), seeds=5),
    "shift": shift_report,
    "bench": bench_report,
}


def seconds_to_open(browser: Any, file: Path) -> tuple[float, float]:
    """From the request to tables that can be sorted, and to the last chart, in a new window."""
    page = browser.new_context().new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready=charts]", timeout=60_000)
    tables, charts = (
        page.evaluate(f"performance.getEntriesByName('{stage}')[0].startTime") / 1000 for stage in ("tables", "charts")
    )
    page.context.close()
    return tables, charts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for name, make in REPORTS.items():
            data, file = make(), Path(place) / "page.html"
            write_page(data)  # bundles the library, once a process
            start = time.perf_counter()
            file.write_text(write_page(data), encoding="utf-8")
            written = time.perf_counter() - start
            tables, opened = zip(*(seconds_to_open(browser, file) for _ in range(options.rounds)), strict=True)
            low, middle, high = statistics.quantiles(opened, n=4)
            figures[name] = {
                "bytes": file.stat().st_size, "write": written, "tables": statistics.median(tables),
                "open": middle, "open_low": low, "open_high": high, "goals": GOALS,
            }  # fmt: skip
        browser.close()
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{'page':16} {'size':>9} {'to write':>9} {'to read':>9}  all charts: median [quartiles] of {options.rounds}")
    for name, found in figures.items():
        print(
            f"{name:16} {found['bytes'] / 1000:6.0f} kB {found['write']:7.2f} s {found['tables']:7.2f} s"
            f"  {found['open']:.2f} s "
            f"[{found['open_low']:.2f}, {found['open_high']:.2f}] (goals: {GOALS['bytes'] / 1e6:g} MB, {GOALS['open']:g} s)"
        )


if __name__ == "__main__":
    main()
