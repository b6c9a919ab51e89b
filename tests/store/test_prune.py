"""Removing by study, run or age: never what a kept study needs, never what may be being written."""

import shutil
from pathlib import Path

import pytest

from bncli.errors import StoreError
from bncli.store.folder import Store
from bncli.store.prune import Pruning, plan_pruning, prune
from bncli.store.studies import Studies
from tests.store.made_store import BASELINE, DAY, NOW, add_checkpoint, add_run, add_study, age, content


def places(pruning: Pruning) -> list[str]:
    return [f"{removal.kind} {removal.place.name}" for removal in pruning.removals]


def pruned(folder: Path, studies: str = "", runs: str = "", days: float | None = None) -> list[str]:
    older_than = None if days is None else days * DAY
    pruning = plan_pruning(folder, studies.split(), runs.split(), older_than, NOW)
    found = places(pruning)
    assert list(prune(pruning)) == pruning.removals
    return found


def test_a_study_goes_with_its_runs_and_those_that_others_need_stay(tmp_path: Path) -> None:
    for run in ("a", "b", "shared", "alone"):
        add_run(tmp_path, run)
    gone, kept = add_study(tmp_path, "gone", "a b shared"), add_study(tmp_path, "kept", "shared missing")
    pruning = plan_pruning(tmp_path, ["gone"], now=NOW)
    assert (places(pruning), pruning.spared) == (["run a", "run b", f"study {gone}"], 1)
    list(prune(pruning))
    assert Store(tmp_path).run_ids() == ["alone", "shared"]
    assert Studies(tmp_path).ids() == [kept]
    assert not list(tmp_path.rglob(".writing-*"))


def test_planning_touches_nothing_and_says_how_many_bytes(tmp_path: Path) -> None:
    add_run(tmp_path, "a")
    add_study(tmp_path, "x", "a")
    before = content(tmp_path)
    pruning = plan_pruning(tmp_path, ["x"], now=NOW)
    assert content(tmp_path) == before
    assert sum(removal.size_byte for removal in pruning.removals) == sum(map(len, before.values()))


def test_a_study_is_found_by_any_name_it_had_by_id_and_by_how_its_id_begins(tmp_path: Path) -> None:
    key = add_study(tmp_path, "old", "a", asked="the same")
    add_study(tmp_path, "new", "a", asked="the same")
    for text in ("old", "new", key, key[:4]):
        assert places(plan_pruning(tmp_path, [text])) == [f"study {key}"]


def test_a_name_that_several_studies_have_is_refused_with_their_ids(tmp_path: Path) -> None:
    keys = sorted(add_study(tmp_path, "same", "a", asked=asked) for asked in ("one", "other"))
    with pytest.raises(StoreError, match=rf"^--study same: 2 studies are called so; choose by id: {', '.join(keys)}$"):
        plan_pruning(tmp_path, ["same"])


