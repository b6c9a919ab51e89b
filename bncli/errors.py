"""What a user can get wrong, in words; anything else that is raised is bncli's own bug."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

Path = tuple[str | int, ...]
_UNPRINTABLE = re.compile(r"[^\n\t -~\w\u00a0]")  # asked again one by one


class BncliError(Exception):
    """A mistake that the user can mend; shown as one line, without a traceback."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong at one place of a configuration: its path, and what is wrong there."""

    path: Path
    message: str


class ConfigError(BncliError, ValueError):
    """A configuration that cannot be used, with every problem in it; a ValueError, so that pydantic carries it."""

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem((), p) for p in problems)
        super().__init__("\n".join(describe(p) for p in self.problems))


class StoreError(BncliError):
    """A result that cannot be read or written."""


class DamageError(StoreError):
    """Something in a store that is not what was written there, with what is wrong in words; it can be made anew."""

    def __init__(self, place: object, why: str, remedy: str) -> None:
        self.place, self.why = place, why
        super().__init__(as_line(f"{place}: cannot be read ({why}); {remedy}"))


class UndecidedError(BncliError):
    """A gate that cannot be decided, for want of a baseline or of the machine it was made on: exit code 4."""


class HandedBack(Exception):  # noqa: N818 - nothing is wrong
    """A worker must leave: its job has kept its state, where it has a folder for that, and is to be done elsewhere."""


class DataError(BncliError):
    """A data set that is missing or is not what it should be."""


def first_line(error: BaseException, most: int | None = None) -> str:
    """An exception of somebody's code, in one line, of what it says at most so many characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:most]}" if lines else type(error).__name__


def as_line(text: str) -> str:
    """A text from anywhere as one line that every terminal can print: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def as_lines(text: str) -> str:
    """A text that every terminal can print, as `as_line`; its line ends and tabs stay, and spaces that do not break."""
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub(lambda found: as_line(found[0]), text)


def expect(name: str, given: object, fits: bool, what: str) -> None:
    """Refuse an argument that is no `what`, in a line that names it.

    Raises:
        ConfigError: if it does not fit.
    """
    if not fits:
        raise ConfigError(f"{name}: expected {what}, got {given!r}")


def expect_text(what: str, **given: object) -> None:
    """Refuse what is neither a text nor a path, and a text without content, as an unset variable is; None is not given.

    Raises:
        ConfigError: naming the argument.
    """
    for name, value in given.items():
        expect(name, value, value is None or isinstance(value, str | FilePath), what)
        if isinstance(value, str) and not value.strip():
            raise ConfigError(f"{name}: is empty; expected {what} (is a variable not set?)")


def expect_texts(**given: object) -> None:
    """Refuse what is no list of texts; a single text would be read letter by letter.

    Raises:
        ConfigError: naming the argument.
    """
    for name, values in given.items():
        listed = isinstance(values, Sequence) and not isinstance(values, str | bytes)
        expect(name, values, listed, "a list of texts, as in ['...']")
        for value in values if isinstance(values, Sequence) else ():
            expect(name, values, isinstance(value, str | FilePath), "a list of texts, as in ['...']")
            expect_text("a text", **{name: value})


