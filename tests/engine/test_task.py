"""A loop of somebody's own: what it is given, what may come of it, and what it cannot spoil."""

import json
import random
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bncli.config.study import study_of
from bncli.engine.work import Surroundings, work
from bncli.plan import jobs_of, runs_of
from bncli.plugins import using
from bncli.plugins.code import NamedCode
from bncli.records import RunResult

Run = Callable[..., RunResult]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run one loop, given by its text, and return what it leaves behind."""

    def run(
        text: str, norm: Any = "batch", seed: int = 0, checkpoints: Path | None = None, **options: Any
    ) -> RunResult:
        file = tmp_path / "loop.py"
        file.write_text(textwrap.dedent(text))
        with using([NamedCode("TASKS", f"{file}:train")]):
            study = study_of({
                "task": {"name": "loop.train", **options}, "variants": {"mine": {"norm": norm}}, "reference": "mine",
                "seeds": [seed],
            })  # fmt: skip
            (job,) = jobs_of(runs_of(study, "cpu"))
            (result,) = work(job, Surroundings(checkpoints=checkpoints))
        return result

    return run


def numbers(result: RunResult) -> list[tuple[str, int, float, str]]:
    return [tuple(record[:4]) for record in result.records]


def test_every_number_that_it_yields_is_a_record(run: Run) -> None:
    found = run("""
        import numpy as np, torch

        def train(run):
            yield {"step": 0, "bleu": 1, "loss": 2.5}
            yield {"step": np.int64(10), "bleu": np.float32(1.5), "accuracy": torch.tensor(0.25)}
    """)
    assert (found.info.status, found.info.step, found.info.reason) == ("done", 10, "")
    assert numbers(found) == [
        ("bleu", 0, 1.0, ""), ("loss", 0, 2.5, ""), ("bleu", 10, 1.5, ""), ("accuracy", 10, 0.25, "fraction"),
    ]  # fmt: skip
    assert found.info.seconds["training"] > 0


def test_it_is_given_its_variant_seed_device_and_options(run: Run) -> None:
    found = run(
        """
        def train(run, lr: float = 0.1, *, steps: int = 5):
            assert (run.variant, run.seed, run.device) == ("mine", 3, "cpu")
            assert dict(run.settings) == {"lr": lr, "steps": steps} == {"lr": 0.5, "steps": 5}
            assert not list(run.checkpoint.iterdir())
            yield {"step": steps, "lr": lr}
        """,
        seed=3,
        lr=0.5,
    )
    assert (found.info.reason, numbers(found)) == ("", [("lr", 5, 0.5, "")])


def test_its_norm_is_a_function_of_the_channels(run: Run) -> None:
    found = run(
        """
        import torch

        def train(run):
            assert run.norm.name == "group" and run.norm.options["groups"] == 4
            layer = run.norm(12)
            x = torch.randn(8, 12, 5, 5)
            yield {"step": 1, "groups": layer.groups, "fits": run.norm(6).groups,
                   "std": layer(x).std()}
        """,
        norm={"name": "group", "groups": 4},
    )
    assert [value for _, _, value, _ in numbers(found)] == pytest.approx([4, 3, 1], abs=1e-3)


def test_it_can_have_the_norms_of_a_model_replaced(run: Run) -> None:
    text = """
        from torch import nn

        def train(run):
            model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6, eps=1e-3))
            changed = run.replace_norms(model, inplace=True)
            yield {"step": 0, "bias": int(changed[0].bias is not None), "same": int(changed is model),
                   "eps": getattr(changed[1], "eps", 0)}
    """
    assert [value for _, _, value, _ in numbers(run(text, "none"))] == [1, 1, 0]
    assert [value for _, _, value, _ in numbers(run(text, "layer"))] == [0, 1, 1e-3]


def test_a_norm_of_weights_says_how_it_is_had(run: Run) -> None:
    found = run("""
        def train(run):
            yield {"step": 0, "x": run.norm(4)}
    """, "weight")  # fmt: skip
    assert found.info.status == "failed"
    assert found.info.reason == (
        "ConfigError: norm 'weight' acts on the weights of layers; build the model with batch norm, then"
        " model = run.replace_norms(model) (loop.py:3)"
    )


DRAWS = """
    import random, numpy as np, torch

    def train(run):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        yield {"step": 0, "python": random.random(), "numpy": np.random.rand(), "torch": torch.rand(())}
