"""`--help` of every command teaches: examples that parse, the page with more, options in groups."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from bncli.cli import TAUGHT, app
from bncli.cli.completion import complete_key, complete_metric, complete_norm, one_of

ROOT = Path(__file__).parent.parent.parent
NAMES = [command.__name__.replace("_", "-") for command in TAUGHT]


def commands():
    """Every command by the words that call it."""
    found = get_command(app).commands
    parts = found.pop("store").commands
    return {**{(name,): each for name, each in found.items()}, **{("store", n): each for n, each in parts.items()}}


def test_every_command_is_taught():
    assert sorted(words[-1] for words in commands()) == sorted(NAMES)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_has_two_examples_that_it_understands_and_names_a_page_that_is_there(words):
    command = commands()[words]
    examples = re.findall(r"^\$ (.*)$", command.epilog, re.M)
    assert len(examples) == 2
    for example in examples:
        for part in example.split(" && "):
            program, *arguments = shlex.split(part)
            place = next(w for w in commands() if tuple(arguments[: len(w)]) == w)
            assert program == "bncli"
            commands()[place].make_context("bncli", arguments[len(place) :])
    (page,) = re.findall(r"^More: (\S+)$", command.epilog, re.M)
    assert (ROOT / page).is_file()


@pytest.mark.parametrize("name", ["compare", "train", "shift-report", "bench", "show"])
def test_options_of_the_long_commands_stand_in_groups(name):
    loose = [
        option.opts[0]
        for option in commands()[name,].params
        if option.param_type_name == "option" and not option.rich_help_panel
    ]
    assert [each for each in loose if each != "--help"] == []


def test_keys_of_set_are_completed_with_their_sign():
    assert complete_key("training.l")[:1] == ["training.lr="]
    assert complete_key("training.lr=0") == []
    assert "variants.NAME.norm=" in complete_key("variants.")


def test_the_last_of_a_list_is_completed():
    assert complete_norm("batch,zca-c") == ["batch,zca-cor"]
    assert complete_metric("w1,percentile-drift-") == ["w1,percentile-drift-relative"]
    assert one_of("auto", "cpu", "cuda")("c") == ["cpu", "cuda"]
