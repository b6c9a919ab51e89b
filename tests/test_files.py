"""What is written is there whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bncli.files import (
    UNFINISHED,
    folder_written_atomically,
    make_temporary_folder,
    remove_atomically,
    replace_text,
    write_atomically,
)

KILLED = """
import os, signal, sys
from pathlib import Path
from bncli import files
files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomically(Path(sys.argv[1]), "new")
"""


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_takes_the_place_of_the_one_before(durable: bool, tmp_path: Path) -> None:
    for content in ("old", "new ½\n"):
        write_atomically(tmp_path / "file", content, durable=durable)
    assert (tmp_path / "file").read_bytes() == "new ½\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_writer_that_is_killed_leaves_the_file_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "file")])
    assert done.returncode == -9
    assert (tmp_path / "file").read_text() == "old"
    (left,) = (path.name for path in tmp_path.iterdir() if path.name != "file")
    assert left.startswith(UNFINISHED)


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_file_and_folder_are_synced_before_and_after_the_name_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())))
    if sys.platform != "linux":
        pytest.skip("names what is synced by /proc")
    write_atomically(tmp_path / "file", "new")
    assert Path(synced[0]).name.startswith(UNFINISHED)
    assert synced[1:] == [str(tmp_path)]
    synced.clear()
    write_atomically(tmp_path / "file", "new", durable=False)
    assert synced == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from bncli.cli.output import write
from bncli.errors import BncliError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
for place, append in (("found.json", False), ("summary.md", True), ("link.json", False), ("never.json", False)):
    try:
        write(place, "new" * 20000, f"--json {place}", append=append, after="; the runs are stored")
    except BncliError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_on_a_full_disk_a_document_before_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for name in ("found.json", "summary.md", "target.json"):
        (tmp_path / name).write_text("old")
    (tmp_path / "link.json").symlink_to("target.json")
    done = subprocess.run([sys.executable, "-c", FULL_DISK], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    names = ["found.json", "summary.md", "link.json", "never.json"]
    assert done.stdout.splitlines() == [
        f"--json {n}: cannot write (File too large); the runs are stored" for n in names
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "link.json", "summary.md", "target.json"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}


def test_a_document_takes_the_place_of_the_one_before_through_a_link_and_with_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "target").chmod(0o640)
    (tmp_path / "link").symlink_to("target")
    replace_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_a_document_goes_into_a_pipe_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE) as reader:
        replace_text(tmp_path / "pipe", "through")
        assert reader.communicate()[0] == b"through"
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    replace_text(Path(os.devnull), "nowhere")


OWNER = """
import sys
from bncli.files import make_temporary_folder
folder, remove = make_temporary_folder()
(folder / "content").write_text("1")
print(folder, flush=True)
sys.stdin.read()
remove()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_temporary_folders_of_killed_processes_are_removed_and_those_of_living_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = subprocess.PIPE
    crew = [
        subprocess.Popen(
            [sys.executable, "-c", OWNER],
            stdin=pipe,
            stdout=pipe,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        for _ in range(2)
    ]
    killed, living = (Path(process.stdout.readline().strip()) for process in crew if process.stdout)
    crew[0].kill()
    crew[0].communicate()
    assert killed.parent == tmp_path
    (tmp_path / "bncli-of-a-version-before").mkdir()
    for folder in (killed, living):
        os.utime(folder / "owner", (0, 0))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ours, remove = make_temporary_folder()
    assert sorted(tmp_path.iterdir()) == sorted([living, ours, tmp_path / "bncli-of-a-version-before"])
    remove()
    crew[1].communicate("")
    assert [path.name for path in tmp_path.iterdir()] == ["bncli-of-a-version-before"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", "")
        with folder_written_atomically(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("file", "folder")] == ["0o640", "0o750"]


def test_a_folder_appears_when_it_is_full(tmp_path: Path) -> None:
    with folder_written_atomically(tmp_path / "folder") as working:
        (working / "a").write_text("1")
        assert not (tmp_path / "folder").exists()
    assert (tmp_path / "folder" / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_is_never_put_over_another(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("first")
    with pytest.raises(OSError), folder_written_atomically(tmp_path / "folder") as working:  # noqa: PT011 - whatever the system says
        (working / "a").write_text("second")
    assert (tmp_path / "folder" / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_whose_filling_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), folder_written_atomically(tmp_path / "folder") as working:  # noqa: PT012
        (working / "a").write_text("1")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_is_removed_is_gone_and_what_a_link_points_to_stays(tmp_path: Path) -> None:
    for name in ("folder", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("1")
    for name in ("folder", "link", "file", "never there"):
        remove_atomically(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    assert (tmp_path / "elsewhere" / "a").read_text() == "1"


def test_an_interrupted_removal_leaves_no_half_of_it_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text("{}")
    monkeypatch.setattr("shutil.rmtree", interrupt)
    with pytest.raises(KeyboardInterrupt):
        remove_atomically(tmp_path / "run")
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(UNFINISHED)
