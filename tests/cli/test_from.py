"""`compare --from` and `export` on the command line: what is printed, where it goes, what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

TABLE = "variant,seed,step,accuracy\n" + "".join(
    f"{variant},{seed},{step},{step / 200 * level + seed / 100}\n"
    for variant, level in (("none", 0.5), ("batch", 0.8))
    for seed in range(6)
    for step in (0, 100, 200)
)


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bncli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_runs_made_elsewhere_are_compared_and_what_we_export_is_read(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(TABLE)
    done = run("compare", "--from", "runs.csv", "--set", "target.accuracy=0.4", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "batch has a higher final accuracy" not in done.stdout  # the headline is about the target
    assert "12 runs made elsewhere, read from runs.csv · 6 paired seeds" in done.stdout
    assert "12 runs from runs.csv" in done.stdout
    small = ["smoke", "--seeds", "2", "--variants", "none,batch", "--set", "training.steps=40"]
    missing = run("export", *small, "--to", "mine.csv", cwd=tmp_path)
    assert missing.returncode == 2
    assert "smoke: none of its 4 runs is in .bncli; `bncli train smoke` makes them" in missing.stderr
    assert run("train", *small, "--jobs", "1", cwd=tmp_path).returncode == 0
    assert run("export", *small, "--to", "mine.csv", cwd=tmp_path).returncode == 0
    ours = run("compare", "--from", "mine.csv", cwd=tmp_path)
    assert (ours.returncode, "4 runs made elsewhere" in ours.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["compare", "--seed-from", "s"], "--variant-from, --seed-from: say how runs made elsewhere are called; give --from FILE too"),
        (["compare", "--from", "runs.csv", "--until", "decided"], "--until: --from compares runs that were made elsewhere, and trains nothing; leave it out"),
        (["compare", "--from", "runs.csv", "--data", "digits"], "--data: --from compares runs that were made elsewhere, and trains nothing; leave it out"),
        (["compare", "figure1", "--from", "runs.csv", "--seeds", "3"], "PRESET, --seeds: --from compares runs that were made elsewhere, and trains nothing; leave them out"),
        (["compare", "--from", "runs.csv", "--set", "tune.seeds=3"], "--from: tune: these runs were made elsewhere"),
        (["export", "smoke", "--to", "runs.txt"], "--to runs.txt: expected a .csv or .jsonl file, or -"),
        (["export", "smoke", "--to", "no/runs.csv"], "--to no/runs.csv: there is no folder no"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_2(arguments: list[str], line: str, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(TABLE)
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_a_folder_of_data_in_the_environment_hinders_no_comparison_of_runs_made_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs.csv").write_text(TABLE)
    monkeypatch.setenv("BNCLI_DATA", str(tmp_path))
    assert run("compare", "--from", "runs.csv", cwd=tmp_path).returncode == 0
