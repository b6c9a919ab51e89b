"""bncli as functions: in scripts, in a notebook's session beside the user's own processes, and typed."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bncli
from bncli.errors import BncliError, ConfigError
from bncli.records import Record
from bncli.session.events import Event, Started
from tests.executors.elsewhere import open_elsewhere

ROOT = Path(bncli.__file__).parents[1]
SMOKE = {"training.steps": 20, "evaluation.every": 10}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_every_public_name_is_listed_typed_and_there() -> None:
    assert set(bncli.__all__) <= set(dir(bncli))
    assert all(getattr(bncli, name) is not None for name in bncli.__all__)
    assert (Path(bncli.__file__).parent / "py.typed").is_file()


def test_every_function_can_be_called_twice(tmp_path: Path) -> None:
    def twice() -> None:
        how: dict[str, Any] = {"store": tmp_path, "jobs": 1, "set": SMOKE, "seeds": 1, "device": "cpu"}
        assert [arm.variant for arm in bncli.compare("smoke", **how).findings.arms] == ["none", "batch"]
        assert len(bncli.train("smoke", **how).runs) == 2
        assert bncli.shift_report("smoke", variants="batch", **how).findings.sentences
        case = {"norms": ["batch"], "shapes": ["N8C16"], "passes": ["train-forward"]}
        bench = bncli.bench({"question": "?", "cases": [case]}, budget=1, device="cpu", store=tmp_path)
        assert [row.case.norm for row in bench.findings.rows] == ["batch"]
        assert bncli.norm("batch", 3).running_mean.shape == (3,)
        assert bncli.read_study("smoke").reference == "none"

    twice()
    twice()


def test_a_frame_has_a_row_for_every_number_and_a_column_for_every_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))  # optional, and heavy
    result = bncli.train("smoke", set=SMOKE, seeds=1, store=tmp_path, jobs=1, device="cpu")
    rows = result.to_frame()
    assert len(rows) == sum(len(run.result.records) for run in result.runs if run.result) > 20
    assert rows[0].keys() == {"variant", "seed", "id", *Record._fields}
    assert (rows[0]["variant"], rows[0]["metric"], rows[0]["step"], rows[0]["index"]) == ("none", "loss", 0, None)


def test_a_function_takes_a_name_a_path_a_study_or_a_dict_and_all_are_one_study(tmp_path: Path) -> None:
    path = tmp_path / "same.yaml"
    path.write_text(Path(ROOT / "presets" / "smoke.yaml").read_text())
    study = bncli.read_study("smoke", set=SMOKE)
    ways: list[Any] = ["smoke", path, study, {**study.model_dump(mode="json")}]
    ids = [
        [run.id for run in bncli.train(way, set=SMOKE, seeds=range(2), store=tmp_path, jobs=1, device="cpu").runs]
        for way in ways
    ]
    assert ids == [ids[0]] * 4
    assert len(ids[0]) == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": 3}, "preset: expected a shipped preset's name, the path of a YAML file, a Study or a dict"),
        ({"variants": 3}, "variants: expected names, as in 'batch,zca' or ['batch', 'zca'], got 3"),
        ({"seeds": 1.5}, "seeds: expected how many (5), or which (range(5), [0, 3], '0..4'), got 1.5"),
        ({"device": "gpu"}, "--device: must be one of auto, cpu, cuda, mps, got 'gpu'"),
        ({"executor": "dusk"}, "no executor is called 'dusk'"),
        ({"jobs": 0}, "jobs: expected a whole number above 0, or None, got 0"),
        ({"jobs": "2"}, "jobs: expected a whole number above 0, or None, got '2'"),
        ({"store": 5}, "store: expected a folder's path, got 5"),
        ({"data": 5}, "data: expected a data set's name, FILE.npz, FILE.txt, a folder of images or hf:NAME, got 5"),
        ({"data_dir": 5}, "data_dir: expected a folder's path, or None, got 5"),
        ({"time_limit": "a"}, "time_limit: expected seconds, or None, got 'a'"),
        ({"executor": 3}, "executor: expected a name, FILE.py:FACTORY, a factory, or a concurrent.futures.Executor"),
        ({"set": 3}, 'set: expected {"training.lr": 0.1} or ["training.lr=0.1,0.5"], got 3'),
        ({"time_limit": 0}, "--time-limit: must be more than 0 and at most 9223372036 seconds, got 0; leave it out"),
        ({"fail_if": "a:b"}, "fail_if: expected a list of texts, as in ['...'], got 'a:b'"),
        ({"baseline": 3}, "baseline: expected a baseline's name or file, or None, got 3"),
        ({"on_event": 3}, "on_event: expected a function of one event (bncli.session.events), got 3"),
        ({"plugins": 3}, "plugins: expected files or modules, as in ['norms.py'], got 3"),
        ({"variants": "none,"}, "variants: expected names, as in 'batch,zca' or ['batch', 'zca'], got 'none,'"),
        (
            {"variants": "none,,batch"},
            "variants: expected names, as in 'batch,zca' or ['batch', 'zca'], got 'none,,batch'",
        ),
        ({"variants": [""]}, "variants: expected names, as in 'batch,zca' or ['batch', 'zca'], got ['']"),
        ({"seeds": 0}, "--seeds 0: seeds: must be one seed or more, got 0"),
        ({"seeds": []}, "--seeds []: seeds: must not be empty"),
        ({"set": [3]}, "set: expected a list of texts, as in ['...'], got [3]"),
        (
            {"set": {"training.lr": object}},
            "set: Object of type type is not JSON serializable; expected texts, numbers",
        ),
        ({"preset": {"variants": {"batch": "batch"}}}, "study: reference: is required"),
    ],
)
def test_what_is_of_a_wrong_type_is_a_line(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        bncli.compare(**{"preset": "smoke", "store": tmp_path, **wrong})
    assert message in str(error.value)


EMPTY = "is empty; expected"


@pytest.mark.parametrize(
    ("function", "wrong", "message"),
    [
        (bncli.compare, {"baseline": ""}, f"baseline: {EMPTY} a baseline's name or file, or None (is a variable not set?)"),
        (bncli.compare, {"save_baseline": " "}, f"save_baseline: {EMPTY} a baseline's name or file, or None (is "),
        (bncli.compare, {"store": ""}, f"store: {EMPTY} a folder's path (is a variable not set?)"),
        (bncli.train, {"data_dir": ""}, f"data_dir: {EMPTY} a folder's path, or None (is a variable not set?)"),
        (bncli.train, {"preset": ""}, f"preset: {EMPTY} a shipped preset's name or a YAML file (is a variable not set?)"),
        (bncli.read_study, {"preset": ""}, f"preset: {EMPTY} a shipped preset's name or a YAML file (is a variable "),
        (bncli.compare, {"fail_if": [""], "baseline": "main"}, f"fail_if: {EMPTY} a text (is a variable not set?)"),
        (bncli.shift_report, {"layers": 1}, "layers: expected names, as in 'a,b' or ['a', 'b'], got 1"),
        (bncli.shift_report, {"layers": "a,,b"}, "layers: expected names, as in 'a,b' or ['a', 'b'], got 'a,,b'"),
        (bncli.shift_report, {"metrics": ["w1", " "]}, "metrics: expected names, as in 'a,b' or ['a', 'b'], got ['w1', ' ']"),
        (bncli.shift_report, {"metrics": [5]}, "metrics: expected names, as in 'a,b' or ['a', 'b'], got [5]"),
        (bncli.shift_report, {"on_event": 3}, "on_event: expected a function of one event (bncli.session.events), got 3"),
        (bncli.bench, {"preset": ""}, f"preset: {EMPTY} a shipped preset's name or a YAML file (is a variable not set?)"),
        (bncli.bench, {"preset": 3}, "preset: expected a preset's name, a file or a dict, got 3"),
        (bncli.bench, {"against": ""}, f"against: {EMPTY} another Python interpreter, or None (is a variable not set?)"),
        (bncli.bench, {"truth": ""}, f"truth: {EMPTY} a norm, MODULE:NAME or FILE.py:NAME, or None (is a variable not set?)"),
        (bncli.bench, {"time_limit": "9"}, "time_limit: expected seconds, or None, got '9'"),
        (bncli.bench, {"baseline": ""}, f"baseline: {EMPTY} a baseline's name or file, or None (is a variable not set?)"),
        (bncli.bench, {"only": "x"}, "only: expected a list of texts, as in ['...'], got 'x'"),
        (bncli.bench, {"norm": 3}, "norm: expected a list of texts, as in ['...'], got 3"),
        (bncli.bench, {"norm": "batch", "shape": [8]}, "shape: expected a list of texts, as in ['...'], got [8]"),
        (bncli.bench, {"norm": "bacth"}, "--norm: no norm is called 'bacth'; did you mean 'batch'?"),
        (bncli.bench, {"threads": None}, "threads: expected a whole number, or a list of them, got None"),
        (bncli.bench, {"threads": [1, 0]}, "--threads: must be a whole number from 1 to 1,024, got '0'"),
        (bncli.bench, {"compile": 1}, "compile: expected True, False or None, got 1"),
        (bncli.bench, {"vs": ""}, f"vs: {EMPTY} a norm, MODULE:NAME or FILE.py:NAME, or None (is a variable not set?)"),
        (bncli.bench, {"budget": "5"}, "budget: expected seconds, or None, got '5'"),
    ],
)  # fmt: skip
def test_what_is_empty_or_of_a_wrong_type_is_a_line_in_every_function(
    function: Any, wrong: dict[str, Any], message: str
) -> None:
    preset = {} if function is bncli.bench else {"preset": "smoke"}
    with pytest.raises(ConfigError) as error:
        function(**preset | wrong)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_section_that_is_set_keeps_the_keys_that_are_not_named() -> None:
    changes = {"training": {"lr": 0.25}, "variants.batch.training": {"lr": 0.5}}
    whole, changed = bncli.read_study("smoke"), bncli.read_study("smoke", set=changes)
    assert changed.training == whole.training.model_copy(update={"lr": 0.25})
    assert changed.variants["batch"].training == {**whole.variants["batch"].training, "lr": 0.5}


def test_without_pandas_a_frame_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BncliError, match=r"^to_frame: needs pandas \(.*\); pip install pandas, or take \.to_json\(\)$"):
        bncli.Result("smoke", bncli.read_study("smoke"), None, (), tmp_path).to_frame()


def test_events_come_in_the_callers_thread_and_what_they_raise_ends_the_session(tmp_path: Path) -> None:
    told: list[Event] = []

    def stop(event: Event) -> None:
        told.append(event)
        raise BncliError("enough")

    with pytest.raises(BncliError, match="enough"):
        bncli.train("smoke", store=tmp_path, jobs=1, device="cpu", set=SMOKE, on_event=stop)
    assert [type(event) for event in told] == [Started]


def test_a_library_call_prints_nothing_and_changes_no_environment(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before, handlers = dict(os.environ), [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    bncli.compare("smoke", store=tmp_path, jobs=1, device="cpu", set=SMOKE, data_dir=ROOT / "bncli" / "data" / "files")
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


NOTEBOOK = """
import bncli
import torch.utils.data as data
examples = data.TensorDataset(__import__("torch").arange(64.0))
loader = data.DataLoader(examples, batch_size=8, num_workers=2, persistent_workers=True)
batches = iter(loader)
_ = next(batches)
first = bncli.compare("smoke", seeds=2, store="store", set={"training.steps": 20}, device="cpu")
_ = next(batches)
second = bncli.compare("smoke", seeds=3, store="store", set={"training.steps": 20}, device="cpu")
rest = len(list(batches))
again = sum(len(batch[0]) for batch in loader)
print("RESULT", len(first.runs), len(second.runs), rest, again, second._repr_html_()[:5])
"""


def test_a_notebook_like_session_compares_twice_beside_a_loader_with_workers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-i", "-q"], input=NOTEBOOK, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT,
        timeout=200,
    )  # fmt: skip
    assert "RESULT 4 6 6 64 <div>" in done.stdout, done.stderr


def test_a_script_without_its_guard_is_told_so_in_a_line(tmp_path: Path) -> None:
    script = tmp_path / "study.py"
    script.write_text("import bncli\nbncli.compare('smoke', seeds=1, store='store', device='cpu', jobs=1)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bncli.errors.BncliError: ")
    assert 'study.py must call bncli under `if __name__ == "__main__":`' in last


ELSEWHERE = """
import sys
import bncli
from tests.executors.elsewhere import open_elsewhere

