"""Files of data sets: found where others keep them, downloaded whole or not at all, never used unverified."""

import gzip
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bncli.data import DATASETS, files, looking_in
from bncli.data.files import DataFile, download, fetch, read_file
from bncli.data.idx import files_of
from bncli.errors import DataError
from bncli.files import cache_folder
from tests.data.made_server import Manner, serving

CONTENT = bytes(range(256)) * 40
FILE = DataFile("toy", "Toy", "numbers", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), layouts=("Toy/raw",))
PACKED = gzip.compress(CONTENT, mtime=0)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache, a system folder and a working directory of the test's own; a connection that is given up soon."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("BNCLI_OFFLINE", raising=False)
    monkeypatch.setattr(files, "SYSTEM", tmp_path / "system")
    monkeypatch.setattr(files, "PAUSE", 0.0)
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def at(*addresses: str, file: DataFile = FILE) -> DataFile:
    return replace(file, addresses=tuple(f"{address}/{file.name}" for address in addresses))


def cached() -> list[str]:
    folder = cache_folder() / "toy"
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock")) if folder.exists() else []


def no_words(text: str) -> None:
    pass


@pytest.mark.parametrize("content", [CONTENT, PACKED], ids=["plain", "gz"])
def test_a_download_is_verified_kept_and_not_repeated(content: bytes) -> None:
    manner, said = Manner(content), list[str]()
    with serving(manner) as address:
        name = FILE.name if content is CONTENT else f"{FILE.name}.gz"
        file = replace(FILE, addresses=(f"{address}/{name}",))
        assert read_file(file, said.append) == CONTENT
        assert read_file(file, said.append) == CONTENT
        fetch(iter([file]), said.append)
    assert len(manner.requests) == 1
    assert cached() == [name]
    assert said == [f"downloading {address}/{name} into {cache_folder() / 'toy'}"]


def test_a_connection_that_breaks_off_is_taken_up_where_it_ended() -> None:
    manner = Manner(CONTENT, breaks_after=4_000)
    with serving(manner) as address:
        assert read_file(at(address)) == CONTENT
    assert [asked for _, asked in manner.requests] == ["", "bytes=4000-", "bytes=8000-"]
    assert cached() == ["numbers"]


def test_a_server_that_cannot_go_on_starts_again_and_is_given_up_after_some_tries() -> None:
    manner = Manner(CONTENT, breaks_after=4_000, ranges=False)
    with serving(manner) as address, pytest.raises(DataError) as error:
        read_file(at(address))
    assert str(error.value) == (
        f"Toy: numbers cannot be downloaded: {address}/numbers: broke off after 4,000 of 10,240 bytes; put"
        f" {address}/numbers into {cache_folder() / 'toy'} by hand, or name the folder that has it with --data-dir"
    )
    assert len(manner.requests) == files.TRIES
    assert cached() == ["part-numbers"]


def test_what_a_killed_process_has_brought_is_used_if_it_is_a_beginning() -> None:
    (cache_folder() / "toy").mkdir(parents=True)
    (cache_folder() / "toy" / "part-numbers").write_bytes(CONTENT[:5_000])
    manner = Manner(CONTENT)
    with serving(manner) as address:
        assert read_file(at(address)) == CONTENT
    assert manner.requests == [("/numbers", "bytes=5000-")]


@pytest.mark.parametrize("left", [b"x" * 5_000, b"x" * 20_000], ids=["other bytes", "too many"])
def test_what_is_no_beginning_of_it_is_thrown_away(left: bytes) -> None:
    (cache_folder() / "toy").mkdir(parents=True)
    (cache_folder() / "toy" / "part-numbers").write_bytes(left)
    with serving(Manner(CONTENT)) as address:
        assert read_file(at(address)) == CONTENT
    assert cached() == ["numbers"]


def test_wrong_bytes_are_never_used_nor_kept() -> None:
    wrong = b"y" + CONTENT[1:]
    with serving(Manner(wrong)) as address, pytest.raises(DataError, match="wrong bytes") as error:
        read_file(at(address))
    assert hashlib.sha256(wrong).hexdigest() in str(error.value)
    assert cached() == []


