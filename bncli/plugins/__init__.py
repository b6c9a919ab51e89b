"""Plug-ins: Python files, modules and installed packages that add names to the catalogues.

A plug-in is a module with any of NORMS, MODELS, DATASETS, METRICS, OPTIMIZERS, SCHEDULES, LOSSES, TASKS, EXECUTORS,
each a dictionary of rows as bncli's own catalogues have them, or simply of functions (docs/extend/plugins.md). Its code
counts by what it says, with that of the local modules that it imports; that of an installed package by its version. A
command line may name one function or class alone (`--model FILE.py:NAME`): `NamedCode`.
"""

import atexit
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bncli.catalogue import Catalogue
from bncli.code_hash import digest
from bncli.errors import ConfigError, expect
from bncli.files import make_temporary_folder
from bncli.measures import MEASURES
from bncli.plugins.code import NamedCode, attribute_of, split_code
from bncli.plugins.modules import Loaded, Place, find, load
from bncli.plugins.rows import KINDS, PluginEntry, catalogue, read_entry, read_tables

GROUP = "bncli.plugins"  # of entry points
_RECORDED = (  # metrics of every run (bncli.records), of which no probe's may be taken for another
    "accuracy", "loss", "train_loss", "parameter_norm", "percentile_15", "percentile_50", "percentile_85",
)  # fmt: skip


@dataclass(frozen=True)
class Plugin:
    """Code that adds names: plain data, which another process registers as well."""

    spec: str  # as it was asked for: FILE.py or MODULE
    origin: str  # as listings call it: "my_norms.py", "lab.norms", "package 1.2"
    hash: str  # of its code, 20 hexadecimal digits
    names: Mapping[str, tuple[str, ...]]  # "NORMS" -> the names that it adds
    place: Place
    only: NamedCode | None = None  # what it adds, where that is not what its tables hold


@dataclass(frozen=True)
class Shipped:
    """A plug-in with the text of its file and of the local modules that it imports, for a process that lacks them."""

    plugin: Plugin
    files: Mapping[str, bytes]  # relative path -> content
    measured: Mapping[tuple[str, str], Mapping[str, Any]]  # (table, name) -> fields of its row that a call has told


_loaded: dict[str, tuple[Loaded, list[PluginEntry]]] = {}  # by hash: modules of this process
_registered: dict[str, Plugin] = {}  # by hash: whose names its catalogues have
_borrowed = Counter[str]()  # by hash: how many `using` have it, where nobody registered it for good


def load_plugins(specs: Sequence[str | Path | NamedCode]) -> tuple[Plugin, ...]:
    """Import plug-ins, each FILE.py, MODULE or `NamedCode`, and read what they add; `register` adds it.

    Raises:
        ConfigError: for the first that is not there or is broken, in one line that names it.
    """
    found: list[Plugin] = []
    try:
        for spec in dict.fromkeys(each if isinstance(each, NamedCode) else str(each) for each in specs):
            if isinstance(spec, NamedCode):
                what = f"{KINDS[spec.table].flag} {spec.text}"
                found.append(_load(spec.text, find(split_code(spec.text, what)[0], what), what, only=spec))
            else:
                found.append(_load(spec, find(spec, f"plug-in {spec}")))
    except ConfigError:
        for plugin in found:
            _forget(plugin)
        raise
    return tuple(found)


def add_plugins(specs: Sequence[str | Path]) -> None:
    """Load plug-ins and add their names for as long as this process lives: what a command does with `--plugin`.

    Raises:
        ConfigError: as `load_plugins` and `register`.
    """
    for plugin in load_plugins(specs):
        register(plugin)


