"""The hash of code: by content and relative name, of a file and the local modules that it imports."""

import ast
import os
import shutil
import sys
from pathlib import Path

import pytest

import bncli
from bncli.api import open_study
from bncli.code_hash import Code, fingerprint, read_code
from bncli.plugins import using

MAIN = "import helpers\nfrom lab.layers import wide\nimport torch\n\nNORMS = {}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file that imports a module beside it, which imports another, and one of a package."""
    return fill(tmp_path / "here")


def fill(folder: Path) -> Path:
    (folder / "lab").mkdir(parents=True)
    (folder / "main.py").write_text(MAIN)
    (folder / "helpers.py").write_text("from deeper import x\n")
    (folder / "deeper.py").write_text("x = 1\n")
    (folder / "unrelated.py").write_text("x = 1\n")
    (folder / "lab" / "__init__.py").write_text("from . import depths\n")
    (folder / "lab" / "layers.py").write_text("wide = 3\n")
    (folder / "lab" / "depths.py").write_text("deep = 3\n")
    (folder / "lab" / "aside.py").write_text("x = 1\n")
    return folder


def read(folder: Path, file: str = "main.py") -> Code:
    return read_code(folder / file, "main_of_a_test", folder)


def test_it_reads_the_local_modules_that_a_file_imports_and_no_other(folder: Path) -> None:
    assert set(read(folder).sources) == {
        "main_of_a_test", "helpers", "deeper", "lab", "lab.layers", "lab.depths",
    }  # fmt: skip


@pytest.mark.parametrize("file", ["main.py", "helpers.py", "deeper.py", "lab/__init__.py", "lab/depths.py"])
@pytest.mark.parametrize("added", ["x = 2\n", "# only a comment\n"])
def test_an_edit_of_the_file_or_of_what_it_imports_changes_the_hash(folder: Path, file: str, added: str) -> None:
    before = read(folder).hash
    (folder / file).write_text((folder / file).read_text() + added)
    assert read(folder).hash != before


def test_touching_moving_and_renaming_leave_the_hash(folder: Path, tmp_path: Path) -> None:
    before = read(folder).hash
    os.utime(folder / "helpers.py", (0, 0))
    assert read(folder).hash == before
    elsewhere = folder.rename(tmp_path / "there")
    assert read(elsewhere).hash == before
    (elsewhere / "main.py").rename(elsewhere / "other.py")
    assert read(elsewhere, "other.py").hash == before


@pytest.mark.parametrize("file", ["unrelated.py", "lab/aside.py"])
def test_what_is_not_imported_does_not_count(folder: Path, file: str) -> None:
    before = read(folder).hash
    (folder / file).write_text("x = 2\n")
    assert read(folder).hash == before


def test_two_local_modules_that_trade_their_texts_change_the_hash(folder: Path) -> None:
    (folder / "main.py").write_text("import one, two\n")
    (folder / "one.py").write_text("x = 1\n")
    (folder / "two.py").write_text("x = 2\n")
    before = read(folder).hash
    (folder / "one.py").write_text("x = 2\n")
    (folder / "two.py").write_text("x = 1\n")
    assert read(folder).hash != before


@pytest.mark.parametrize(
    "text", ["TARGET = 'helpers:Norm'\n", "from importlib import import_module\nimport_module('helpers')\n"]
)
def test_a_module_that_is_named_in_a_target_or_imported_by_a_call_counts(folder: Path, text: str) -> None:
    (folder / "main.py").write_text(text)
    assert {"helpers", "deeper"} <= set(read(folder).sources)


def test_installed_packages_count_by_version_and_those_below_bncli_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages"
    (installed / "strangenorms").mkdir(parents=True)
    (installed / "strangenorms" / "__init__.py").write_text("")
    (folder := tmp_path / "own").mkdir()
    (folder / "main.py").write_text("import json, torch, numpy\nimport strangenorms\n")
    monkeypatch.syspath_prepend(installed)

    def install(version: str) -> Code:
        from bncli.code_hash import version_of

        version_of.cache_clear()
        for old in installed.glob("*.dist-info"):
            (old / "METADATA").unlink()
            old.rmdir()
        place = installed / f"strangenorms-{version}.dist-info"
        place.mkdir()
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: strangenorms\nVersion: {version}\n")
        return read(folder)

    first, second = install("1.0"), install("1.1")
    assert (first.packages, second.packages) == ({"strangenorms": "1.0"}, {"strangenorms": "1.1"})
    assert first.hash != second.hash
    (installed / "strangenorms" / "__init__.py").write_text("x = 1\n")
    assert read(folder).hash == second.hash


