"""A checker of the part of JSON Schema that `docs/preset.schema.json` uses; an unknown keyword is refused."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool,
    "null": type(None),
}  # fmt: skip
SAID = {"$schema", "$defs", "title", "description", "default", "then", "else", "patternProperties"}


def fits(value: Any, schema: Any, whole: Mapping[str, Any]) -> bool:
    """Whether a value keeps a schema."""
    if isinstance(schema, bool):
        return schema
    return all(_keeps(value, keyword, schema, whole) for keyword in schema.keys() - SAID)


def _keeps(value: Any, keyword: str, schema: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    rule = schema[keyword]
    match keyword:
        case "$ref":
            return fits(value, whole["$defs"][unquote(rule.rpartition("/")[2])], whole)
        case "type":
            return any(_is(value, kind) for kind in ([rule] if isinstance(rule, str) else rule))
        case "enum" | "const":
            return any(value == one and type(value) is type(one) for one in (rule if keyword == "enum" else [rule]))
        case "anyOf":
            return any(fits(value, one, whole) for one in rule)
        case "allOf":
            return all(fits(value, one, whole) for one in rule)
        case "not":
            return not fits(value, rule, whole)
        case "if":
            return fits(value, schema.get("then" if fits(value, rule, whole) else "else", True), whole)
    if isinstance(value, dict):
        return _object_keeps(value, keyword, schema, whole)
    if isinstance(value, list):
        return _list_keeps(value, keyword, schema, whole)
    if isinstance(value, str) and keyword in ("pattern", "minLength"):
        return bool(re.search(rule, value)) if keyword == "pattern" else len(value) >= rule
    if isinstance(value, int | float) and keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        sign = 1 if keyword.lower().endswith("minimum") else -1
        return sign * (value - rule) > 0 or (value == rule and not keyword.startswith("exclusive"))
    return _is_for_others(keyword)


def _object_keeps(value: dict[str, Any], keyword: str, schema: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    rule = schema[keyword]
    match keyword:
        case "properties":
            return all(fits(value[key], one, whole) for key, one in rule.items() if key in value)
        case "required":
            return all(key in value for key in rule)
        case "additionalProperties":
            return all(
                fits(item, rule, whole) for key, item in value.items() if key not in schema.get("properties", {})
            )
        case "propertyNames":
            return all(fits(key, rule, whole) for key in value)
        case "minProperties" | "maxProperties":
            return len(value) >= rule if keyword == "minProperties" else len(value) <= rule
    return _is_for_others(keyword)


def _list_keeps(value: list[Any], keyword: str, schema: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    rule = schema[keyword]
    match keyword:
        case "items":
            return all(fits(item, rule, whole) for item in value[len(schema.get("prefixItems", ())) :])
        case "prefixItems":
            return all(fits(item, one, whole) for item, one in zip(value, rule, strict=False))
        case "minItems" | "maxItems":
            return len(value) >= rule if keyword == "minItems" else len(value) <= rule
        case "uniqueItems":
            return len({repr(item) for item in value}) == len(value)
    return _is_for_others(keyword)


def _is(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _is_for_others(keyword: str) -> bool:
    """A keyword says nothing of a value of another type."""
    known = {
        "properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties", "items",
        "prefixItems", "minItems", "maxItems", "uniqueItems", "pattern", "minLength", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum",
    }  # fmt: skip
    assert keyword in known, f"unknown keyword {keyword}"
    return True