"""


def test_generators_follow_from_the_seed_and_are_put_back(run: Run) -> None:
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first, again, other = run(DRAWS), run(DRAWS), run(DRAWS, seed=1)
    assert numbers(first) == numbers(again) != numbers(other)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("yield {'accuracy': 0.5}", "loop.py:3: yielded no step, only accuracy; expected yield {\"step\": 100"),
        ("yield {}", "loop.py:3: yielded no step, only an empty dict"),
        ("yield {'step': 1}", "loop.py:3: yielded step 1 without a number"),
        ("yield 0.5", "loop.py:3: yielded 0.5, expected yield {\"step\": 100, \"accuracy\": 0.81}"),
        ("yield {'step': 1.5, 'x': 1}", "loop.py:3: a step must be a whole number, 0 or more, got 1.5"),
        ("yield {'step': True, 'x': 1}", "loop.py:3: a step must be a whole number, 0 or more, got True"),
        ("yield {'step': -1, 'x': 1}", "loop.py:3: a step must be a whole number, 0 or more, got -1"),
        ("yield {'step': 5, 'x': 1}; yield {'step': 5, 'x': 1}", "steps must ascend: yielded step 5 after step 5"),
        ("yield {'step': 5, 'x': 1}; yield {'step': 4, 'x': 1}", "steps must ascend: yielded step 4 after step 5"),
        ("yield {'step': 1, 'x': 'high'}", "loop.py:3: x at step 1 must be one number, got 'high'"),
        ("yield {'step': 1, 'x': None}", "loop.py:3: x at step 1 must be one number, got None"),
        ("yield {'step': 1, 'x': torch.ones(3)}", "x at step 1 must be one number, got a Tensor of shape (3,)"),
        ("yield {'step': 1, 'accuracy': 81}", "accuracy at step 1 must be a fraction, 0 to 1, got 81; divide it"),
        ("yield {'step': 1, 'a b': 1}", "a metric's name must be letters, digits and _ . / - only, got 'a b'"),
        ("return 3", "loop.py:2: train gave 3, expected a generator: yield {\"step\": 100"),
        ("return [{'step': 1, 'x': 1}]", "loop.py:2: train gave [{'step': 1, 'x': 1}], expected a generator"),
        ("return; yield", "loop.py:2: train ended without yielding anything; yield {\"step\": 100"),
        ("yield {'step': 1, 'x': 1}; torch.ones(2) @ torch.ones(3)", "RuntimeError: inconsistent tensor size"),
        ("yield {'step': 1, 'x': 1}; raise ValueError", "ValueError (loop.py:3)"),
        ("yield {'step': 1, 'x': [][1]}", "IndexError: list index out of range (loop.py:3)"),
        ("import sys; yield {'step': 1, 'x': 1}; sys.exit(3)", "SystemExit: 3 (loop.py:3)"),
        ("import sys; sys.exit()", "SystemExit (loop.py:3)"),
        ("raise KeyboardInterrupt; yield", "KeyboardInterrupt (loop.py:3)"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_a_status_with_its_place(body: str, reason: str, run: Run) -> None:
    found = run(f"import torch\ndef train(run):\n    {body}\n")
    assert (found.info.status, found.records) == ("failed", ())
    assert reason in found.info.reason
    assert "\n" not in found.info.reason


def test_more_numbers_than_a_store_takes_are_a_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncli.engine.task.MOST_NUMBERS", 1000)
    found = run("""
        def train(run):
            step = 0
            while True:
                yield {"step": step, "x": 1}
                step += 1
    """)
    assert found.info.reason == "loop.py:5: yielded more than 1,000 numbers; yield less often"


@pytest.mark.parametrize(("value", "word"), [("float('nan')", "nan"), ("float('inf')", "inf"), ("-1e999", "-inf")])
def test_a_number_that_is_not_finite_is_a_divergence(value: str, word: str, run: Run, tmp_path: Path) -> None:
    found = run(f"""
        def train(run):
            try:
                yield {{"step": 0, "loss": 1.0, "bleu": 3}}
                yield {{"step": 10, "bleu": 4, "loss": {value}}}
                raise AssertionError("nobody wants to know")
            finally:
                open({str(tmp_path / "tidied")!r}, "w").close()
    """)
    assert (found.info.status, found.info.step) == ("diverged", 10)
    assert found.info.reason == f"loss is {word} (loop.py:5)"
    assert numbers(found) == [("loss", 0, 1.0, ""), ("bleu", 0, 3.0, "")]
    assert (tmp_path / "tidied").exists()


def test_what_it_prints_goes_to_stderr(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("""
        def train(run):
            print("hello")
            yield {"step": 0, "x": 1}
    """)
    assert capsys.readouterr() == ("", "hello\n")


def test_a_loop_that_never_ends_is_ended(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text("def train(run):\n    yield {'step': 0, 'x': 1}\n    while True:\n        pass\n")
    with using([NamedCode("TASKS", f"{tmp_path / 'loop.py'}:train")]) as plugins:
        from bncli.plugins import ship

        study = study_of({"task": "loop.train", "variants": {"none": "none"}, "reference": "none", "seeds": 1})
        (job,) = jobs_of(runs_of(study, "cpu"))
        (found,) = work(job, Surroundings(seconds=4, plugins=ship(plugins)))
    assert (found.info.status, found.info.reason) == ("timed out", "not done within 4 s")


GOES_ON = """
    import os

    def train(run, die: int = -1):
        kept = run.checkpoint / "step"
        start = int(kept.read_text()) if kept.exists() else 0
        for step in range(start, 6):
            if step == 4 and not (run.checkpoint / "died").exists():
                (run.checkpoint / "died").touch()
                raise RuntimeError("the worker is gone")
            kept.write_text(str(step - step % 2))
            yield {"step": step, "x": step ** 2}
