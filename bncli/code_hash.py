"""Which code it is: bncli's version, the hash of its makers of numbers, that of a plug-in with what it imports."""

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

VERSION = "0.2.0"
# of bncli, what no number of a run follows from: what carries, keeps, compares and shows runs, and what times kernels
APART = {
    "__main__.py", "analysis", "api", "cli", "executors", "format.py", "limits.py", "presets.py", "report",
    "session", "store", "timing",
}  # fmt: skip
COMPUTING = ("torch", "numpy", "triton")  # installed packages that compute a run's numbers
BELOW = {"bncli", "torch", "triton", "numpy", "scipy", "pydantic", "typer", "rich", "yaml"}  # of ours: count for no run
_TARGET = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*")  # "module:attribute", as in rows


def fingerprint(package: Path = Path(__file__).parent, plugins: Iterable[str] = ()) -> str:
    """Hash of all that a run's numbers follow from beside its id; 12 hexadecimal digits.

    It is of bncli's own files, all but those in APART, with their paths; of the versions of what computes; and of
    plug-ins, by the hash of each. A new room of bncli counts unless it is named there.
    """
    parts = [*_files(package), *((f"{name}==", version_of(name).encode()) for name in COMPUTING)]
    return digest([*parts, *(("plug-in", code.encode()) for code in sorted(plugins))])[:12]


@cache
def own_code() -> str:
    """Hash of bncli's own files alone, the same beside any torch; 12 hexadecimal digits."""
    return digest(_files(Path(__file__).parent))[:12]


def _files(package: Path) -> list[tuple[str, bytes]]:
    files = sorted(path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in APART)
    return [(path.relative_to(package).as_posix(), path.read_bytes()) for path in files]


def digest(parts: Iterable[tuple[str, bytes]]) -> str:
    """SHA-256 of names with their contents, in the order given; hexadecimal."""
    found = hashlib.sha256()
    for name, content in parts:
        found.update(f"{name}\n".encode())
        found.update(content)
    return found.hexdigest()


@dataclass(frozen=True)
class Source:
    """One module's file as it was read: what is hashed is what is run."""

    path: Path
    relative: str  # to the folder that it is imported from: "helpers.py", "lab/layers.py"
    content: bytes | None  # None: a folder without code of its own, which holds modules


@dataclass(frozen=True)
class Code:
    """A module with all that its numbers follow from."""

    main: str  # its name among the sources
    sources: Mapping[str, Source]  # module name -> its file, of every local module
    packages: Mapping[str, str]  # installed packages that these import, and their versions; bncli's own are left out

    @property
    def hash(self) -> str:
        """By content, relative names and versions, never by absolute paths; 20 hexadecimal digits.

        The main file's own name does not count: renamed or moved, it is the same code.
        """
        files = {"" if name == self.main else s.relative: s.content for name, s in self.sources.items()}
        parts = [(name, content) for name, content in sorted(files.items()) if content is not None]
        return digest([*parts, *((f"{name}==", v.encode()) for name, v in sorted(self.packages.items()))])[:20]


def read_code(file: Path, main: str, root: Path) -> Code:
    """Read a file and every local module that it imports, directly or through others.

    Local is what lies under `root`, and whatever else is imported from outside of site-packages. Modules are found by
    their spelling: `import a.b`, `from a import b`, `import_module("a.b")`, and "a.b:attribute" as rows name targets.

    Args:
        file: of Python.
        main: the name that it is imported by.
        root: the folder from which it imports, as Python does from that of a script.

    Raises:
        SyntaxError: of any of them.
        OSError: if one cannot be read.
    """
    sources = {main: Source(file, _relative(main, file), file.read_bytes())}
    sources |= dict(_chain(main.rpartition(".")[0], root))
    waiting, strangers = [name for name, source in sources.items() if source.content is not None], set[str]()
    while waiting:
        name = waiting.pop()
        for wanted in _imports(sources[name], name, root):
            top = wanted.partition(".")[0]
            if top in sys.stdlib_module_names or top == "bncli":
                continue
            home = home_of(top, root)
            if home is None:
                strangers.add(top)
                continue
            for found, source in _chain(wanted, home):
                if found not in sources:
                    sources[found] = source
                    waiting += [found] if source.content is not None else []
    packages = {top: version for top in sorted(strangers - BELOW) if (version := version_of(top))}
    return Code(main, sources, packages)


def is_installed(file: Path) -> bool:
    """Whether a file belongs to an installed package and not to somebody's working tree."""
    return bool({"site-packages", "dist-packages"} & set(file.parts))


@cache
def version_of(top: str) -> str:
    """The version of the installed package that a top-level module comes from; "" if none is known."""
    try:
        return metadata.version(top)
    except (metadata.PackageNotFoundError, ValueError):
        if _spec(top) is None:
            return ""
        named = metadata.packages_distributions().get(top, ())  # slow, and needed by few: PIL of Pillow
        return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(named)))


def _spec(top: str) -> ModuleSpec | None:
    try:
        return find_spec(top)
    except (ImportError, ValueError):  # no such thing, or a module without a spec, such as __main__
        return None


def home_of(top: str, root: Path | None) -> Path | None:
    """The folder from which a top-level module is imported, if it is local code; `root` comes before Python's own."""
    if root and (place := find_module(top, root)) and place.is_file():
        return root
    spec = _spec(top)
    if spec and spec.origin:
        file = Path(spec.origin)
        if is_installed(file) or not file.is_file():
            return None
        return file.parent.parent if file.name == "__init__.py" else file.parent
    return root if root and find_module(top, root) else None


def find_module(name: str, root: Path) -> Path | None:
    """The file of a module under a folder, or the folder of one without code of its own, if it is there."""
    base = root.joinpath(*name.split("."))
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file():
            return path
    return base if base.is_dir() else None


def _chain(wanted: str, root: Path) -> Iterator[tuple[str, Source]]:
    """A module and the packages above it: `a`, `a.b`, `a.b.c`; less what is an attribute of the last module."""
    parts = tuple(filter(None, wanted.split(".")))
    for last in range(1, len(parts) + 1):
        name = ".".join(parts[:last])
        place = find_module(name, root)
        if place is None:
            return
        content = place.read_bytes() if place.is_file() else None
        yield name, Source(place, _relative(name, place), content)


def _relative(name: str, file: Path) -> str:
    ending = "/__init__.py" if file.name == "__init__.py" else file.suffix
    return name.replace(".", "/") + ending


def _imports(source: Source, name: str, root: Path) -> Iterator[str]:
    """Names of the modules that a file imports, and of what may be one: `a.b` for `from a import b`."""
    package = (name if source.path.name == "__init__.py" else name.rpartition(".")[0]).split(".")
    for node in ast.walk(ast.parse(source.content or b"", str(source.path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*above, node.module]))
            yield from (f"{base}.{alias.name}" for alias in node.names if base)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (code := _TARGET.fullmatch(node.value)):
            yield from [code[1]] if find_module(code[1].partition(".")[0], root) else []


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))
