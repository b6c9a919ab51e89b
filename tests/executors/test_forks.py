"""Workers forked from one process: they have what spawned ones have, and nothing of theirs stays behind."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bncli.data.files import read_file
from bncli.data.idx import files_of
from bncli.executors import Workers
from bncli.executors.local import open_local, start_early

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are spawned there")
ROOT = Path(__file__).parents[2]


def ask(workers: Workers, call: Any, *args: Any) -> Any:
    return workers.executor.submit(call, *args).result(60)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workers, Path]]:
    """Two workers, opened in a folder, with a variable and a module, that the tests' process has not."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "found_here.py").write_text("PLACE = __file__\n")
    with pytest.MonkeyPatch.context() as patch:
        start_early("local", "cpu")  # with other surroundings, which must not be those of workers
        patch.setenv("SAID_LATER", "yes")
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        workers = open_local(2, "cpu")
        run = SimpleNamespace(task=None, data=SimpleNamespace(name="mnist"))
        workers.prepare([SimpleNamespace(runs=[run])])  # type: ignore[list-item]
        yield workers, folder
        workers.stop()


def describe_process() -> tuple[int, int, bool, str]:
    import numpy as np

    time.sleep(0.5)  # so that the other worker takes the next call
    return os.getpid(), os.getppid(), "torch" in sys.modules, str(np.random.random())


def test_workers_are_forked_from_one_process_that_has_torch(elsewhere: tuple[Workers, Path]) -> None:
    both = [elsewhere[0].executor.submit(describe_process) for _ in range(2)]
    pids, parents, torch, drawn = zip(*(each.result(60) for each in both), strict=True)
    assert (len(set(pids)), len(set(parents)), set(torch)) == (2, 1, {True})
    assert os.getpid() not in parents
    assert len(set(drawn)) == 2, "each worker must have numbers of its own"


def test_workers_have_the_environment_folder_and_modules_of_when_they_are_opened(
    elsewhere: tuple[Workers, Path],
) -> None:
    workers, folder = elsewhere
    assert ask(workers, os.getenv, "SAID_LATER") == "yes"
    assert ask(workers, os.getcwd) == str(folder)
    assert ask(workers, eval, "__import__('found_here').PLACE") == str(folder / "found_here.py")


def test_data_that_were_read_ahead_are_those_that_workers_read(elsewhere: tuple[Workers, Path]) -> None:
    workers, _ = elsewhere
    ahead = ask(workers, eval, "list(__import__('bncli.data.files').data.files._ahead.values())")
    assert ahead == [read_file(file) for file in files_of("mnist")]


def test_what_a_worker_raises_and_what_cannot_travel_reach_the_caller(elsewhere: tuple[Workers, Path]) -> None:
    workers, _ = elsewhere
    with pytest.raises(ZeroDivisionError):
        ask(workers, divmod, 1, 0)
    with pytest.raises(SystemExit):
        ask(workers, sys.exit, 3)
    with pytest.raises(RuntimeError, match="pickle"):
        ask(workers, eval, "lambda: 0")


def test_a_pool_whose_worker_died_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = open_local(1, "cpu")
    first, waiting = (workers.executor.submit(call, 3) for call in (os._exit, abs))
    with pytest.raises(BrokenExecutor, match="a worker process died"):
        first.result(60)
    with pytest.raises(BrokenExecutor):
        workers.executor.submit(abs, 3)
    workers.stop()
    assert waiting.cancelled()


def test_workers_for_a_gpu_are_not_forked() -> None:
    workers = open_local(1, "mps")
    assert isinstance(workers.executor, ProcessPoolExecutor)
    workers.stop()


def marked(mark: str) -> list[int]:
    """Processes that have a variable of the command's."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_for(count: int, mark: str) -> None:
    deadline = time.monotonic() + 60
    while len(marked(mark)) != count:
        assert time.monotonic() < deadline, f"{len(marked(mark))} processes, expected {count}"
        time.sleep(0.05)


SCRIPT = """
import time
from bncli.executors.local import open_local, start_early
if __name__ == "__main__":
    start_early("local", "cpu")
    workers = open_local(1, "cpu")
    workers.executor.submit(time.sleep, 600)
    time.sleep(600)
"""


def test_nothing_of_a_killed_command_stays_behind(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(SCRIPT)
    mark = f"STAYS_BEHIND={tmp_path}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STAYS_BEHIND": str(tmp_path)}
    with subprocess.Popen([sys.executable, tmp_path / "study.py"], env=environment) as command:
        wait_for(3, mark)  # the command, what workers are forked from, the worker
        command.kill()
    wait_for(0, mark)


def test_a_command_that_trains_nothing_after_all_leaves_nothing_behind(tmp_path: Path) -> None:
    mark = f"STAYS_BEHIND={tmp_path}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STAYS_BEHIND": str(tmp_path)}
    command = [sys.executable, "-m", "bncli", "compare", "smoke", "--set", "training.lr=-1", "--device", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, marked(mark)) == (2, [])
    assert "training.lr: must be > 0" in done.stderr


ASKING = """
from bncli.executors.local import open_local
workers = open_local(1, "cpu")
print(workers.executor.submit(abs, -3).result(60))
workers.stop()
"""


def test_a_script_that_python_reads_from_stdin_may_start_workers() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-"], input=ASKING, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr


def test_a_script_without_a_guard_says_so_in_the_command_alone(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(ASKING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, tmp_path / "study.py"], env=environment, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "concurrent.futures._base.BrokenExecutor: a worker process died"
    assert done.stderr.count("Traceback") == 1
