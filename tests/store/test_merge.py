"""Stores are joined: what is missing is copied, what differs is said, nothing is overwritten."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bncli.errors import StoreError
from bncli.store.folder import Store
from bncli.store.maintenance import merge
from bncli.store.studies import Studies
from tests.store.made_store import BASELINE, NOW, add_run, add_study, content


def outcomes(source: Path, into: Path) -> Counter[tuple[str, str]]:
    return Counter((merged.kind, merged.outcome) for merged in merge(source, into))


def refusals(source: Path, into: Path) -> list[str]:
    return [merged.problem for merged in merge(source, into) if merged.outcome == "refused"]


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    for run in ("a", "b"):
        add_run(tmp_path / "ours", run)
    add_study(tmp_path / "ours", "quickstart", "a b", look=True)
    return tmp_path / "ours"


def test_a_store_merged_into_an_empty_one_is_the_same_store(ours: Path, tmp_path: Path) -> None:
    Store(ours).write_baseline("main", BASELINE)
    assert outcomes(ours, tmp_path / "new") == {("run", "added"): 2, ("study", "added"): 1, ("baseline", "added"): 1}
    assert content(tmp_path / "new") == content(ours)


def test_overlapping_stores_become_one_with_everything(ours: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    for run in ("b", "c"):
        add_run(theirs, run)
    key = add_study(theirs, "quickstart", "b c", (1, 2))
    add_study(theirs, "zoo", "c")
    found = outcomes(theirs, ours)
    assert found == {
        ("run", "there"): 1, ("run", "added"): 1, ("study", "there"): 1, ("plan", "added"): 1, ("study", "added"): 1,
    }  # fmt: skip
    joined = Studies(ours).read(key)
    assert (joined.planned, joined.stored, joined.seeds) == ({"a", "b", "c"}, {"a", "b", "c"}, {0, 1, 2})
    assert len(joined.looks) == 1


def test_merging_again_changes_nothing(ours: Path, tmp_path: Path) -> None:
    list(merge(ours, tmp_path / "new"))
    before = content(tmp_path / "new")
    assert not [pair for pair in outcomes(ours, tmp_path / "new") if pair[1] != "there"]
    assert content(tmp_path / "new") == before


def test_what_is_old_stays_old(ours: Path, tmp_path: Path) -> None:
    add_run(ours, "old", age_days=40)
    list(merge(ours, tmp_path / "new"))
    assert (tmp_path / "new" / "runs" / "old" / "record.json").stat().st_mtime == NOW - 40 * 86_400


def test_the_same_numbers_measured_on_another_machine_are_no_conflict(ours: Path, tmp_path: Path) -> None:
    add_run(tmp_path / "theirs", "a", seconds=7.0)
    before = content(ours)
    assert outcomes(tmp_path / "theirs", ours) == {("run", "there"): 1}
    assert content(ours) == before


def test_other_numbers_for_the_same_run_are_said_and_ours_stay(ours: Path, tmp_path: Path) -> None:
    add_run(tmp_path / "theirs", "a", accuracy=0.9)
    before = content(ours)
    (line,) = refusals(tmp_path / "theirs", ours)
    assert (
        line
        == f"{ours}/runs/a: {tmp_path}/theirs has other numbers for this run; it stays as it is: delete it to take the others"
    )
    assert content(ours) == before


def test_a_run_that_measured_nan_twice_is_the_same(ours: Path, tmp_path: Path) -> None:
    for folder in (ours, tmp_path / "theirs"):
        add_run(folder, "n", accuracy=float("nan"), seconds=len(str(folder)), metric="parameter_norm")
    assert outcomes(tmp_path / "theirs", ours) == {("run", "there"): 1}


def test_a_damaged_run_is_said_and_the_others_are_merged(ours: Path, tmp_path: Path) -> None:
    (ours / "runs" / "a" / "record.json").write_text("{")
    (line,) = refusals(ours, tmp_path / "new")
    assert line.startswith(f"{ours}/runs/a: cannot be read (")
    assert Store(tmp_path / "new").run_ids() == ["b"]


def test_a_damaged_run_of_ours_is_not_overwritten_but_said(ours: Path, tmp_path: Path) -> None:
    add_run(tmp_path / "theirs", "a")
    (ours / "runs" / "a" / "curves.npz").write_bytes(b"")
    (line,) = refusals(tmp_path / "theirs", ours)
    assert line.startswith(f"{ours}/runs/a: cannot be read (curves.npz is not what was written); delete that folder")


def test_a_damaged_study_is_said_wherever_it_is(ours: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    key = add_study(theirs, "quickstart", "b c", (1, 2))
    for folder in (theirs, ours):
        file = folder / "studies" / key / "study.json"
        before = file.read_text()
        file.write_text(before.replace("quickstart", "quickstarT", 1))
        (line,) = refusals(theirs, ours)
        assert line.startswith(f"{file}: cannot be read (it is not what was written)")
        file.write_text(before)


def test_another_baseline_of_the_same_name_is_said_and_ours_stays(ours: Path, tmp_path: Path) -> None:
    for folder, number in ((ours, 1), (tmp_path / "theirs", 2)):
        Store(folder).write_baseline("main", {**BASELINE, "number": number})
    (line,) = refusals(tmp_path / "theirs", ours)
    assert line.startswith(
        f"{ours}/baselines/main.json: {tmp_path}/theirs/baselines/main.json is another; it stays as it is"
    )
    assert json.loads((ours / "baselines" / "main.json").read_text())["number"] == 1


def test_the_runs_of_baselines_are_merged_too(ours: Path, tmp_path: Path) -> None:
    add_run(ours / "sources" / "abc", "x")
    list(merge(ours, tmp_path / "new"))
    assert Store(tmp_path / "new" / "sources" / "abc").run_ids() == ["x"]


def test_what_is_being_written_is_left_out(ours: Path, tmp_path: Path) -> None:
    (ours / "runs" / ".writing-1").mkdir()
    (ours / "runs" / ".writing-1" / "record.json").write_text("{")
    list(merge(ours, tmp_path / "new"))
    assert sorted(path.name for path in (tmp_path / "new" / "runs").iterdir()) == ["a", "b"]


def test_a_folder_that_is_no_store_or_the_same_is_refused(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere: there is no store of bncli; --store names another$"):
        list(merge(tmp_path / "nowhere", ours))
    ours.rename(tmp_path / ".bncli")
    with pytest.raises(StoreError, match=r"there is no store of bncli; did you mean .*/\.bncli\?$"):
        list(merge(tmp_path, tmp_path / "new"))
    with pytest.raises(StoreError, match="cannot be merged into itself"):
        list(merge(tmp_path / ".bncli", tmp_path / "x" / ".." / ".bncli"))


MERGER = """
import sys
from pathlib import Path
import bncli.store.pack
from bncli.store.maintenance import merge
bncli.store.pack.run_id = lambda spec: spec["named"]
for merged in merge(Path(sys.argv[1]), Path(sys.argv[2])):
    assert merged.outcome != "refused", merged
"""


def test_two_processes_merge_into_one_store_at_once(tmp_path: Path) -> None:
    for i in range(30):
        add_run(tmp_path / "ours", f"r{i}")
        add_study(tmp_path / "ours", f"s{i}", f"r{i}")
    command = [sys.executable, "-c", MERGER, str(tmp_path / "ours"), str(tmp_path / "new")]
    crew = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in crew] == [0, 0]
    assert content(tmp_path / "new") == content(tmp_path / "ours")


def test_an_interrupted_merge_leaves_whole_runs_and_goes_on(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bncli.store.maintenance.read_bytes", interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(merge(ours, tmp_path / "new"))
    assert content(tmp_path / "new") == {}
    list(merge(ours, tmp_path / "new"))
    assert content(tmp_path / "new") == content(ours)