def test_a_working_tree_elsewhere_on_the_path_counts_by_content(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree := tmp_path / "tree").mkdir()
    (tree / "working_tree_module.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tree)
    (folder / "main.py").write_text("import working_tree_module\n")
    before = read(folder)
    assert set(before.sources) == {"main_of_a_test", "working_tree_module"}
    (tree / "working_tree_module.py").write_text("x = 2\n")
    assert read(folder).hash != before.hash


def test_a_folder_without_python_does_not_hide_an_installed_package(folder: Path) -> None:
    (folder / "torch").mkdir()
    (folder / "main.py").write_text("import torch\n")
    assert set(read(folder).sources) == {"main_of_a_test"}
    assert "main_of_a_test" not in sys.modules  # nothing was run


PACKAGE = Path(bncli.__file__).parent
NAMED = {"data", "kernels", "models", "norms", "optim", "shift"}  # their rows name the code that training loads


def modules_of(file: Path) -> set[str]:
    """Modules of bncli that a file imports, also inside its functions; and those that its rows name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            in_rows = file.relative_to(PACKAGE).parts[0] in NAMED
            found |= {node.value.partition(":")[0]} if in_rows and ":" in node.value else set()
    return {name for name in found if name.startswith("bncli.")}


def executed_by_training() -> set[Path]:
    """Files that a worker may run while it trains a job, from the function that it is given on."""
    found, waiting = set[Path](), {"bncli.engine.work"}
    while waiting:
        base = PACKAGE.parent.joinpath(*waiting.pop().split("."))
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file() and file not in found:
                found.add(file)
                waiting |= modules_of(file)
    return found


def test_the_walk_through_training_comes_everywhere() -> None:
    rooms = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in executed_by_training()}
    assert {*NAMED, "catalogue", "config", "engine", "plan", "plugins", "records"} <= rooms
    assert len(executed_by_training()) > 70


def test_every_file_that_training_executes_is_in_the_fingerprint(tmp_path: Path) -> None:
    copy = shutil.copytree(PACKAGE, tmp_path / "bncli", ignore=shutil.ignore_patterns("__pycache__"))
    before, left_out = fingerprint(copy), []
    for file in sorted(file.relative_to(PACKAGE) for file in executed_by_training()):
        text = (copy / file).read_text()
        (copy / file).write_text(text + "# edited\n")
        if fingerprint(copy) == before:
            left_out.append(file)
        (copy / file).write_text(text)
    assert left_out == []


def test_what_shows_and_compares_runs_is_not_in_the_fingerprint(tmp_path: Path) -> None:
    copy = shutil.copytree(PACKAGE, tmp_path / "bncli", ignore=shutil.ignore_patterns("__pycache__"))
    before = fingerprint(copy)
    for file in ("analysis/stats.py", "cli/compare.py", "report/checks.py", "store/folder.py", "timing/gate.py"):
        (copy / file).write_text("# edited\n")
    assert fingerprint(copy) == before


def test_plug_ins_and_the_version_of_torch_are_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint()
    assert fingerprint(plugins=["a"]) != before
    assert fingerprint(plugins=["a", "b"]) == fingerprint(plugins=["b", "a"])
    monkeypatch.setattr("bncli.code_hash.version_of", lambda name: "99" if name == "torch" else "")
    assert fingerprint() != before


def test_a_gate_trains_again_where_a_plug_in_has_changed(tmp_path: Path) -> None:
    """Even one none of whose names the study has: what it does when it is imported may matter."""
    folders = set[Path]()
    for text in ("NORMS = {}\n", "NORMS = {}  # edited\n"):
        (tmp_path / "mine.py").write_text(text)
        with using([tmp_path / "mine.py"]):
            folders.add(open_study("smoke", store=tmp_path, device="cpu", fresh=True).store.folder)
    assert len(folders) == 2
