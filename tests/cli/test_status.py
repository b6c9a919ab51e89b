"""`bncli status` as a user types it, beside a running study and after it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bncli.store.status import CommandStatus, note_status
from tests.store.conftest import named  # noqa: F401 - for every test here
from tests.store.made_store import add_run, add_study, content

Command = Callable[..., tuple[int, str, str]]
STORE = Path(".bncli")
NOW = 1_900_000_000.0  # after everything that a test makes


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(time, "time", lambda: NOW)
    return NOW


def note(study: str, pid: int, ago: float, **what: object) -> None:
    fields = {"name": "one", "runs": 5, "started": NOW - 1200, "time": NOW - ago, "host": "node7", "pid": pid, **what}
    note_status(STORE, CommandStatus(study, **fields))  # type: ignore[arg-type]


def test_a_running_study_is_told_in_words(bncli: Command, now: float) -> None:
    add_run(STORE, "a")
    study = add_study(STORE, "one", "a b c d e", age_days=-1000)
    note(study, 7, 3, in_flight=2, failed=1, seconds_left=183.0, said="batch seed 1: done")
    assert bncli("status") == (
        0,
        f"one ({study[:12]}): 1 of 5 runs done, 2 in flight, 1 failed, 1 waiting; about 3 minutes left\n"
        "  process 7 on node7, started 20 minutes ago: batch seed 1: done\n",
        "",
    )


def test_a_killed_command_gives_no_sign_of_life(bncli: Command, now: float) -> None:
    study = add_study(STORE, "one", "a b")
    note(study, 7, 720, in_flight=2)
    code, out, _ = bncli("status", "one")
    assert code == 0
    assert ": 0 of 2 runs done, 2 not trained; no command trains it; last asked for " in out
    assert out.endswith(
        "\n  process 7 on node7, started 20 minutes ago: no sign of life for 12 minutes; the same command continues the"
        " study\n"
    )


def test_what_is_not_known_yet_is_said_to_be(bncli: Command, now: float) -> None:
    note(add_study(STORE, "one", "a b"), 7, 0, in_flight=1)
    _, out, _ = bncli("status")
    assert "1 in flight, 1 waiting; how long is left is not known yet\n" in out
    assert out.endswith("started 20 minutes ago: nothing has ended yet\n")


def test_a_complete_study_is_told_in_a_line(bncli: Command) -> None:
    add_run(STORE, "a")
    study = add_study(STORE, "one", "a")
    _, out, _ = bncli("status", study[:6])
    assert out.startswith(f"one ({study[:12]}): 1 of 1 runs done; complete; last asked for ")


def test_studies_are_found_by_name_or_id_and_a_wrong_one_is_a_mistake(bncli: Command) -> None:
    one, two = add_study(STORE, "one", "a"), add_study(STORE, "two", "b")
    assert [line.split()[0] for line in bncli("status")[1].splitlines()] in (["one", "two"], ["two", "one"])
    assert two not in bncli("status", "one")[1]
    assert bncli("status", two)[1].startswith("two (")
    code, out, err = bncli("status", "tow")
    assert (code, out) == (2, "")
    assert err == "no study is called 'tow'; did you mean 'two'? (known: one, two)\n"
    assert one != two


def test_where_there_is_no_store_or_no_study_it_says_so(bncli: Command) -> None:
    code, _, err = bncli("status", "--store", "nowhere")
    assert (code, err.startswith("nowhere: there is no store of bncli")) == (2, True)
    add_run(STORE, "a")
    assert bncli("status")[:2] == (
        0, "no studies in .bncli; `bncli compare` trains one and remembers it, --store names another place\n",
    )  # fmt: skip
    assert bncli("status", "one") == (2, "", ".bncli: it remembers no studies\n")


def test_a_damaged_study_is_a_line_on_stderr(bncli: Command) -> None:
    study = add_study(STORE, "one", "a")
    (STORE / "studies" / study / "study.json").write_text("{")
    code, _, err = bncli("status")
    assert (code, "study.json: cannot be read" in err) == (0, True)


def test_json_is_the_same_as_data_and_nothing_is_written_to_the_store(bncli: Command, now: float) -> None:
    study = add_study(STORE, "one", "a b c", age_days=-1000)
    note(study, 7, 3, in_flight=2, seconds_left=183.0, said="it\x1b[2J goes")
    before = content(STORE)
    code, out, _ = bncli("status", "--json", "-")
    (found,) = json.loads(out)["studies"]
    (command,) = found.pop("commands")
    asked = found.pop("asked")
    assert (code, json.loads(out)["schema"], asked > 0) == (0, "bncli/status/1", True)
    assert found == {
        "id": study, "name": "one", "runs": 3, "done": 0, "in_flight": 2, "failed": 0, "waiting": 1,
        "seconds_left": 180.0, "said": "it\x1b[2J goes", "unfinished": False,
    }  # fmt: skip
    assert (command["host"], command["pid"], command["silent"], command["seconds_ago"]) == ("node7", 7, False, 3.0)
    assert "\x1b" not in bncli("status")[1]
    assert content(STORE) == before


def test_studies_of_the_gate_are_told_too(bncli: Command) -> None:
    add_study(STORE, "one", "a")
    add_study(STORE / "sources" / "abc", "gate", "a")
    assert [line.split()[0] for line in bncli("status")[1].splitlines()] == ["one", "gate"]
