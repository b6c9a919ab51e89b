"""From FILE.py or MODULE to a module of this process: what was read, hashed and run is the same text."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import decode_source, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from bncli.code_hash import Code, Source, digest, find_module, home_of, read_code, version_of
from bncli.errors import ConfigError, typed_path


@dataclass(frozen=True)
class Place:
    """Where a plug-in's code is found, in this process or in a worker's."""

    module: str  # "" where a file is named and not a module
    file: str  # absolute; "" of an installed package, which counts by its version
    root: str  # the folder that its local modules are imported from


@dataclass(frozen=True)
class Loaded:
    """A module that was imported, where from, and the hash of its code."""

    module: ModuleType
    place: Place
    origin: str  # "my_norms.py", "lab.norms", "package 1.2"
    hash: str
    code: Code | None  # None of an installed package

    def release(self) -> None:
        """Forget the module, and the local ones that no other plug-in imports."""
        _FINDER.release(self.hash)


def find(spec: str, what: str, *, here: bool = True) -> Place:
    """Where the code is that `spec` names: a file, or a module of the working directory, of sys.path or installed.

    An installed package's own plug-in is not looked for `here`, in the working directory.

    Raises:
        ConfigError: if there is none; `what` begins the message.
    """
    if spec.endswith(".py") or "/" in spec or "\\" in spec:
        path = typed_path(spec)
        if path.is_dir() or path.suffix != ".py":
            raise ConfigError(
                f"{what}: expected FILE.py or MODULE" + (f"; {spec} is a folder" if path.is_dir() else "")
            )
        if not path.is_file():
            raise ConfigError(f"{what}: there is no file {spec} (looked from {Path.cwd()})")
        file = path.resolve()
        return Place("", str(file), str(file.parent))
    if not all(part.isidentifier() for part in spec.split(".")):
        raise ConfigError(f"{what}: expected FILE.py or MODULE, got {spec!r}")
    home = home_of(spec.partition(".")[0], Path.cwd() if here else None)
    file_here = find_module(spec, home) if home else None
    if home is None or file_here is None or not file_here.is_file():
        return Place(spec, "", "")
    return Place(spec, str(file_here), str(home))


def load(place: Place, what: str) -> Loaded:
    """Import a place's code as it is now; code that is loaded already is not run again.

    Raises:
        ConfigError: one line for whatever is wrong with it; `what` begins the message.
    """
    if not place.file:
        module = _run(place.module, what, {})
        top = place.module.partition(".")[0]
        version, file = version_of(top), getattr(module, "__file__", None)
        content = f"{top}=={version}".encode() if version else Path(file).read_bytes() if file else b""
        return Loaded(module, place, f"{top} {version}".strip(), digest([(place.module, content)])[:20], None)
    file = Path(place.file)
    main = place.module or re.sub(r"\W", "_", f"bncli_plugin_{file.stem}")
    try:
        code = read_code(file, main, Path(place.root))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{what}: {_syntax(error, file)}") from None
    except OSError as error:
        raise ConfigError(f"{what}: cannot be read ({error.strerror}): {error.filename}") from None
    if not place.module:  # edited, the same file is another module
        code = _renamed(code, f"{main}_{code.hash[:8]}")
    _FINDER.serve(code, what)
    try:
        module = _run(
            code.main, what, {str(s.path): s.relative for s in code.sources.values()} | {str(file): file.name}
        )
    except ConfigError:
        _FINDER.release(code.hash)
        raise
    return Loaded(module, place, place.module or file.name, code.hash, code)


def _renamed(code: Code, main: str) -> Code:
    sources = {main if name == code.main else name: source for name, source in code.sources.items()}
    return replace(code, main=main, sources=sources)


def _run(name: str, what: str, files: dict[str, str]) -> ModuleType:
    """Import a module, what it prints on stderr; whatever it raises is one line with the place in its files."""
    try:
        with redirect_stdout(sys.stderr):
            return import_module(name)
    except (Exception, SystemExit) as error:  # anybody's code
        raise ConfigError(f"{what}: {_said(error, name, files)}") from None


def _said(error: BaseException, name: str, files: dict[str, str]) -> str:
    if isinstance(error, SyntaxError):
        return _syntax(error, Path(error.filename or name))
    place = ""
    for file, line in _frames(error):
        if file in files or not files:
            place = f" ({files.get(file, Path(file).name)}:{line})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        if f"{name}.".startswith(f"{error.name}."):
            return f"no module {error.name!r} is installed, nor is it in {Path.cwd()}"
        return f"imports {error.name!r}, which is not installed here{place}; install it, or put it beside the file"
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]]) + place


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    step = error.__traceback__
    while step:
        yield step.tb_frame.f_code.co_filename, step.tb_lineno
        step = step.tb_next


def _syntax(error: SyntaxError | ValueError, file: Path) -> str:
    if not isinstance(error, SyntaxError):
        return f"{file.name} is not Python ({error})"
    return f"{type(error).__name__}: {error.msg} ({Path(error.filename or file).name}:{error.lineno or 1})"


@dataclass
class _Served:
    source: Source
    users: dict[str, str]  # hash -> who, of the code that imports it


class _Finder:
    """Finds the local modules of plug-ins, before Python looks elsewhere: those that were hashed, and their text."""

    def __init__(self) -> None:
        self._served: dict[str, _Served] = {}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder` has it."""
        if name not in self._served:
            return None
        source = self._served[name].source
        if source.content is None:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(source.path)]
            return spec
        inside = [str(source.path.parent)] if source.path.name == "__init__.py" else None
        loader: Any = _Loader(source)
        return spec_from_file_location(name, source.path, loader=loader, submodule_search_locations=inside)

    def serve(self, code: Code, what: str) -> None:
        """Take over a plug-in's modules.

        Raises:
            ConfigError: if a module of one of their names, and with other code, is loaded already.
        """
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        taken, changed = dict[str, Source](), False
        for name, source in code.sources.items():
            known = self._served.get(name)
            if known is None:
                if name not in sys.modules:
                    taken[name] = source
                elif source.content is not None and not _is_of(sys.modules[name], source):
                    other = getattr(sys.modules[name], "__file__", "elsewhere")
                    raise ConfigError(_clash(what, name, f"this process has loaded another {name!r} from {other}"))
            elif known.source.content != source.content:
                if known.source.path != source.path:
                    other = " and ".join(known.users.values())
                    raise ConfigError(_clash(what, name, f"{other} imports another one"))
                taken[name], changed = source, True
        if changed:  # whoever imported the old text holds it; all that is new is imported anew
            for name in self._served.keys() & code.sources.keys():
                _forget(name)
        for name, source in taken.items():
            self._served[name] = _Served(source, self._served[name].users if name in self._served else {})
        for name in code.sources:
            if name in self._served:
                self._served[name].users[code.hash] = what

    def release(self, code_hash: str) -> None:
        """Give back the modules that only the code of this hash uses."""
        for name, served in [*self._served.items()]:
            served.users.pop(code_hash, None)
            if not served.users:
                del self._served[name]
                _forget(name)


class _Loader:
    """Runs a source as it was read, whatever has become of its file since."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        exec(compile(self._source.content or b"", str(self._source.path), "exec", dont_inherit=True), vars(module))

    def get_source(self, name: str) -> str:
        """Its text."""
        return decode_source(self._source.content or b"")

    def is_package(self, name: str) -> bool:
        """Whether it holds modules."""
        return self._source.path.name == "__init__.py"


def _is_of(module: ModuleType, source: Source) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == source.path.resolve()


def _forget(name: str) -> None:
    """Drop a module that this finder loaded from Python's table, and from the package that holds it."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None or not (isinstance(spec.loader, _Loader) or spec.origin is None):
        return
    del sys.modules[name]
    above, _, last = name.rpartition(".")
    if above in sys.modules:
        vars(sys.modules[above]).pop(last, None)


def _clash(what: str, name: str, why: str) -> str:
    return f"{what}: imports {name!r} that lies beside it, but {why}; rename one of the two"


_FINDER = _Finder()