@pytest.mark.parametrize(
    ("studies", "runs", "message"),
    [("quikstart", "", "--study quikstart: no study is called 'quikstart'; did you mean 'quickstart'? (known: quickstart)"),
     ("", "nothere", "--run nothere: there is no such run"), ("", "abc", "--run abc: there is no such run"),
     ("", "abcd", "--run abcd: 2 runs are called so; choose by id: abcd1, abcd2"),
     ("", "", "say what to prune: --study NAME, --run ID or --older-than 30d; --dry-run shows it first")],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line(studies: str, runs: str, message: str, tmp_path: Path) -> None:
    add_study(tmp_path, "quickstart", "a")
    for run in ("abcd1", "abcd2"):
        add_run(tmp_path, run)
    with pytest.raises(StoreError) as caught:
        plan_pruning(tmp_path, studies.split(), runs.split())
    assert str(caught.value) == message


def test_a_store_that_remembers_no_studies_says_so(tmp_path: Path) -> None:
    add_run(tmp_path, "a")
    with pytest.raises(
        StoreError, match=r"^--study x: the store remembers no studies; remove by --run or --older-than$"
    ):
        plan_pruning(tmp_path, ["x"])
    with pytest.raises(StoreError, match="there is no store"):
        plan_pruning(tmp_path / "nowhere", ["x"])


def test_a_run_goes_alone(tmp_path: Path) -> None:
    for run in ("abcd", "efgh"):
        add_run(tmp_path, run)
    assert pruned(tmp_path, runs="abcd") == ["run abcd"]
    assert Store(tmp_path).run_ids() == ["efgh"]


def test_a_run_that_a_study_needs_is_refused_with_two_ways_out(tmp_path: Path) -> None:
    add_run(tmp_path, "abcd")
    key = add_study(tmp_path, "x", "abcd")
    with pytest.raises(StoreError) as caught:
        plan_pruning(tmp_path, runs=["abcd"])
    assert str(caught.value) == (
        f"--run abcd: study 'x' needs it; remove that too (--study {key}), or delete {tmp_path}/runs/abcd to train the run again"
    )
    assert pruned(tmp_path, "x", "abcd") == ["run abcd", f"study {key}"]


def test_age_takes_old_studies_with_their_runs_and_old_runs_of_no_study(tmp_path: Path) -> None:
    for run, days in (("old", 40), ("young", 5), ("of-old-study", 41), ("of-young-study", 41)):
        add_run(tmp_path, run, age_days=days)
    old = add_study(tmp_path, "old", "of-old-study", age_days=40)
    add_study(tmp_path, "young", "of-young-study", age_days=3)
    assert pruned(tmp_path, days=30) == ["run of-old-study", "run old", f"study {old}"]
    assert pruned(tmp_path, days=30) == []


def test_age_and_names_together_take_what_is_both(tmp_path: Path) -> None:
    add_run(tmp_path, "abcd", age_days=40)
    add_study(tmp_path, "x", "a", age_days=5)
    assert pruned(tmp_path, "x", "abcd", days=30) == ["run abcd"]


def test_a_study_is_as_old_as_its_last_look(tmp_path: Path) -> None:
    add_study(tmp_path, "x", "a", age_days=1000, look=True)
    looked = (NOW - Studies(tmp_path).list()[0].looks[0].seconds) / DAY
    assert looked < 1000
    assert pruned(tmp_path, days=looked + 1) == []
    assert len(pruned(tmp_path, days=looked - 1)) == 1


def test_unfinished_files_and_folders_go_once_a_day_old(tmp_path: Path) -> None:
    key = add_study(tmp_path, "x", "a")
    for place, days in (("runs", 2), ("runs", 0.5), (f"studies/{key}", 2)):
        working = tmp_path / place / f".writing-{days}"
        working.mkdir(parents=True)
        (working / "record.json").write_text("{")
        age(working, days)
    found = pruned(tmp_path, days=9999)
    assert found == ["unfinished .writing-2", "unfinished .writing-2"]
    assert [path.name for path in tmp_path.rglob(".writing-*")] == [".writing-0.5"]


def test_a_folder_that_is_old_but_still_written_to_stays(tmp_path: Path) -> None:
    add_run(tmp_path, "a")
    working = tmp_path / "runs" / ".writing-1"
    working.mkdir()
    (working / "curves.npz").write_text("half")
    age(working, 3)
    age(working / "curves.npz", 0.1)
    assert pruned(tmp_path, days=9999) == []


def test_checkpoints_stay_while_a_kept_study_continues_from_them(tmp_path: Path) -> None:
    add_run(tmp_path, "done")
    add_study(tmp_path, "kept", "done missing", jobs="continues")
    add_study(tmp_path, "whole", "done", jobs="finished")
    gone = add_study(tmp_path, "gone", "never", jobs="given-up training-now")
    for job in ("continues", "finished", "given-up", "of-nobody"):
        add_checkpoint(tmp_path, job, age_days=20)
    add_checkpoint(tmp_path, "training-now", age_days=0.01)
    assert pruned(tmp_path, "gone") == ["checkpoint finished", "checkpoint given-up", f"study {gone}"]
    assert pruned(tmp_path, days=30) == []
    assert pruned(tmp_path, days=10) == ["checkpoint of-nobody"]


@pytest.mark.parametrize("name", ["copies", "pack.npz"])
def test_copies_go_with_runs_that_they_are_of(name: str, tmp_path: Path) -> None:
    add_run(tmp_path, "abcd")
    (tmp_path / name).write_text("a copy of abcd")
    assert pruned(tmp_path, runs="abcd") == ["run abcd", f"copies file {name}"]
    assert not (tmp_path / name).exists()


def test_the_runs_of_baselines_grow_old_too(tmp_path: Path) -> None:
    add_run(tmp_path / "sources" / "abc", "x", age_days=40)
    assert pruned(tmp_path, days=30) == ["run x"]


def test_baselines_stay(tmp_path: Path) -> None:
    add_run(tmp_path, "a", age_days=40)
    age(Store(tmp_path).write_baseline("main", BASELINE), 400)
    pruned(tmp_path, days=30)
    assert (tmp_path / "baselines" / "main.json").exists()


def test_a_study_that_cannot_be_read_stops_everything_since_its_runs_are_unknown(tmp_path: Path) -> None:
    add_run(tmp_path, "a", age_days=40)
    key = add_study(tmp_path, "x", "a")
    (tmp_path / "studies" / key / "study.json").write_text("{")
    with pytest.raises(StoreError, match=r"study\.json: cannot be read"):
        plan_pruning(tmp_path, older_than=30 * DAY, now=NOW)


def test_a_link_to_a_run_elsewhere_goes_and_the_run_stays(tmp_path: Path) -> None:
    elsewhere = add_run(tmp_path / "elsewhere", "abcd")
    (tmp_path / "here" / "runs").mkdir(parents=True)
    (tmp_path / "here" / "runs" / "abcd").symlink_to(elsewhere)
    pruned(tmp_path / "here", runs="abcd")
    assert list((tmp_path / "here" / "runs").iterdir()) == []
    assert (elsewhere / "record.json").exists()


def test_interrupted_pruning_leaves_whole_runs_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in ("a", "b", "c"):
        add_run(tmp_path, run)
    key, count = add_study(tmp_path, "x", "a b c"), 0
    remove = shutil.rmtree

    def interrupt(*arguments: object, **options: object) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        remove(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(prune(plan_pruning(tmp_path, ["x"], now=NOW)))
    assert Store(tmp_path).run_ids() == ["c"]
    assert Store(tmp_path).read("c").info.id == "c"
    assert pruned(tmp_path, "x") == ["run c", f"study {key}"]


def test_a_damaged_look_of_another_study_stops_nothing(tmp_path: Path) -> None:
    add_run(tmp_path, "a")
    add_run(tmp_path, "shared")
    gone, kept = add_study(tmp_path, "gone", "a shared"), add_study(tmp_path, "kept", "shared", look=True)
    look = next((tmp_path / "studies" / kept / "looks").iterdir())
    look.write_text("{")
    assert pruned(tmp_path, "gone") == ["run a", f"study {gone}"]
    assert look.read_text() == "{"


def test_a_damaged_plan_of_another_study_stops_it_as_its_runs_are_not_known(tmp_path: Path) -> None:
    add_study(tmp_path, "gone", "a")
    kept = add_study(tmp_path, "kept", "shared")
    next((tmp_path / "studies" / kept / "plans").iterdir()).write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        pruned(tmp_path, "gone")
