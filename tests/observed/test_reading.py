"""Results of other tools are read as they are written; what is missing is said, what contradicts itself is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bncli.errors import DataError
from bncli.observed import Observed, read_results

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file below one folder, and return the folder."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path / "runs"

    return write


def curves(found: Observed) -> dict[tuple[str, int, str], tuple[tuple[int, ...], tuple[float, ...]]]:
    return {(run.variant, run.seed, metric): curve for run in found.runs for metric, curve in run.curves.items()}


TIDY = """variant,seed,step,accuracy,loss,budget,status
batch,0,100,.8,,200,done
batch,0,0,.1,2.3,200,done
none,0,0,.1,2.4,200,diverged
"""


def test_a_tidy_table_has_one_row_a_run_and_step(write: Write) -> None:
    found = read_results(write("runs.csv", TIDY) / "runs.csv")
    assert curves(found) == {
        ("batch", 0, "accuracy"): ((0, 100), (0.1, 0.8)),
        ("batch", 0, "loss"): ((0,), (2.3,)),
        ("none", 0, "accuracy"): ((0,), (0.1,)),
        ("none", 0, "loss"): ((0,), (2.4,)),
    }
    assert [(run.status, run.budget) for run in found.runs] == [("done", 200), ("diverged", 200)]
    assert (found.notes, found.seeded) == ((), True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("runs.tsv", TIDY.replace(",", "\t")),
        ("runs.csv", "\ufeff" + TIDY.replace(",", ";")),
        ("runs.csv", TIDY + "batch,0,100,.8,,200,done\n"),  # a row that was written twice
        (
            "runs.jsonl",
            '{"variant": "batch", "seed": 0, "step": 100, "accuracy": 0.8, "loss": null, "budget": 200, "status": "done"}\n'
            '{"variant": "batch", "seed": 0, "step": 0, "accuracy": 0.1, "loss": 2.3, "budget": 200, "status": "done"}\n\n'
            '{"variant": "none", "seed": 0, "step": 0, "accuracy": 0.1, "loss": 2.4, "budget": 200, "status": "diverged"}\n',
        ),
    ],
)
def test_other_tables_of_the_same_rows_say_the_same(name: str, text: str, write: Write) -> None:
    same = curves(read_results(write(name, text) / name))
    assert same == curves(read_results(write("tidy.csv", TIDY) / "tidy.csv"))


def test_columns_may_be_called_otherwise(write: Write) -> None:
    text = "trial,norm,epoch,val_acc,note\n3,batch,1,.5,fine\n3,none,1,.4,\n"
    found = read_results(write("t.csv", text) / "t.csv", variant_from="norm", seed_from="trial")
    assert curves(found) == {("batch", 3, "val_acc"): ((1,), (0.5,)), ("none", 3, "val_acc"): ((1,), (0.4,))}


def test_a_chart_of_weights_and_biases_is_read_without_its_bounds(write: Write) -> None:
    header = '"Step","batch-s1 - loss","batch-s1 - loss__MIN","batch-s1 - loss__MAX","none-s1 - loss"\n'
    text = header + '"0","2.0","2.0","2.0","2.5"\n"5","1.0","1.0","1.0",""\n'
    found = read_results(write("wandb_export.csv", text) / "wandb_export.csv", seed_from=r"s(\d+)")
    assert curves(found) == {("batch", 1, "loss"): ((0, 5), (2.0, 1.0)), ("none", 1, "loss"): ((0,), (2.5,))}
    assert found.notes == ("variants are called as the runs are (batch, none); --variant-from says otherwise",)


def test_a_grouped_chart_is_refused(write: Write) -> None:
    text = '"Step","a - loss","a - loss__MIN","a - loss__MAX"\n"0","2.0","1.0","3.0"\n'
    with pytest.raises(DataError, match=r"w\.csv:2: column 'a - loss' is an average over a group of runs"):
        read_results(write("w.csv", text) / "w.csv")


def test_lightnings_folders_are_runs_with_their_hyperparameters(write: Write) -> None:
    for version, (norm, seed) in enumerate([("batch", 0), ("none", 0)]):
        write(f"lightning_logs/version_{version}/metrics.csv", "epoch,step,train_loss,val_acc\n0,9,1.5,\n0,9,,.5\n")
        folder = write(f"lightning_logs/version_{version}/hparams.yaml", f"model:\n  norm: {norm}\nseed: {seed}\n")
    found = read_results(folder, variant_from="model.norm")
    assert curves(found) == {
        ("batch", 0, "train_loss"): ((9,), (1.5,)), ("batch", 0, "val_acc"): ((9,), (0.5,)),
        ("none", 0, "train_loss"): ((9,), (1.5,)), ("none", 0, "val_acc"): ((9,), (0.5,)),
    }  # fmt: skip


def test_a_hugging_face_run_is_its_longest_history(write: Write) -> None:
    short = {"log_history": [{"step": 10, "epoch": 1.0, "loss": 2.0}], "max_steps": 20}
    long = {"log_history": [*short["log_history"], {"step": 20, "epoch": 2.0, "eval_loss": 1.0}], "max_steps": 20}  # type: ignore[misc]
    for seed in (0, 1):
        write(f"batch_seed{seed}/checkpoint-9/trainer_state.json", json.dumps(short))
        folder = write(f"batch_seed{seed}/checkpoint-20/trainer_state.json", json.dumps(long))
    found = read_results(folder, seed_from=r"seed(\d+)", variant_from=r"^(\w+?)_seed")
    assert curves(found) == {
        ("batch", seed, metric): curve
        for seed in (0, 1)
        for metric, curve in {"eval_loss": ((20,), (1.0,)), "loss": ((10,), (2.0,))}.items()
    }
    assert {run.budget for run in found.runs} == {20}


def test_a_folder_of_tables_is_one_run_a_table(write: Write) -> None:
    for seed in (0, 1):
        folder = write(f"batch/seed{seed}.csv", "epoch,loss,val_loss\n0,2,2.1\n1,1,1.1\n")
    found = read_results(folder, seed_from=r"seed(\d+)")
    assert [(run.variant, run.seed) for run in found.runs] == [("batch", 0), ("batch", 1)]


def test_event_files_of_tensorboard_are_runs(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from torch.utils.tensorboard import SummaryWriter

    for norm in ("batch", "none"):
        with SummaryWriter(str(tmp_path / norm / "s0")) as writer:
            for step in range(12_000):  # more than the accumulator keeps unless it is asked for all
                writer.add_scalar("loss", float(step), step)
    found = read_results(tmp_path, seed_from=r"s(\d+)$")
    assert [(run.variant, run.seed, len(run.curves["loss"][0])) for run in found.runs] == [
        ("batch", 0, 12_000), ("none", 0, 12_000),
    ]  # fmt: skip


def test_runs_without_seeds_are_no_pairs(write: Write) -> None:
    found = read_results(write("t.csv", "variant,run,step,loss\na,x,0,1\na,y,0,2\nb,z,0,3\n") / "t.csv")
    assert [(run.variant, run.seed) for run in found.runs] == [("a", 0), ("a", 1), ("b", 0)]
    assert found.notes == ("no seeds are given (column seed, or --seed-from): no two runs are a pair",)
    assert not found.seeded


HEAD = "variant,seed,step,loss\n"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"t\.csv: is empty; expected a first line with columns such as variant,seed,step,accuracy"),
        (HEAD, {}, r"t\.csv: is empty"),
        (HEAD + "a,0,0,1\na,0,0,2\n", {}, r"t\.csv: loss of variant a, seed 0: step 0 has two values, 1 and 2"),
        (HEAD + "a,0,0,1\na,0,1,much\n", {}, r"t\.csv:3: loss: expected a number, got 'much'; leave a cell empty"),
        (HEAD + "a,0,x,1\n", {}, r"t\.csv:2: step: expected a number, got 'x'"),
        (HEAD + "a,0,1.5,1\n", {}, r"t\.csv:2: step: expected a whole number, 0 or more, got '1\.5'"),
        (HEAD + "a,0,,1\n", {}, r"t\.csv:2: its 'step' is empty; every row needs a step"),
        (HEAD + "a,0,0,1,9\n", {}, r"t\.csv:2: has 5 cells under 4 columns"),
        (HEAD + "a,,0,1\n", {}, r"t\.csv:2: its 'seed' is empty; every run needs one"),
        (HEAD + "a,-1,0,1\n", {}, r"t\.csv:2: a seed must be a whole number, 0 or more, got '-1'"),
        (HEAD + "a,one,0,1\n", {}, r"t\.csv:2: a seed must be a whole number, 0 or more, got 'one'"),
        ("step,loss,loss\n0,1,1\n", {}, r"t\.csv:1: column 'loss' is there twice"),
        ("a,b\n1,2\n", {}, r"t\.csv: has no column of steps \(one of step, _step, .*\); it has a, b"),
        ("variant,step\na,0\n", {}, r"t\.csv: has no column of numbers beside 'step'; it has variant, step"),
        (HEAD.replace("loss", "loss,status") + "a,0,0,1,ok\n", {}, "a status must be done, diverged or failed, got 'ok'"),
        (HEAD.replace("loss", "loss,budget") + "a,0,0,1,9.5\n", {}, "a budget must be a whole number, got"),
        (HEAD + "a,0,0,1\n", {"seed_from": "sed"}, r"--seed-from 'sed': must be a column \(there are: variant, seed\), or"),
        (HEAD + "a,0,0,1\n", {"seed_from": "("}, r"--seed-from '\(': no column is called so, and it is no pattern"),
        (HEAD + "a,0,0,1\n", {"seed_from": r"s(\d)"}, r"--seed-from .* does not match the run 't' \(t\.csv:2\)"),
        ("variant,seed,run,step,loss\na,0,x,0,1\na,0,y,0,1\n", {}, "are both variant 'a', seed 0; keep one of them"),
        ("\x00\xff", {}, r"t\.csv: "),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(text: str, options: dict[str, str], message: str, write: Write) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_results(write("t.csv", text) / "t.csv", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "{\n", r"a\.jsonl:1: is no JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: expected an object, got \[1\]"),
        ("trainer_state.json", "{}", "is no state of a Hugging Face trainer"),
        ("trainer_state.json", '{"log_history": [{"loss": 1}]}', "log_history: 'step'"),
        ("README.md", "hello", "no run lies there: expected events.out.tfevents"),
    ],
)
def test_a_folder_that_holds_no_run_is_one_line(name: str, text: str, message: str, write: Write) -> None:
    with pytest.raises(DataError, match=message):
        read_results(write(name, text))


def test_a_path_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--from .*nothing: there is no such file or folder"):
        read_results(tmp_path / "nothing")