def test_the_next_address_is_asked_where_one_serves_wrong_bytes_or_none() -> None:
    with serving(Manner(b"wrong")) as bad, serving(Manner(code=404)) as gone, serving(Manner(CONTENT)) as good:
        assert read_file(at(bad, gone, good)) == CONTENT


@pytest.mark.parametrize(
    ("manner", "why"),
    [
        (Manner(CONTENT, announces=5_000), "wrong bytes"),
        (Manner(CONTENT[:-9], announces=10_300, ranges=False), "broke off after 10,231 of 10,300 bytes"),
        (Manner(CONTENT, announces=10**12), "1,000,000,000,000 bytes are announced, at most 21,442 expected"),
        (Manner(endless=True), "it does not end after 21,442 bytes"),
        (Manner(code=404), "404 Not Found"),
        (Manner(code=503), "503 Service Unavailable"),
        (Manner(CONTENT, pause=1.0), "timed out"),
        (Manner(CONTENT, pause=0.02, chunk=4), "too slow: "),
        (Manner(gzip.compress(b"")), "wrong bytes"),
    ],
    ids=["shorter", "longer", "huge", "endless", "gone", "busy", "silent", "slow", "another file"],
)
def test_a_server_that_lies_or_sleeps_is_one_line(manner: Manner, why: str) -> None:
    with serving(manner) as address, pytest.raises(DataError) as error:
        read_file(replace(at(address), size=len(CONTENT) + 10_000))
    assert why in str(error.value)
    assert str(error.value).count("\n") == 0
    assert "by hand, or name the folder that has it with --data-dir" in str(error.value)
    assert "numbers" not in cached()


def test_right_bytes_are_taken_whatever_length_was_announced() -> None:
    with serving(Manner(CONTENT, announces=10_300)) as address:
        assert read_file(at(address)) == CONTENT


def test_a_circle_of_redirects_ends() -> None:
    manner = Manner()
    with serving(manner) as address:
        manner.redirects_to = f"{address}/numbers"
        with pytest.raises(DataError, match="redirect"):
            read_file(at(address))
    assert len(manner.requests) < 20


def test_a_redirect_is_followed() -> None:
    with serving(Manner(CONTENT)) as good, serving(Manner(redirects_to=f"{good}/numbers")) as first:
        assert read_file(at(first)) == CONTENT


def test_nobody_listening_is_one_line() -> None:
    with serving(Manner()) as address:
        pass
    with pytest.raises(DataError, match=r"Connection refused; put http"):
        read_file(at(address))


def test_offline_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNCLI_OFFLINE", "1")
    manner = Manner(CONTENT)
    with serving(manner) as address:
        with pytest.raises(DataError, match="numbers is not here and BNCLI_OFFLINE forbids to download it; put "):
            read_file(at(address))
        monkeypatch.setenv("BNCLI_OFFLINE", "0")
        assert not manner.requests
        assert read_file(at(address)) == CONTENT


BRING = """
import sys
from bncli.data.files import DataFile, read_file
content = read_file(DataFile("toy", "Toy", "numbers", int(sys.argv[2]), sys.argv[3], addresses=(sys.argv[1],)), print)
print(len(content))
"""


def test_processes_that_want_the_same_file_download_it_once() -> None:
    manner = Manner(CONTENT, pause=0.1, chunk=500)
    with serving(manner) as address:
        command = [sys.executable, "-c", BRING, f"{address}/numbers", str(len(CONTENT)), FILE.digest]
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        said = [child.communicate()[0].splitlines() for child in children]
    assert [lines[-1] for lines in said] == [str(len(CONTENT))] * 3
    assert len(manner.requests) == 1


@pytest.mark.parametrize(
    "place", ["cache/bncli/toy/numbers", "cache/bncli/toy/numbers.gz", "system/toy/numbers.gz", "data/Toy/raw/numbers"]
)
def test_it_is_found_where_others_keep_it(machine: Path, place: str) -> None:
    (machine / place).parent.mkdir(parents=True)
    (machine / place).write_bytes(PACKED if place.endswith(".gz") else CONTENT)
    assert read_file(FILE) == CONTENT