def register(plugin: Plugin) -> None:
    """Add a plug-in's names to this process's catalogues; a second time it changes nothing.

    One that was registered before its file was edited gives way to itself as it is now.

    Raises:
        ConfigError: if one of its names is taken, or if the code here is not what the plug-in was made of.
    """
    if plugin.hash in _registered:
        return
    if plugin.hash not in _loaded:
        found = _load(plugin.spec, plugin.place, only=plugin.only)
        if found.hash != plugin.hash:
            _forget(found)
            raise ConfigError(
                f"plug-in {plugin.origin}: its code here is not what the study was planned with"
                f" ({found.hash[:8]} and {plugin.hash[:8]}); leave the file alone while a study runs, and give every"
                " machine the same file and the same versions of what it imports"
            )
    now = plugin.place, plugin.only
    before = next((other for other in _registered.values() if (other.place, other.only) == now), None)
    if before:
        unregister(before)
    entries = _loaded[plugin.hash][1]
    for entry in entries:
        if taken := _taken(entry):
            _forget(plugin)
            raise ConfigError(f"plug-in {plugin.origin}: {taken}")
    for entry in entries:
        catalogue(entry.table).add(entry.name, entry.row, entry.finish)
    _registered[plugin.hash] = plugin


def unregister(plugin: Plugin) -> None:
    """Take a plug-in's names out of the catalogues, and its modules out of Python's table."""
    for entry in _loaded[plugin.hash][1] if _registered.pop(plugin.hash, None) else ():
        catalogue(entry.table).discard(entry.name)
    _forget(plugin)


@contextmanager
def using(plugins: str | Path | Iterable[Plugin | Shipped | NamedCode | str | Path]) -> Iterator[tuple[Plugin, ...]]:
    """Have plug-ins registered for a while, in a worker those that were shipped; those that were before stay.

    Raises:
        ConfigError: as `load_plugins` and `register`.
    """
    expect("plugins", plugins, isinstance(plugins, str | Path | Iterable), "files or modules, as in ['norms.py']")
    listed = [plugins] if isinstance(plugins, str | Path) else list(plugins)
    loaded = iter(load_plugins([each for each in listed if isinstance(each, str | Path | NamedCode)]))
    found = [next(loaded) if isinstance(each, str | Path | NamedCode) else each for each in listed]
    used = tuple(each.plugin if isinstance(each, Shipped) else each for each in found)
    ours: list[Plugin] = []
    try:
        for each, plugin in zip(found, used, strict=True):
            if plugin.hash not in _registered or _borrowed[plugin.hash]:
                _borrowed[plugin.hash] += 1
                ours.append(plugin)
            if isinstance(each, Shipped):
                receive([each])
            else:
                register(each)
        yield used
    finally:
        for plugin in reversed(ours):
            _borrowed[plugin.hash] -= 1
            if not _borrowed[plugin.hash]:
                unregister(plugin)
        for plugin in used:
            _forget(plugin)


def plugins_of(names: Iterable[tuple[str, str]]) -> tuple[Plugin, ...]:
    """The registered plug-ins that add any of these names, each (table, name): ("NORMS", "mine")."""
    wanted = set(names)
    return tuple(
        plugin
        for plugin in _registered.values()
        if any((table, name) in wanted for table, added in plugin.names.items() for name in added)
    )


def registered() -> tuple[Plugin, ...]:
    """Every plug-in whose names this process's catalogues have."""
    return tuple(_registered.values())


def ship(plugins: Iterable[Plugin]) -> tuple[Shipped, ...]:
    """Plug-ins that this process has loaded, with their text, to be pickled."""
    return tuple(Shipped(p, _texts(_loaded[p.hash][0]), _measured(_loaded[p.hash][1])) for p in plugins)


def receive(shipped: Iterable[Shipped]) -> None:
    """Register what `ship` gave: from the path where it is there, else from a copy of the text.

    Raises:
        ConfigError: as `register`.
    """
    for one in shipped:
        plugin = one.plugin
        if plugin.hash not in _registered and plugin.place.file and not Path(plugin.place.file).exists():
            folder = _copies() / plugin.hash
            for name, content in one.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            main = Path(plugin.place.file)
            inside = main.relative_to(plugin.place.root) if plugin.place.module else Path(main.name)
            plugin = replace(plugin, place=Place(plugin.place.module, str(folder / inside), str(folder)))
        register(plugin)
        for (table, name), told in one.measured.items():  # so that no worker loads a data set only to know its shape
            catalogue(table).add(name, replace(catalogue(table).added[name], **told))