def typed_path(text: str | FilePath) -> FilePath:
    """A path as somebody typed it; `~` is a home folder.

    Raises:
        ConfigError: if no file can be there: a name too long, somebody else's folder, nobody's home.
    """
    try:
        path = FilePath(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        raise ConfigError(f"{_short(str(text))}: cannot be used as a path ({why.rstrip('.').lower()})") from None
    return path


def describe(problem: Problem) -> str:
    """`training.lr: must be > 0`."""
    place = as_line(".".join(str(part) for part in problem.path))
    return f"{place}: {as_lines(problem.message)}" if place else as_lines(problem.message)


def unknown(kind: str, name: object, known: Iterable[str], *, in_order: bool = False) -> str:
    """Say that `name` is no `kind`, with the nearest known name and all of them, sorted or `in_order`."""
    known = list(known) if in_order else sorted(known)
    near = did_you_mean(name, known)
    there = f"known: {', '.join(known)}" if known else "there is none"
    return f"no {kind} is called {str(name)!r}{near} ({there})"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`; did you mean 'batch'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def suggest_key(name: object, known: Sequence[str], elsewhere: Sequence[str]) -> str:
    """`; did you mean 'training.steps'? (known: ...)`, of the keys `known` at its place and dotted ones `elsewhere`."""
    last = {path.rpartition(".")[2]: path for path in reversed(elsewhere)}  # the outermost of a name
    likeness = difflib.SequenceMatcher(b=str(name))
    close = dict[str, float]()
    for key, shown, bonus in [*((k, p, 0.0) for k, p in last.items()), *((key, key, 0.1) for key in known)]:
        likeness.set_seq1(key)
        close[shown] = max(close.get(shown, 0), likeness.ratio() + bonus * (key in known))
    best = max(close, key=lambda shown: close[shown], default="")
    near = f"; did you mean {best!r}?" if best and close[best] >= 0.6 else ""
    return f"{near} (known: {', '.join(known)})" if known else near


def problems_of(errors: Sequence[Mapping[str, Any]], keys_at: Any, elsewhere: Sequence[str] = ()) -> list[Problem]:
    """Turn pydantic's error details into problems in bncli's words.

    Args:
        errors: what `ValidationError.errors()` returns.
        keys_at: a function from a path to the keys known there.
        elsewhere: dotted keys of the whole, for suggestions.
    """
    found = []
    inside = {tuple(error["loc"])[:end] for error in errors for end in range(len(error["loc"]))}
    for error in errors:
        if error["type"] == "too_short" and tuple(error["loc"]) in inside:
            continue  # only without what is wrong in it
        path = tuple(part for part in error["loc"] if not str(part).startswith("function-") and part != "[key]")
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            found += [Problem(path + inner.path, inner.message) for inner in cause.problems]
        else:
            found.append(Problem(path, _in_words(error, path, keys_at, elsewhere)))
    return _joined(found)


_KIND_OF_UNION = re.compile(r"(constrained-)?(int|float|str|bool)|(literal|tuple|list|dict)\[.*\]|[A-Z]\w+")


def _joined(problems: list[Problem]) -> list[Problem]:
    """One problem of a value that is none of several types: `must be a number or a text, got []`."""
    found: dict[tuple[Path, str], list[str]] = {}
    for problem in problems:
        must, comma, came = problem.message.rpartition(", got ")
        last = str(problem.path[-1]) if problem.path else ""
        if comma and _KIND_OF_UNION.fullmatch(last) and sum(p.path[:-1] == problem.path[:-1] for p in problems) > 1:
            found.setdefault((problem.path[:-1], comma + came), []).append(must.removeprefix("must be "))
        else:
            found.setdefault((problem.path, problem.message), [])
    return [
        Problem(path, f"must be {' or '.join(kinds)}{rest}" if kinds else rest) for (path, rest), kinds in found.items()
    ]


def _in_words(error: Mapping[str, Any], path: Path, keys_at: Any, elsewhere: Sequence[str]) -> str:
    kind, limits, came = error["type"], error.get("ctx", {}), f", got {_short(error['input'])}"
    signs = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<", "less_than_equal": "<="}
    if kind == "extra_forbidden":
        return f"no such key{suggest_key(path[-1], list(keys_at(path[:-1])), elsewhere)}"
    if kind == "missing":
        return "is required"
    if kind in signs:
        bound = next(iter(v for k, v in limits.items() if k in ("gt", "ge", "lt", "le")))
        return f"must be {signs[kind]} {bound:g}{came}"
    if kind in ("too_short", "string_too_short"):
        least = limits["min_length"]
        return "must not be empty" if least == 1 else f"must have at least {least}{came}"
    if kind in ("too_long", "string_too_long"):
        return f"must have at most {limits['max_length']:,}{came}"
    if kind == "invalid_key":
        return f"a key must be a text, got {_short(path[-1])}"
    if kind == "literal_error":
        return f"must be one of {limits['expected']}{came}"
    if kind == "value_error":
        return str(cause) if (cause := limits.get("error")) else str(error["msg"])
    types = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "bool_type": "true or false",
        "string_type": "a text",
        "dict_type": "a mapping (key: value)",
        "model_type": "a mapping (key: value)",
        "list_type": "a list",
        "tuple_type": "a list",
    }
    if kind in types:
        return f"must be {types[kind]}{came}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}{came}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