if __name__ == "__main__":
    how = {"training.steps": int(sys.argv[1]), "evaluation.every": 25}
    result = bncli.compare("smoke", set=how, store="store", device="cpu", jobs=2, executor=open_elsewhere)
    print("DONE", sum(run.result.info.status == "done" for run in result.runs))
"""


def test_workers_that_live_elsewhere_run_a_study_that_is_killed_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(ELSEWHERE)
    command = [sys.executable, "study.py", "4000"]
    running = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, start_new_session=True)
    runs = tmp_path / "store" / "runs"
    deadline = time.monotonic() + 100
    while not (runs.is_dir() and any(path.name[0] != "." for path in runs.iterdir())):
        assert running.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = {path.name: (path / "record.json").stat().st_mtime_ns for path in runs.iterdir() if path.name[0] != "."}
    assert 0 < len(kept) < 6
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert "DONE 6" in done.stdout, done.stderr
    assert {name: (runs / name / "record.json").stat().st_mtime_ns for name in kept} == kept  # none trained again


def test_an_executor_is_named_on_the_command_line_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "cluster.py").write_text(
        "from concurrent.futures import ThreadPoolExecutor\ndef one(workers, device):\n    return ThreadPoolExecutor(1)\n"
    )
    command = ["compare", "smoke", "--seeds", "1", "--set", "training.steps=20", "--executor", "cluster.py:one"]
    done = subprocess.run(
        [sys.executable, "-m", "bncli", *command], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "[2/2]" in done.stderr


USER = '''
"""What a user might write."""

import bncli
from bncli import Findings, Study


def best(preset: str) -> str:
    study: Study = bncli.read_study(preset, set={"training.lr": 0.1})
    result = bncli.compare(study, variants=["batch", "none"], seeds=range(5), store="store")
    findings: Findings = result.findings
    for run in result.runs:
        if run.result is not None:
            steps, values = run.result.curve("accuracy")
            print(run.variant, run.seed, steps[-1], values[-1])
    print(len(result.to_json()), bncli.METRICS["w1"].unit, len(bncli.NORMS))
    return findings.headlines[0]


layer = bncli.norm("group", 32, groups=8)
timed = bncli.bench("bench-quick", only=["batch"], budget=10.0)
print(timed.findings.rows[0].verdict, best("smoke"), bncli.Store)
'''


def test_a_users_script_type_checks_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="the type checker is an extra")
    (tmp_path / "user.py").write_text(textwrap.dedent(USER))
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT}\nfollow_imports = silent\n")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.stdout.startswith("Success"), done.stdout


def test_the_elsewhere_of_these_tests_shares_no_folder() -> None:
    with open_elsewhere(1, "cpu") as pool:
        assert pool.submit(os.getcwd).result() != str(Path.cwd())
