"""Where another path is taken than was asked for, it is said once, with the reason, and stored with the run."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import bncli
from bncli.config import Study
from bncli.engine import trace as recorder
from bncli.engine.train import Sign, train
from bncli.kernels import fallbacks_noted
from bncli.kernels.whitening import is_possible, why_impossible
from bncli.norms import norm
from bncli.plan import Job, jobs_of, runs_of

Tiny = Callable[..., Study]


def jobs(tiny: Tiny, part: Any, engine: Any = "auto", **changes: Any) -> list[Job]:
    study = tiny(variants={"it": {"norm": part}}, reference="it", **changes)
    return jobs_of(runs_of(study, "cpu", engine))


def trained(job: Job) -> tuple[tuple[str, ...], list[Sign]]:
    """What the record says of fallbacks, and the signs of life."""
    signs: list[Sign] = []
    (fallbacks,) = {result.info.fallbacks for result in train(job, signs.append)}
    return fallbacks, signs


@pytest.fixture
def trace_short_runs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncli.plan.TRACED_STEPS", 1)


@pytest.mark.usefixtures("trace_short_runs_too")
@pytest.mark.parametrize("engine", ["auto", "untraced", "plain"])
def test_a_run_that_goes_as_asked_has_none(tiny: Tiny, engine: Any) -> None:
    for job in jobs(tiny, "batch", engine):
        fallbacks, signs = trained(job)
        assert fallbacks == ()
        assert {sign.notes for sign in signs} == {()}


@pytest.mark.usefixtures("trace_short_runs_too")
def test_a_step_that_cannot_be_traced_says_so_with_the_reason(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def looks_at_values(self: Any, x: Tensor) -> Tensor:
        return x if bool(x.detach().sum() > 0) else x + 0

    monkeypatch.setattr("bncli.norms.batch.NoNorm.forward", looks_at_values)
    fallbacks, signs = trained(jobs(tiny, "none", seeds=1)[0])
    (text,) = fallbacks
    assert text.startswith("training is slower: its step could not be traced (RuntimeError: aten._local_scalar_dense")
    assert {sign.notes for sign in signs} == {(f"it: {text}",)}


@pytest.mark.usefixtures("trace_short_runs_too")
def test_on_a_torch_that_would_load_its_compiler_steps_are_not_traced_and_it_is_said(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch wraps the method of a mode that it may not ask `_should_skip_dynamo`."""
    raw = recorder._Recorder.__torch_dispatch__

    @functools.wraps(raw)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        return raw(*arguments, **named)

    (job,) = jobs(tiny, "batch", seeds=1)
    (expected,) = train(jobs(tiny, "batch", "plain", seeds=1)[0])
    monkeypatch.setattr(recorder._Recorder, "__torch_dispatch__", wrapped)
    (result,) = train(job)
    assert result.records == expected.records
    assert result.info.fallbacks == (
        "training is slower: its step could not be traced (RuntimeError: torch"
        f" {torch.__version__} cannot record operations without loading its compiler)",
    )


