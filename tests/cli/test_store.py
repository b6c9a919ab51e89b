"""`bncli store` and `bncli ls studies` as a user types them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.conftest import named  # noqa: F401 - for every test here
from tests.store.made_store import add_run, add_study

Command = Callable[..., tuple[int, str, str]]
STORE = Path(".bncli")


def test_without_studies_the_list_says_what_to_do(bncli: Command) -> None:
    way = "; `bncli compare` trains one and remembers it, --store names another place\n"
    assert bncli("ls", "studies") == (0, f"no studies in .bncli{way}", "")
    add_run(STORE, "a")
    assert bncli("ls", "studies") == (
        0,
        f"no studies in .bncli, only runs of which it does not know what for (1){way}",
        "",
    )


def test_studies_are_listed_with_how_far_they_are(bncli: Command) -> None:
    for run in ("a", "b", "c"):
        add_run(STORE, run)
    looked = add_study(STORE, "quickstart", "a b missing", seeds=(0, 1), look=True)
    never = add_study(STORE, "my long name", "c")
    add_run(STORE / "sources" / "abc", "x")
    code, out, _ = bncli("ls", "studies")
    assert code == 0
    first, *rows, last = out.splitlines()
    assert first.split() == ["id", "name", "last", "looked", "at", "(UTC)", "runs", "seeds", "size"]
    assert {tuple(row.split()[:-2]) for row in rows} == {
        (looked[:12], "quickstart", "2026-01-01", "00:00", "2", "of", "3", "2"),
        (never[:12], "my", "long", "name", "never", "1", "of", "1", "1"),
    }
    assert len({len(line) for line in (first, *rows)}) == 1
    assert last.endswith("of runs for --baseline, by 1 state of the code")


def test_a_listed_id_is_enough_to_prune_by(bncli: Command) -> None:
    key = add_study(STORE, "x", "a")
    add_run(STORE, "a")
    dry = bncli("store", "prune", "--study", key[:12], "--dry-run")
    lines = dry[1].splitlines()
    assert [line.split()[0] for line in lines] == ["run", "study", "would"]
    assert lines[-1].startswith("would remove 1 run and 1 study, ")
    assert (STORE / "runs" / "a").exists()
    code, out, _ = bncli("store", "prune", "--study", key[:12])
    assert (code, out) == (0, lines[-1].replace("would remove", "removed") + "\n")
    assert not (STORE / "runs" / "a").exists()


def test_runs_that_stay_are_said(bncli: Command) -> None:
    add_run(STORE, "a")
    for name in ("x", "y"):
        add_study(STORE, name, "a")
    assert bncli("store", "prune", "--study", "x")[1].endswith("; 1 run stays, because another study needs it\n")


def test_pruning_what_is_not_there_removes_nothing(bncli: Command) -> None:
    add_run(STORE, "a")
    assert bncli("store", "prune", "--older-than", "52000w") == (0, "removed nothing, 0 B\n", "")


@pytest.mark.parametrize("text", ["30", "30x", "d", "-3d", "1.5d", "٣d"])
def test_an_age_that_is_none_is_one_line(text: str, bncli: Command) -> None:
    line = f"--older-than {text}: expected a number with h, d or w behind it, as in 30d\n"
    assert bncli("store", "prune", f"--older-than={text}") == (2, "", line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["store", "prune"], "say what to prune: --study NAME, --run ID or --older-than 30d; --dry-run shows it first"),
        (["store", "prune", "--study", "x"], ".bncli: there is no store of bncli; --store names another"),
        (["store", "verify"], ".bncli: there is no store of bncli; --store names another"),
        (["store", "verify", "--store", "tiny.yaml"], "tiny.yaml: there is no store of bncli; --store names another"),
        (["store", "merge", "nowhere"], "nowhere: there is no store of bncli; --store names another"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(arguments: list[str], line: str, bncli: Command) -> None:
    assert bncli(*arguments) == (2, "", f"{line}\n")


def test_verify_exits_with_3_if_anything_is_damaged(bncli: Command) -> None:
    for run in ("a", "b"):
        add_run(STORE, run)
    assert bncli("store", "verify") == (0, "2 runs read, all good\n", "")
    (STORE / "runs" / "a" / "curves.npz").write_bytes(b"")
    line = (
        ".bncli/runs/a: cannot be read (curves.npz is not what was written); delete that folder to train the run again"
    )
    assert bncli("store", "verify") == (3, f"{line}\n2 runs read, 1 damaged\n", "")


def test_studies_beside_a_damaged_one_are_listed_and_it_is_named(bncli: Command) -> None:
    good, bad = add_study(STORE, "good", "a"), add_study(STORE, "bad", "b")
    (STORE / "studies" / bad / "study.json").write_text("[NaN]")
    code, out, err = bncli("ls", "studies")
    assert code == 0
    assert good[:12] in out
    assert err == (
        f".bncli/studies/{bad}/study.json: cannot be read (NaN is no number that bncli writes); delete it: the study's"
        " next command writes it anew\n"
    )


def test_a_store_that_is_a_file_is_one_line(bncli: Command) -> None:
    line = "tiny.yaml/studies: cannot be read (Not a directory); mend that, or choose another --store\n"
    assert bncli("ls", "studies", "--store", "tiny.yaml") == (2, "", line)


@pytest.mark.parametrize(
    ("place", "what"),
    [("notes.txt", "a file"), ("checkpoints/notes.txt", "a job's checkpoints"), ("studies/notes", "a study"),
     ("studies/{study}/notes.txt", "a file"), ("studies/{study}/plans/notes.txt", "a file"), ("sources/notes", "a file"),
     ("checkpoints/job/notes.txt", "a checkpoint")],
)  # fmt: skip
def test_a_foreign_file_anywhere_in_the_store_is_named(place: str, what: str, bncli: Command) -> None:
    file = STORE / place.format(study=add_study(STORE, "x", "a"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    code, out, _ = bncli("store", "verify")
    assert code == 3
    assert out.splitlines()[0] == f"{file}: not {what} of bncli; move it elsewhere or delete it"


def test_a_folder_without_a_record_in_a_runs_place_is_to_be_deleted(bncli: Command) -> None:
    place = STORE / "runs" / "170aaf00803cee01e924"
    place.mkdir(parents=True)
    code, out, _ = bncli("store", "verify")
    assert code == 3
    assert (
        out.splitlines()[0]
        == f"{place}: cannot be read (record.json is missing); delete that folder to train the run again"
    )


def test_what_was_set_aside_long_ago_is_pruned_by_age_alone(bncli: Command) -> None:
    add_run(STORE, "a")
    for name, days in (("old", 40), ("new", 0)):
        (STORE / "set-aside" / name).mkdir(parents=True)
        (STORE / "set-aside" / name / "record.json").write_text("{")
        os.utime(STORE / "set-aside" / name / "record.json", (time.time() - days * 86_400,) * 2)
    assert bncli("store", "prune", "--run", "a")[1].startswith("removed 1 run, ")
    code, out, _ = bncli("store", "prune", "--older-than", "30d")
    assert (code, out) == (0, "removed 1 set aside, 1 B\n")
    assert [path.name for path in (STORE / "set-aside").iterdir()] == ["new"]


def test_merge_exits_with_5_if_something_is_refused_and_merges_the_rest(bncli: Command) -> None:
    for name, accuracy in (("one", 0.5), ("other", 0.9)):
        add_run(Path(name), "a", accuracy)
        add_run(Path(name), name)
    code, out, err = bncli("store", "merge", "one", "other")
    assert code == 5
    assert out.splitlines() == [
        "one: 2 runs copied to .bncli, nothing there already",
        "other: 1 run copied to .bncli, nothing there already, 1 run refused",
    ]
    assert (
        err == ".bncli/runs/a: other has other numbers for this run; it stays as it is: delete it to take the others\n"
    )


def test_no_store_is_merged_if_one_of_them_is_none(bncli: Command) -> None:
    add_run(Path("one"), "a")
    assert bncli("store", "merge", "one", "nowhere")[0] == 2
    assert not STORE.exists()


@pytest.mark.parametrize("command", [["merge", "one"], ["prune", "--run", "abcd"], ["verify"]])
def test_an_interrupt_is_said_and_exits_with_130(
    command: list[str], bncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    for folder in (STORE, Path("one")):
        add_run(folder, "abcd")
    monkeypatch.setattr("bncli.store.folder.Store.read_folder", interrupt)
    monkeypatch.setattr("bncli.store.prune.remove_atomically", interrupt)
    code, _, err = bncli("store", *command)
    assert code == 130
    assert err.startswith("interrupted; ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["store", "--help"], ["store", "prune", "--help"]])
def test_help_imports_neither_numpy_nor_torch(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom bncli.cli import main\nsys.argv = ['bncli', *sys.argv[1:]]\ntry:\n    main()\n"
        "except SystemExit:\n    pass\nprint([m for m in ('numpy', 'torch', 'scipy') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.stderr == "[]\n"
