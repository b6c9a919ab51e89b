"""The hash of code: by content and relative name, of a file and the local modules that it imports."""

import os
import sys
from pathlib import Path

import pytest

from bncli.code_hash import Code, read_code

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
