"""The command that makes again what a function of bncli made."""

import inspect
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from bncli.result import Result

Given = ParamSpec("Given")
Found = TypeVar("Found")
# Where and how, but not what: the numbers do not follow from these.
UNSAID = ("store", "jobs", "on_event", "executor", "placement", "yes", "time_limit", "save_baseline")
FLAGS = {"source": "from", "plugins": "plugin", "kernels": "kernel"}  # that are not called like their argument
REPEATED = ("set", "fail_if", "plugins", "kernels", "only", "skip")


def with_command(verb: str) -> Callable[[Callable[Given, Result[Found]]], Callable[Given, Result[Found]]]:
    """Have a function's result know the command that makes it again."""

    def keep(function: Callable[Given, Result[Found]]) -> Callable[Given, Result[Found]]:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: Given.args, **kwargs: Given.kwargs) -> Result[Found]:
            command = write_command(verb, signature.bind(*args, **kwargs).arguments)
            return replace(function(*args, **kwargs), command=command)

        return call

    return keep


def write_command(verb: str, arguments: Mapping[str, Any]) -> str:
    """`bncli compare figure1 --seeds 5`; empty where something was given that a command line cannot say."""
    words = ["bncli", verb]
    try:
        for name, value in arguments.items():
            if name not in UNSAID:
                words += _write_option(name, value)
    except TypeError:  # a study, a function, an iterator that is read once
        return ""
    return shlex.join(words)


def _write_option(name: str, value: object) -> Iterator[str]:
    flag = f"--{FLAGS.get(name, name).replace('_', '-')}"
    if value is None or value is False or value == "" or value == ():
        return
    if value is True:
        yield flag
    elif name == "preset":
        yield _write_word(value)
    elif name == "set" and isinstance(value, Mapping):
        for key, each in value.items():
            yield from (flag, f"{key}={json.dumps(each)}")
    elif isinstance(value, list | tuple | range):
        for word in map(_write_word, value) if name in REPEATED else [",".join(map(_write_word, value))]:
            yield from (flag, word)
    else:
        yield from (flag, _write_word(value))


def _write_word(value: object) -> str:
    if not isinstance(value, str | int | float | Path):
        raise TypeError
    return str(value)