"""


def test_a_run_that_is_repeated_finds_what_it_kept_and_loses_no_number(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "checkpoints"
    assert run(GOES_ON, checkpoints=store).info.status == "failed"
    found = run(GOES_ON, checkpoints=store)
    assert numbers(found) == [("x", step, float(step**2), "") for step in range(6)]
    assert found.info.status == "done"


@pytest.mark.parametrize(
    "damage", ["not json", '[2, 0.0, {"x": "high"}]', "[]", '[0, 0.0, {"x": 1}]', '[9, 1e999, {"x": 1}]']
)
def test_numbers_kept_are_read_up_to_the_first_damaged_line(damage: str, run: Run, tmp_path: Path) -> None:
    store = tmp_path / "checkpoints"
    run(GOES_ON, checkpoints=store)
    (kept,) = store.glob("task-*/yielded.jsonl")
    lines = kept.read_text().splitlines()
    assert [json.loads(line)[0] for line in lines] == [0, 1, 2, 3]
    kept.write_text("\n".join([*lines[:1], damage, *lines[2:]]))
    assert [step for _, step, _, _ in numbers(run(GOES_ON, checkpoints=store))] == [0, 2, 3, 4, 5]


def test_without_a_folder_it_keeps_what_it_likes_and_nothing_stays(run: Run, tmp_path: Path) -> None:
    found = run(f"""
        def train(run):
            (run.checkpoint / "state").write_text("1")
            import pathlib

            pathlib.Path({str(tmp_path / "where")!r}).write_text(str(run.checkpoint))
            yield {{"step": 0, "x": 1}}
    """)
    assert found.info.status == "done"
    assert not Path((tmp_path / "where").read_text()).exists()
