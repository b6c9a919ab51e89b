"""The real command with real pipes: streams that are full, closed or without a reader, encodings, signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bncli.cli.progress import show_progress

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and signals")
SHORT = ("smoke", "--seeds", "1", "--set", "training.steps=4", "--set", "evaluation.every=2", "--executor", "thread")
PRESETS = Path(__file__).parents[2] / "presets"
COMMAND = [sys.executable, "-m", "bncli"]


def run(*arguments: str, shell: str = "", **how: Any) -> "subprocess.CompletedProcess[str]":
    """The command, its streams redirected as a shell writes it."""
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", *COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, **how)


@pytest.mark.parametrize("arguments", [("ls", "presets"), ("--help",), ("ls", "norms"), ("validate", "smoke")])
@pytest.mark.parametrize(
    ("shell", "why"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
    ids=["full", "closed"],
)
def test_output_that_cannot_be_written_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], shell: str, why: str
) -> None:
    done = run(*arguments, shell=shell)
    assert (done.returncode, done.stderr) == (2, f"stdout: cannot write ({why})\n")


@pytest.mark.parametrize("arguments", [("ls", "norms"), ("--help",)])
def test_output_that_nobody_reads_is_exit_code_141_without_a_word(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=100)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("shell", ["2>/dev/full", "2>&-", "2>&- <&-"])
def test_a_mistake_is_exit_code_2_where_it_cannot_be_said(shell: str) -> None:
    done = run("ls", "nothing", shell=shell)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_full_and_closed_side_channels_do_not_end_training(tmp_path: Path) -> None:
    said = run(
        "compare", *SHORT, "--events", "/dev/full", "--json", "found.json", shell="2>&- <&-", cwd=tmp_path,
        env={**os.environ, "TMPDIR": "/nowhere"},
    )  # fmt: skip
    assert said.returncode == 0
    assert said.stdout.endswith("2 runs in .bncli\n")
    assert (tmp_path / "found.json").stat().st_size > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == [".bncli", "found.json"]


def test_a_study_whose_output_nobody_reads_is_trained_and_written(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "compare", *SHORT, "--events", "-", "--save-baseline", "main"], cwd=tmp_path, stdout=writer,
        stderr=subprocess.PIPE, text=True, timeout=100,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr.endswith("baseline .bncli/baselines/main.json\n")


def test_events_for_a_named_pipe_wait_for_no_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events")
    with show_progress(str(tmp_path / "events")) as (_, tell):
        tell('{"event": "findings"}')
        reader = os.open(tmp_path / "events", os.O_RDONLY | os.O_NONBLOCK)
        assert os.read(reader, 100) == b'{"event": "findings"}\n'
        os.close(reader)


@pytest.mark.parametrize(("encoding", "name"), [("ascii", b"~~"), ("cp1252", b"\xb5~"), ("utf-8", "µ☃".encode())])
def test_what_an_encoding_has_not_is_a_tilde(encoding: str, name: bytes, tmp_path: Path) -> None:
    (tmp_path / "µ☃.yaml").write_bytes((PRESETS / "smoke.yaml").read_bytes())
    done = subprocess.run(
        [*COMMAND, "validate", "µ☃.yaml"], capture_output=True, cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, name + b".yaml: good (6 runs)\n")


@pytest.mark.parametrize(
    ("moment", "numbers", "code"),
    [
        ("bncli.cli.options", [signal.SIGINT], 130),
        ("torch._C", [signal.SIGINT] * 5, 130),
        ("numpy", [signal.SIGTERM], 143),
        ("bncli.engine.train", [signal.SIGINT] * 5, 130),
    ],
    ids=["in the first imports", "five in the import of torch", "ended in an import", "five while training"],
)
def test_an_interrupt_at_any_moment_is_its_exit_code_without_a_traceback(
    moment: str, numbers: list[signal.Signals], code: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "bncli", "compare", "smoke", "--set", "training.steps=4000"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr
        lines = iter(process.stderr.readline, "")
        assert any(moment in line for line in lines)
        for number in numbers:
            os.killpg(process.pid, number)
        rest = [line for line in lines if not line.startswith("import time:")]
    assert process.returncode == code
    assert not [line for line in rest if "Traceback" in line or "ignored" in line]


def test_what_is_printed_steers_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J\x07.yaml").write_bytes((PRESETS / "smoke.yaml").read_bytes())
    done = run("validate", "a\x1b[2J\x07.yaml", "\x1b]0;b", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "a\\x1b[2J\\x07.yaml: good (6 runs)\n")
    assert "\\x1b]0;b" in done.stderr
    assert done.stderr.strip().isprintable()
