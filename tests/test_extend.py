"""The pages for contributors: their blocks work as they stand."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import bncli
from bncli.config import read_study
from bncli.errors import ConfigError
from bncli.executors import Workers, open_workers
from bncli.models import MODELS
from bncli.plugins import using
from bncli.report import exports
from bncli.shift import METRICS

PAGES = Path(__file__).parent.parent / "docs" / "extend"
TABLES = ("model", "data", "metric", "optimizer", "executor")
STUDY = {
    "data": "quadrants", "model": {"name": "bottleneck", "narrow": 4}, "variants": {"none": "none", "batch": "batch"},
    "reference": "none", "seeds": 2, "probes": {"metrics": ["median-drift"], "every": 10, "examples": 50},
    "training": {"steps": 20, "optimizer": "sign", "lr": 0.01, "schedule": {"name": "inverse-root", "scale": 10}},
    "evaluation": {"every": 10}, "measures": ["final_accuracy", "median-drift"],
}  # fmt: skip


def block(page: str) -> str:
    (code,) = (PAGES / f"{page}.md").read_text().split("```python\n")[1:]
    return code.partition("```")[0]


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[str]]:
    for page in TABLES:
        (tmp_path / f"{page}_of_mine.py").write_text(block(page))
    names = [str(tmp_path / f"{page}_of_mine.py") for page in TABLES]
    with using(names):
        yield names


def test_model_data_metric_optimizer_and_schedule_of_the_pages_train(files: list[str], tmp_path: Path) -> None:
    result = bncli.compare(STUDY, plugins=files, store=tmp_path / "store", executor="thread", device="cpu")
    assert [run.result.info.reason for run in result.runs if run.result] == [""] * 4
    assert [summary.measure for summary in result.findings.arms[0].summaries] == STUDY["measures"]


def test_what_the_pages_add_is_checked_like_everything_else(files: list[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"model.narow: no such key; did you mean 'narrow'\? \(known: width, narrow\)"
    ):
        read_study({**STUDY, "model": {"name": "bottleneck", "narow": 4}})
    row_layers = MODELS["bottleneck"].sizes({"width": 5, "narrow": 3}, (2,), 2)
    assert [(layer.inputs, layer.channels) for layer in row_layers] == [(2, 5), (5, 3), (3, 2)]


def test_the_metric_of_the_page_is_3_where_a_sample_moved_by_3(files: list[str]) -> None:
    x = torch.randn(9, 4)
    torch.testing.assert_close(METRICS.load("median-drift")(x, x + 3), torch.full((4,), 3.0))


def test_the_executor_of_the_page_opens(files: list[str]) -> None:
    opened = open_workers("fresh", 1, "cpu")
    try:
        assert isinstance(opened, Workers)
        assert opened.executor.submit(max, 3, 5).result() == 5
    finally:
        opened.executor.shutdown()


def test_the_export_of_the_page_is_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "FORMATS", {**exports.FORMATS})
    (tmp_path / "export_of_mine.py").write_text(block("export"))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("export_of_mine")
    small = {"training.steps": 4, "evaluation.every": 2}
    result = bncli.compare("smoke", seeds=2, set=small, store=tmp_path, executor="thread", device="cpu")
    lines = str(exports.render(result.data(), "means")).splitlines()
    assert [line.split()[0] for line in lines] == ["none", "batch"]
    assert {len(line.split()) for line in lines} == {1 + len(result.findings.measures)}
    exports.require_format("means", "study")


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md")))
def test_the_index_names_every_page_and_pages_stay_short(page: str) -> None:
    assert page == "README.md" or f"({page})" in (PAGES / "README.md").read_text()
    assert page == "plugins.md" or (PAGES / page).read_text().count("\n") <= 60