def register_installed() -> tuple[str, ...]:
    """Register the plug-ins of installed packages, once; returns a line for each that cannot be used."""
    Catalogue.installed = staticmethod(lambda: ())  # for a plug-in that looks a name up while it is being read
    try:
        return _register_installed()
    finally:
        Catalogue.installed = staticmethod(register_installed)


@cache
def _register_installed() -> tuple[str, ...]:
    problems = []
    for point in metadata.entry_points(group=GROUP):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else point.name
        what = f"installed plug-in {package}"
        try:
            if point.attr:
                raise ConfigError(f"{what}: its entry point must be a module, got {point.value!r}")
            register(_load(point.module, find(point.module, what, here=False), what, package))
        except ConfigError as error:
            problems.append(str(error))
        except (AttributeError, TypeError) as error:  # an entry point that is no name of a module
            problems.append(f"{what}: its entry point {point.value!r} cannot be read ({error})")
    return tuple(problems)


def _load(spec: str, place: Place, what: str = "", origin: str = "", only: NamedCode | None = None) -> Plugin:
    what = what or (f"{KINDS[only.table].flag} {spec}" if only else f"plug-in {spec}")
    module = load(place, what)
    origin = origin or module.origin
    key = digest([(module.hash, f"{only.table} {only.name}".encode())])[:20] if only else module.hash
    if key not in _loaded:
        try:
            if only:
                path = split_code(only.text, what)[1]
                value = attribute_of(module.module, path, what, split_code(only.text, what)[0])
                target = f"{module.module.__name__}:{path}"
                entries = [read_entry(only.table, only.name, value, target, (origin, module.hash), what)]
            else:
                entries = read_tables(module.module, origin, module.hash, what)
        except ConfigError:
            _release(module)
            raise
        _loaded[key] = module, entries
    names: dict[str, tuple[str, ...]] = {}
    for entry in _loaded[key][1]:
        names[entry.table] = (*names.get(entry.table, ()), entry.name)
    return Plugin(spec, origin, key, names, place, only)


def _forget(plugin: Plugin) -> None:
    if plugin.hash in _loaded and plugin.hash not in _registered:
        _release(_loaded.pop(plugin.hash)[0])


def _release(module: Loaded) -> None:
    """Forget a module that no other plug-in is of."""
    if all(other.hash != module.hash for other, _ in _loaded.values()):
        module.release()


def _taken(entry: PluginEntry) -> str:
    """Who has a name already, in words; "" if nobody has."""
    there = catalogue(entry.table)
    if entry.table == "METRICS" and entry.name in MEASURES.own:
        there = MEASURES  # where every metric has its name as well
    recorded = _RECORDED if entry.table == "METRICS" else ()
    if entry.name in there.own or entry.name in recorded:
        return f"{there.kind} {entry.name!r} is bncli's own; give yours another name"
    other = there.added[entry.name].origin if entry.name in there.added else ""
    return f"{there.kind} {entry.name!r} is already that of plug-in {other}; rename one of the two" if other else ""


def _texts(loaded: Loaded) -> dict[str, bytes]:
    """By relative path; a file's own name stands for the module that it is loaded as."""
    if loaded.code is None:
        return {}
    main = {} if loaded.place.module else {loaded.code.main: Path(loaded.place.file).name}
    return {
        main.get(name, source.relative): source.content
        for name, source in loaded.code.sources.items()
        if source.content is not None
    }


def _measured(entries: Iterable[PluginEntry]) -> dict[tuple[str, str], dict[str, Any]]:
    """What looking a name up has told of its row, of those names that were looked up."""
    found = {}
    for entry in entries:
        row = catalogue(entry.table).added.get(entry.name, entry.row)
        told = {f.name: getattr(row, f.name) for f in fields(row) if getattr(row, f.name) != getattr(entry.row, f.name)}
        if told:
            found[entry.table, entry.name] = told
    return found


@cache
def _copies() -> Path:
    """A folder of this process's own, which goes when it ends."""
    folder, remove = make_temporary_folder()
    atexit.register(remove)
    return folder


Catalogue.installed = staticmethod(register_installed)