def test_torch_still_asks_a_mode_whether_to_wrap_it_in_its_compiler() -> None:
    """The recorder overrides a private method of torch's; steps are untraced on a torch that asks for another."""

    class Ordinary(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    wraps = hasattr(Ordinary.__torch_dispatch__, "__wrapped__")  # since torch 2.11
    said = f"torch {torch.__version__} wraps every TorchDispatchMode in its compiler"
    assert not wraps or hasattr(TorchDispatchMode, "_should_skip_dynamo"), f"{said} and has no _should_skip_dynamo"
    assert not hasattr(recorder._Recorder.__torch_dispatch__, "__wrapped__"), f"{said}, whatever the mode answers"


@pytest.mark.parametrize(("seeds", "engine", "said"), [(3, "auto", True), (2, "auto", False), (3, "plain", False)])
def test_runs_that_would_train_together_but_cannot_say_so(tiny: Tiny, seeds: int, engine: Any, said: bool) -> None:
    text = "runs train one at a time: norm 'noisy-batch' does not train several at once (lanes)"
    found = jobs(tiny, "noisy-batch", engine, seeds=seeds)
    assert [job.fallback for job in found] == [text if said else ""] * seeds
    assert trained(found[0])[0] == ((text,) if said else ())


def test_a_fallback_changes_no_id(tiny: Tiny) -> None:
    (job, *_) = jobs(tiny, "noisy-batch", seeds=3)
    assert job.id == Job(job.runs).id


NOT_IN_THESE_LANES = "in lanes it is for inputs (N, C) of zca, cholesky, iternorm and deconv, in traced training"


@pytest.mark.usefixtures("trace_short_runs_too")
@pytest.mark.parametrize(
    ("part", "engine", "seeds", "reason"),
    [
        ("batch", "auto", 1, "it looks at values, which a traced step cannot"),
        ("batch", "plain", 1, "it takes rows of locations, and (N, C) has none"),
        ("zca", "auto", 3, ""),
        ("zca", "untraced", 3, NOT_IN_THESE_LANES),
        ("pca", "auto", 3, NOT_IN_THESE_LANES),
        ("zca", "auto", 1, ""),
        ("batch", "auto", 3, ""),
    ],
)
def test_a_kernel_that_was_asked_for_and_not_used_is_said_once(
    tiny: Tiny, part: str, engine: Any, seeds: int, reason: str
) -> None:
    fallbacks, signs = trained(jobs(tiny, {"name": part, "impl": "fast"}, engine, seeds=seeds)[0])
    kernel = {"batch": "batch normalisation"}.get(part, "whitening")
    text = f"{kernel} takes its plain version, not the fast one that impl: fast asks for: {reason}"
    assert fallbacks == ((text,) if reason else ())
    assert signs[-1].notes == tuple(f"it: {each}" for each in fallbacks)


@pytest.mark.parametrize("name", ["batch", "zca"])
def test_a_kernel_that_was_left_to_choose_says_nothing(tiny: Tiny, name: str) -> None:
    for impl in ("auto", "plain"):
        assert trained(jobs(tiny, {"name": name, "impl": impl})[0])[0] == ()


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.randn(8, 4), "it takes rows of locations, and (N, C) has none"),
        (torch.randn(8, 4, 8, 8).double(), "it takes float32, not float64"),
        (torch.randn(8, 4, 8, 8), "an input (8, 4, 8, 8) is too small for it"),
        (torch.randn(64, 8, 32, 32).to(memory_format=torch.channels_last), "it takes contiguous inputs"),
        (torch.randn(64, 8, 32, 32), ""),
    ],
)
def test_why_batch_norm_takes_torchs_kernel(x: Tensor, reason: str) -> None:
    found: list[str] = []
    layer = norm("batch", x.shape[1], impl="fast").to(x.dtype)
    with fallbacks_noted(found):
        layer(x)
        layer(x)
    layer(x)  # nobody listens
    assert [text.rpartition(": ")[2] for text in found] == ([reason] if reason else [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_whitening_names_a_reason_where_it_is_impossible_and_only_there(dtype: torch.dtype) -> None:
    x = torch.ones(4, 3, dtype=dtype)
    assert is_possible(x) is not bool(why_impossible(x))
    assert torch.vmap(lambda x: x * bool(why_impossible(x)))(x[None]).bool().all()


PRESET = """
question: what falls back?
data: {name: mnist, binarize: 127}
model: {name: mlp, hidden: [8, 8], init: {normal: 0.1}}
training: {steps: 60, batch_size: 40, lr: 0.5}
evaluation: {every: 20, split: validation}
variants: {noisy: {norm: noisy-batch}, pca: {norm: {name: pca, impl: fast}}}
reference: noisy
measures: [final_loss]
seeds: 3
"""


def test_fallbacks_are_said_once_on_the_terminal_and_kept_in_the_json(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(PRESET)
    known = {**os.environ, "PYTHONPATH": str(Path(bncli.__file__).parents[1]), "COLUMNS": "160"}
    command = [sys.executable, "-m", "bncli", "compare", "study.yaml", "--jobs", "1", "--json", "all.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=known, timeout=200)
    assert done.returncode == 0, done.stderr
    one_by_one = "runs train one at a time: norm 'noisy-batch' does not train several at once (lanes)"
    plain = f"whitening takes its plain version, not the fast one that impl: fast asks for: {NOT_IN_THESE_LANES}"
    for text in (f"noisy: {one_by_one}", f"pca: {plain}"):
        assert done.stderr.splitlines().count(text) == 1
    runs = json.loads((tmp_path / "all.json").read_text())["runs"]
    assert [run["info"]["fallbacks"] for run in runs] == [[one_by_one]] * 3 + [[plain]] * 3
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=known, timeout=200)
    assert again.returncode == 0, again.stderr
    stored = json.loads((tmp_path / "all.json").read_text())["runs"]
    assert [run["info"]["fallbacks"] for run in stored] == [[one_by_one]] * 3 + [[plain]] * 3