@pytest.mark.parametrize("place", ["numbers.gz", "toy/numbers", "Toy/raw/numbers"])
def test_a_named_folder_is_looked_in_as_others_lay_it_out_and_nowhere_else_is(machine: Path, place: str) -> None:
    (machine / "mine" / place).parent.mkdir(parents=True)
    with looking_in(machine / "mine"), serving(Manner(CONTENT)) as address:
        with pytest.raises(DataError) as error:
            read_file(at(address))
        assert str(error.value) == (
            f"{machine / 'mine'}: no numbers (or .gz, .xz) there nor in its toy, Toy/raw; leave out --data-dir and"
            " BNCLI_DATA to have Toy looked for elsewhere"
        )
        (machine / "mine" / place).write_bytes(PACKED if place.endswith(".gz") else CONTENT)
        assert read_file(at(address)) == CONTENT
        (machine / "mine" / place).write_bytes(gzip.compress(b"other") if place.endswith(".gz") else b"other")
        with pytest.raises(DataError, match="not Toy's numbers: SHA-256 of the unpacked bytes is"):
            read_file(at(address))


def test_somebody_elses_file_of_that_name_is_passed_over_and_named(machine: Path) -> None:
    place = machine / "system" / "toy" / "numbers"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"theirs")
    with serving(Manner(CONTENT)) as address:
        assert read_file(at(address)) == CONTENT
    (cache_folder() / "toy" / "numbers").unlink()
    with pytest.raises(DataError, match=f"; {place}: not Toy's numbers: "):
        read_file(at(address))
    assert place.read_bytes() == b"theirs"


def test_a_damaged_file_of_the_cache_is_brought_anew() -> None:
    with serving(Manner(CONTENT)) as address:
        read_file(at(address))
        (cache_folder() / "toy" / "numbers").write_bytes(CONTENT[:-1])
        assert read_file(at(address)) == CONTENT


def test_a_bomb_is_not_unpacked_beyond_the_size_of_the_file(machine: Path) -> None:
    place = cache_folder() / "toy" / "numbers.gz"
    place.parent.mkdir(parents=True)
    place.write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(DataError, match=hashlib.sha256(bytes(len(CONTENT) + 1)).hexdigest()):
        files._verified(FILE, place)


def test_a_cache_that_cannot_be_written_is_one_line(machine: Path) -> None:
    (machine / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"cache/bncli/toy: cannot be written to \(.*\); set XDG_CACHE_HOME$"):
        download(at("http://127.0.0.1:9"), no_words)


def test_of_files_whose_packed_bytes_were_published_only_those_are_taken(machine: Path) -> None:
    file = replace(FILE, digest="", digest_gz=hashlib.sha256(PACKED).hexdigest())
    folder = machine / "mine"
    folder.mkdir()
    (folder / "numbers.gz").write_bytes(PACKED)
    with looking_in(folder):
        assert read_file(file) == CONTENT
        (folder / "numbers.gz").rename(folder / "numbers")
        (folder / "numbers").write_bytes(CONTENT)
        with pytest.raises(DataError, match=r"only the checksum of numbers\.gz was published; put that file there"):
            read_file(file)


def test_every_set_that_is_downloaded_has_a_checksum_and_an_address_for_each_file() -> None:
    assert {name for name, row in DATASETS.items() if row.fetch} == {"fashion-mnist", "kmnist", "cifar10", "cifar100"}
    for name in ("fashion-mnist", "kmnist"):
        found = list(files_of(name))
        assert len({file.digest or file.digest_gz for file in found}) == 4
        assert all(len(file.digest or file.digest_gz) == 64 and file.remote == f"{file.name}.gz" for file in found)


def test_planning_on_a_set_that_is_not_here_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "urlopen", None)
    row = DATASETS.describe("cifar10", DATASETS.options("cifar10", {}))
    assert (row.shape, row.classes, row.examples["train"]) == ((3, 32, 32), 10, 45_000)
