"""The commands as a user types them, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from bncli.cli import app, main
from tests.executors.clusters import find_forked_workers

PRESET = """
question: does it work?
data: {name: mnist, binarize: 127}
model: {name: mlp, hidden: [8], init: {normal: 0.1}}
training: {steps: STEPS, batch_size: 40, lr: 0.5}
evaluation: {every: 20, split: validation}
target: {accuracy: 0.6}
variants: {none: none, batch: batch}
reference: none
seeds: 3
"""


def bncli(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bncli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment, timeout=200)


def preset(folder: Path, steps: int = 60) -> str:
    (folder / "study.yaml").write_text(PRESET.replace("STEPS", str(steps)))
    return "study.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small study that has been trained once, and what the command printed."""
    folder = tmp_path_factory.mktemp("trained")
    done = bncli("compare", preset(folder), "--jobs", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_compare_prints_a_table_and_one_line_a_finished_run(trained: Path) -> None:
    table, lines = (trained / "stdout").read_text(), (trained / "stderr").read_text().splitlines()
    assert table.startswith("study: does it work?\nmnist · mlp 784-8-10 sigmoid · batch 40 · sgd lr 0.5 (constant), ")
    assert "none (ref)" in table
    assert len(lines) == 6
    assert lines[-1].startswith("[6/6] ")


def test_a_second_compare_answers_from_the_store(trained: Path) -> None:
    done = bncli("compare", "study.yaml", cwd=trained)
    assert done.stderr == ""
    assert done.stdout == (trained / "stdout").read_text()


def test_a_study_under_another_name_with_other_comments_finds_its_runs(trained: Path) -> None:
    (trained / "renamed.yaml").write_text("# why\n" + (trained / "study.yaml").read_text())
    done = bncli("compare", "renamed.yaml", "--dry-run", cwd=trained)
    assert "6 runs (6 stored in .bncli)" in done.stdout


def test_the_json_document_is_whole_and_has_no_nan(trained: Path) -> None:
    done = bncli("compare", "study.yaml", "--json", "-", cwd=trained)

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    found = json.loads(done.stdout, parse_constant=refuse)
    assert set(found) >= {"schema", "study", "runs", "verdicts", "warnings", "environment"}
    assert len(found["runs"]) == 6
    assert found["study"]["training"]["steps"] == 60
    assert found["environment"]["device"] == "cpu"


@pytest.mark.parametrize("command", ["compare", "shift-report"])
def test_a_file_that_cannot_be_written_is_a_line_before_anything_is_trained(command: str, tmp_path: Path) -> None:
    done = bncli(command, preset(tmp_path), "--json", "no/such/folder.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "--json no/such/folder.json: there is no folder no/such\n"
    assert not (tmp_path / ".bncli").exists()


def test_where_writing_fails_all_the_same_the_table_is_shown(trained: Path) -> None:
    done = bncli("compare", "study.yaml", "--json", "/dev/full", cwd=trained)
    assert done.returncode == 2
    assert done.stderr == "--json /dev/full: cannot write (No space left on device); the runs themselves are stored\n"
    assert "none (ref)" in done.stdout


def test_train_shows_how_every_run_ended(trained: Path) -> None:
    done = bncli("train", "study.yaml", cwd=trained)
    assert done.returncode == 0
    assert done.stdout.count(" done ") == 6


def test_the_dry_run_trains_nothing(tmp_path: Path) -> None:
    done = bncli("compare", preset(tmp_path), "--dry-run", "--jobs", "2", cwd=tmp_path)
    assert done.stdout.splitlines()[:2] == [
        "study: 6 runs (0 stored in .bncli)",
        "jobs: 2 (2 with several lanes), 2 to train, 2 workers",
    ]
    assert not (tmp_path / ".bncli").exists()


def test_numbers_stay_whole_on_a_narrow_terminal(trained: Path) -> None:
    done = bncli("compare", "study.yaml", cwd=trained, COLUMNS="80")
    tables = [line for line in done.stdout.splitlines() if line.startswith(("   ", " + ", " - ", " = ", " ? "))]
    assert tables
    assert max(map(len, tables)) <= 80
    assert "…" not in done.stdout


def test_no_color_prints_none_and_force_color_some(trained: Path) -> None:
    assert "\x1b[" not in bncli("compare", "study.yaml", cwd=trained, NO_COLOR="1").stdout
    assert "\x1b[" in bncli("compare", "study.yaml", cwd=trained, FORCE_COLOR="1").stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["compare", "no.yaml"], "no.yaml: no such file"),
        (["compare", "."], ".: is a directory, expected a YAML preset"),
        (["compare", "quickstrat"], "no preset is called 'quickstrat'; did you mean 'quickstart'?"),
        (["compare", "smoke", "--device", "tpu"], "--device: must be one of auto, cpu, cuda, mps, got 'tpu'"),
        (["compare", "smoke", "--device", "mps"], "--device mps: torch "),
        (
            ["compare", "smoke", "--variants", "bacth"],
            "--variants: variants.bacth.norm: no norm is called 'bacth'; did",
        ),
        (
            ["compare", "smoke", "--data-dir", "nowhere"],
            "--data-dir nowhere: there is no such folder; leave it and BNCLI_DATA out",
        ),
        (["compare", "smoke", "--data", "cifr10"], "--data: no data set is called 'cifr10'; did you mean 'cifar10'?"),
        (["compare", "smoke", "--data", "no.npz"], "no.npz: there is no such file or folder"),
        (["compare", "smoke", "--data", ""], "--data: is empty; give a value or leave it out"),
        (["train", "smoke", "--data", "."], "expected two folders or more, one for each class, got none"),
        (["validate", "a.yaml"], "a.yaml:1: is empty"),
        (["ls", "nroms"], "no list is called 'nroms'; did you mean 'norms'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(arguments: list[str], line: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    done = bncli(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def every_option(command: Any, words: Sequence[str] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command followed by each of its options that takes a value, and by each of its arguments."""
    for name, below in getattr(command, "commands", {}).items():
        yield from every_option(below, (*words, name))
    if not hasattr(command, "commands"):
        yield words
        yield from ((*words, each.opts[0]) for each in command.params if each.opts[0][0] == "-" and not each.is_flag)


@pytest.mark.parametrize("words", list(every_option(get_command(app))), ids=" ".join)
def test_no_option_and_no_argument_takes_an_empty_text(
    words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = words[-1]
    lines = {f"{last if last[0] == '-' else f'argument {len(words) + 1}'}: is empty; give a value or leave it out (is a"
             " variable not set?)\n"}  # fmt: skip
    for given in (
        [*words, ""],
        [*words, "  "],
        [*words, ","],
        [*words, " , "],
        [*words[:-1], f"{last}="] if last[0] == "-" else [*words, ""],
    ):
        monkeypatch.setattr(sys, "argv", ["bncli", *given])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert {capsys.readouterr().err} == lines


def test_a_variable_of_the_environment_that_is_empty_is_not_set(tmp_path: Path) -> None:
    done = bncli("compare", "smoke", "--dry-run", cwd=tmp_path, BNCLI_STORE="", BNCLI_DATA="")
    assert done.stdout.startswith("smoke: 6 runs (0 stored in .bncli)")


def test_wrong_mnist_bytes_are_said_and_nothing_is_stored(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-images-idx3-ubyte").write_bytes(b"not digits")
    done = bncli("compare", "smoke", "--data-dir", "data", cwd=tmp_path)
    assert done.returncode == 2
    assert "not MNIST's train-images-idx3-ubyte: MD5 of the unpacked bytes is" in done.stderr
    assert bncli("ls", "studies", cwd=tmp_path).stdout.startswith("no studies in .bncli; ")


def test_a_truncated_data_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-images-idx3-ubyte.xz").write_bytes(b"\xfd7zXZ\x00 cut")
    done = bncli("compare", "smoke", "--data-dir", "data", cwd=tmp_path)
    assert done.returncode == 2
    assert "train-images-idx3-ubyte.xz: cannot be unpacked" in done.stderr


def test_a_damaged_record_is_named_and_its_job_trained_again_to_the_same_table(trained: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(trained, tmp_path / "copy")
    before = bncli("compare", "study.yaml", cwd=tmp_path / "copy")
    place = next((tmp_path / "copy" / ".bncli" / "runs").iterdir())
    (place / "record.json").write_text("{")
    plan = bncli("compare", "study.yaml", "--dry-run", cwd=tmp_path / "copy")
    assert f".bncli/runs/{place.name}: cannot be read (" in plan.stdout
    assert not (tmp_path / "copy" / ".bncli" / "set-aside").exists()
    done = bncli("compare", "study.yaml", cwd=tmp_path / "copy")
    assert done.returncode == 0
    named, *rest = done.stderr.splitlines()
    assert named.startswith(f".bncli/runs/{place.name}: cannot be read (")
    assert named.endswith("; the run is trained again, and what is there moves to .bncli/set-aside")
    assert len(rest) == 3  # its job is trained whole, so that lanes keep their company
    assert without_times(done.stdout) == without_times(before.stdout)


def test_ls_names_every_norm(tmp_path: Path) -> None:
    from bncli.norms import NORMS

    printed = bncli("ls", "norms", cwd=tmp_path).stdout
    assert [line.split()[0] for line in printed.splitlines()[1 : len(NORMS) + 1]] == list(NORMS)


def test_validate_says_good_and_warns(tmp_path: Path) -> None:
    done = bncli("validate", "quickstart", "figure1", cwd=tmp_path)
    assert done.returncode == 0
    assert "figure1: good (10 runs)" in done.stdout


def test_validate_counts_and_plans_what_a_search_tries(tmp_path: Path) -> None:
    rest = "data: digits\nmodel: mlp\ntraining: {steps: 9}\nvariants: {none: none}\nreference: none\nseeds: 4\nsearch: "
    (tmp_path / "good.yaml").write_text(rest + "{over: {training.lr: {log: [0.01, 1]}}, trials: 5, seeds: 2}\n")
    wrong = "{over: {training.optimizer: [sgd, adam], training.optimizer.momentum: {linear: [0, 0.9]}}, trials: 4}\n"
    (tmp_path / "wrong.yaml").write_text(rest + wrong)
    good = bncli("validate", "good.yaml", cwd=tmp_path)
    assert good.stdout.startswith("good.yaml: good (4 runs, after 10 or fewer of its search)\n")
    found = bncli("validate", "wrong.yaml", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert "no such key" in found.stderr


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bncli", "compare", "study.yaml", "--jobs", "1"]
    environment = dict(
        os.environ
    )  # without the COLUMNS that readline, behind Python's back, gives to pytest's children
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for_first_job(process: subprocess.Popen[str]) -> None:
    assert process.stderr
    for _ in range(3):
        process.stderr.readline()


LONG = 1500  # long enough to be interrupted in the second job


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The table of a study that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    done = bncli("compare", preset(folder, LONG), "--jobs", "1", cwd=folder)
    assert done.returncode == 0
    return without_times(done.stdout)


def without_times(table: str) -> str:
    """A table without its last column and the note on seconds, which no two runs of a command share."""
    return "\n".join(
        line[: line.rfind("  ")] if "%" in line and "." in line[-5:] else line
        for line in table.splitlines()
        if "steps are not seconds" not in line
    )


@pytest.mark.skipif(sys.platform != "linux", reason="finds worker processes in /proc")
@pytest.mark.parametrize("how", ["interrupt", "kill", "kill a worker"])
def test_an_interrupted_study_continues_to_the_same_table(how: str, whole: str, tmp_path: Path) -> None:
    preset(tmp_path, LONG)
    process = start(tmp_path)
    wait_for_first_job(process)
    time.sleep(0.3)
    crew = find_forked_workers(process.pid)
    assert crew
    if how == "kill a worker":
        os.kill(crew[0], signal.SIGKILL)
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0
        assert "a worker process died (jobs running then: " in err
        assert without_times(out) == whole
        return
    process.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == (130 if how == "interrupt" else -signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in crew) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in crew if Path(f"/proc/{pid}").exists()], "a worker trains on without its command"
    done = bncli("compare", "study.yaml", "--jobs", "1", cwd=tmp_path)
    assert len(done.stderr.splitlines()) == 3, "only the job that was interrupted is trained"
    assert without_times(done.stdout) == whole
