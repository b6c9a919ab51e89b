"""YAML to plain data with the line of every key: YAML 1.2's scalars, no objects, no duplicates, no bombs."""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from bncli.errors import ConfigError, Path, Problem

MAX_BYTES = 1_000_000  # a preset is a page; ten megabytes are a mistake
MAX_NODES = 20_000  # counted with aliases expanded, so that an alias bomb ends here
MAX_DEPTH = 60  # far beyond any preset, far below Python's recursion limit

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")}


@dataclass
class Tree:
    """Plain data, where each path of it stands (1-based lines), and what is wrong with it."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[tuple[int, Problem]] = field(default_factory=list)


class _Composer(yaml.SafeLoader):
    """Resolves no implicit tags: scalars are read by `_scalar`, as YAML 1.2 says."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own interface


def parse(text: str) -> Tree:
    """Parse one YAML document.

    Raises:
        ConfigError: if the text is not YAML, or expands beyond all reason.
    """
    try:
        node = yaml.compose(text, _Composer)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(Problem((line,), f"not YAML: {error.problem or error.context}")) from None
    except yaml.YAMLError as error:
        raise ConfigError(Problem((1,), f"not YAML: {str(error).splitlines()[0]}")) from None
    except RecursionError:
        raise ConfigError(Problem((1,), "nested too deeply for a preset")) from None
    tree = Tree()
    try:
        tree.data = None if node is None else _Walk(tree).value(node, ())
    except RecursionError:  # `a: &a {<<: *a}`
        raise ConfigError(Problem((1,), "nested too deeply for a preset")) from None
    return tree


class _Walk:
    def __init__(self, tree: Tree) -> None:
        self.tree, self.count = tree, 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.count += 1
        if self.count > MAX_NODES or len(path) > MAX_DEPTH:
            raise ConfigError(Problem((line,), f"more than {MAX_NODES:,} values or {MAX_DEPTH} levels (aliases count)"))
        self.tree.lines.setdefault(path, line)
        if node.tag not in _PLAIN_TAGS:
            self._wrong(line, path, f"the tag {node.tag!r} is not allowed; presets hold plain values only")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, i)) for i, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return node.value if node.style else _scalar(node.value)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        shared: dict[str, Any] = {}
        for key_node, child in node.value:  # first, as what stands here itself wins, wherever it stands
            if _is_merge(key_node):
                shared = {**self._shared(child, path), **shared}
        found: dict[str, Any] = {}
        for key_node, child in node.value:
            if _is_merge(key_node):
                continue
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(line, path, "a key must be a plain text")
                continue
            key = key_node.value
            if key in found:
                self._wrong(line, (*path, key), f"given twice; first in line {self.tree.lines[(*path, key)]}")
                continue
            self.tree.lines[(*path, key)] = line
            found[key] = self.value(child, (*path, key))
        return {**shared, **found}

    def _shared(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        """What `<<: *anchor` or `<<: [*one, *other]` brings; of a key in two of them the first counts."""
        found: dict[str, Any] = {}
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.value(one, path)
            if isinstance(value, dict):
                found = {**value, **found}
            else:
                self._wrong(
                    node.start_mark.line + 1, path, f"<<: must be keys with values, or a list of such, got {value!r}"
                )
        return found

    def _wrong(self, line: int, path: Path, message: str) -> None:
        self.tree.problems.append((line, Problem(path, message)))


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == "<<" and not key.style


def _scalar(text: str) -> Any:
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text) if len(text) < 40 else float(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def with_value(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """`tree` with the value at `path` replaced; branches are made where they are missing."""
    key, rest = path[0], path[1:]
    below = tree.get(key)
    if rest and isinstance(below, str):
        below = {"name": below}
    return {**tree, key: with_value(below if isinstance(below, dict) else {}, rest, value) if rest else value}
