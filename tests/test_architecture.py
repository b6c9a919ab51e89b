"""The walls: who may import whom, and what stays unimported until it is needed (docs/architecture.md)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent / "bncli"
CATALOGUES = {"norms", "models", "data", "optim", "shift", "tasks"}  # their __init__ holds rows of strings, no torch
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "streams": {"errors"},
    "records": {"errors"},
    "findings": {"errors"},
    "presets": {"errors"},
    "format": {"findings"},
    "catalogue": {"errors"},
    "code_hash": {"errors"},
    "plugins": {"catalogue", "code_hash", "errors", "files", "measures", *CATALOGUES},
    "limits": {"errors"},
    "measures": {"catalogue", "errors", "findings", "shift"},
    "observed": {"errors"},
    "config": {"errors", "catalogue", "measures", *CATALOGUES},
    "norms": {"catalogue", "errors", "kernels"},
    "kernels": {"errors"},
    "models": {"catalogue", "errors", "kernels", "norms"},
    "data": {"catalogue", "errors", "files"},
    "optim": {"catalogue", "errors"},
    "shift": {"catalogue", "errors"},
    "tasks": {"catalogue"},
    "plan": {"catalogue", "config", "errors", "plugins", *CATALOGUES},
    "engine": {
        "code_hash",
        "plan",
        "plugins",
        "config",
        "records",
        "errors",
        "files",
        "streams",
        "kernels",
        *CATALOGUES,
    },
    "executors": {"plan", "records", "errors", "files", "streams", "catalogue", "plugins", "engine"},
    "timing": {
        "code_hash",
        "config",
        "limits",
        "plugins",
        "records",
        "findings",
        "errors",
        "catalogue",
        "norms",
        "kernels",
    },
    "store": {"code_hash", "records", "errors", "files"},
    "analysis": {"records", "findings", "format", "measures", "limits", "errors"},
    "report": {"code_hash", "files", "findings", "format", "records", "errors", "timing"},
    "result": {"config", "errors", "findings", "records", "report", "timing"},
    "session": {
        "files",
        "models",
        "optim",
        "config",
        "measures",
        "observed",
        "plan",
        "records",
        "findings",
        "format",
        "limits",
        "presets",
        "plugins",
        "executors",
        "engine",
        "store",
        "analysis",
        "timing",
        "errors",
        "shift",
        "tasks",
        "code_hash",
    },
    "api": {p.stem for p in ROOT.iterdir() if p.name not in ("cli", "__main__.py", "__init__.py")},
}
HEAVY = {
    "torch": {"norms", "kernels", "models", "data", "optim", "shift", "engine", "timing", "plugins"},
    "triton": {"kernels"},
    "scipy": {"analysis", "timing"},
    "numpy": {"store", "analysis", "data", "shift", "engine"},
    "rich": {"report", "cli"},
    "typer": {"cli"},
    "vl_convert": {"report"},
    "pandas": {"result"},
    "yaml": {"config", "observed"},
    "optuna": {"session"},
    "tensorboard": {"observed"},
}
FILES = sorted(ROOT.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    """What a file imports: at its top, inside its functions, and by `import_module` of a text."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            inner = [alias.name for alias in node.names if not alias.name.startswith("__")]  # but the version
            found += [f"bncli.{name}" for name in inner] if module == "bncli" else [module]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            found += [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    return found


def test_the_walls_see_imports_inside_functions_and_by_name(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden.py"
    hidden.write_text(
        "import os\nfrom bncli import findings\n\ndef f():\n    from bncli.report import checks\n"
        "    import_module('bncli.cli.train')\n    importlib.import_module('torch')\n"
    )
    expected = ["bncli.cli.train", "bncli.findings", "bncli.report", "os", "torch"]
    assert sorted(imports_of(hidden)) == expected


def test_no_circle_and_no_arrow_back_up() -> None:
    """The rooms stand in an order in which each imports only from those before it."""
    arrows: dict[str, set[str]] = {}
    for path in FILES:
        inner = {name.split(".")[1] for name in imports_of(path) if name.startswith("bncli.")}
        arrows.setdefault(package_of(path), set()).update(inner - {package_of(path)})
    rooms = set(arrows) - {"__init__", "__main__"}
    arrows = {room: arrows[room] & rooms for room in rooms}
    while rooms:
        free = {room for room in rooms if not arrows[room] & rooms}
        assert free, f"a circle among {sorted(rooms)}"
        rooms -= free


def test_every_type_name_stands_once() -> None:
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            names = [node.name] if isinstance(node, ast.ClassDef) else []
            if isinstance(node, ast.Assign):  # an alias of a type
                names += [
                    t.id for t in node.targets if isinstance(t, ast.Name) and re.fullmatch("[A-Z][a-z]\\w*", t.id)
                ]
            for name in names:
                places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_the_table_allows(path: Path) -> None:
    package = package_of(path)
    for name in imports_of(path):
        head, _, rest = name.partition(".")
        inner = rest.split(".")[0]
        if head == "bncli" and inner and package not in ("cli", "__main__", "__init__", inner):
            assert inner in MAY_IMPORT[package], f"{path}: {package} may not import bncli.{inner}"
        if head in HEAVY:
            assert package in HEAVY[head], f"{path}: {package} may not import {head}"


@pytest.mark.parametrize("package", ["config", "plan"])
def test_of_the_torch_packages_only_the_catalogues_are_imported(package: str) -> None:
    for path in FILES:
        if package_of(path) == package:
            for name in imports_of(path):
                if name.startswith("bncli."):
                    inner = name.split(".")[1:]
                    assert inner[0] not in CATALOGUES or len(inner) == 1, f"{path}: {name} is more than a catalogue"


PLAIN_DATA = {"timing.results", "timing.cases", "timing.documents"}  # of timing: what imports no torch


def test_reports_of_bench_read_its_plain_data_alone() -> None:
    for path in FILES:
        if package_of(path) == "report":
            for name in imports_of(path):
                inner = name.removeprefix("bncli.")
                assert not inner.startswith("timing") or inner in PLAIN_DATA, f"{path}: {name} is more than plain data"
    imports = "; ".join(f"import bncli.{name}" for name in sorted(PLAIN_DATA))
    subprocess.run([sys.executable, "-c", f"import sys; {imports}; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_its_topic_and_has_one(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path}: no docstring"
    assert text.count("\n") <= 350, f"{path}: two topics?"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["compare", "--help"], 0), (["ls"], 0), (["compare", "nonsense"], 2), (["validate", "figure1"], 0),
     (["compare", "figure1", "--set", "training.lr=0"], 2), (["compare", "--device", "cpu", "--dry-run"], 0),
     (["compare", "smoke", "--data", "mine.npz", "--device", "cpu", "--dry-run"], 0),
     (["compare", "smoke", "--data", "no.npz"], 2), (["ls", "data"], 0), (["ls", "models", "mlp"], 0),
     (["ls", "norms", "batch", "--json", "-"], 0), (["ls", "keys", "training"], 0), (["ls", "metrics", "w2"], 2),
     (["bench", "--help"], 0), (["bench", "figure1"], 2), (["bench", "--device", "cpu", "--only", "bacth"], 2),
     (["validate", "bench-ci"], 0), (["ls", "studies"], 0), (["store", "verify"], 2),
     (["status"], 2)],
)  # fmt: skip
def test_what_needs_no_torch_imports_none(arguments: list[str], code: int, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom bncli.cli import main\nsys.argv = ['bncli', *sys.argv[1:]]\ncode = 0\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code or 0\n"
        "heavy = [m for m in ('torch', 'scipy', 'vl_convert') if m in sys.modules]\n"
        "print(code, heavy, file=sys.stderr)"
    )
    parts = np.arange(120) % 3
    np.savez(tmp_path / "mine.npz", x_train=np.zeros((120, 6, 6, 3), "u1"), y_train=parts)
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == f"{code} []"


def test_importing_bncli_imports_no_torch() -> None:
    script = "import sys, bncli, bncli.norms; print([m for m in ('torch', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_documentation_names_every_room_and_no_other() -> None:
    tree = (ROOT.parent / "docs" / "architecture.md").read_text().partition("## The tree")[2].partition("\n## ")[0]
    rooms = {path.parts[0] + "/" * (len(path.parts) > 1) for path in (file.relative_to(ROOT) for file in FILES)}
    assert [room for room in sorted(rooms - {"__main__.py"}) if f"`{room}`" not in tree] == []
    headed = {
        name for line in tree.splitlines() if line.startswith("| `") for name in line.split("|")[1].split("`")[1::2]
    }
    assert headed <= rooms
