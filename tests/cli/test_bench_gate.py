"""The gate as a user types it, and its exit codes; what is measured is made up."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.timing.made_worker import MadeWorker, measures

KERNEL = ("bench", "tiny.yaml", "--warm", "--kernel", "slow_norms:Slow", "--only", "Slow")

pytestmark = pytest.mark.usefixtures("made")


@pytest.fixture
def saved(bncli: Command) -> Command:
    """A baseline called `main` of the kernel as it is."""
    code, _, said = bncli(*KERNEL, "--save-baseline", "main")
    assert code == 0
    assert said.endswith("baseline saved in .bncli/baselines/main.json\n")
    return bncli


def test_the_same_code_holds_and_a_slower_kernel_does_not(saved: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text, _ = saved(*KERNEL, "--baseline", "main")
    assert code == 0
    assert "\ngate: holds: of 1 cases 1 within limits; noise floor " in text
    monkeypatch.setenv("TIMES", "1.1")
    code, text, said = saved(*KERNEL, "--baseline", "main", "--export", "md:gate.md", "--export", "junit:gate.xml")
    assert code == 3
    assert "\ngate: regression: of 1 cases 1 beyond the limit; noise floor " in text
    assert "measuring again: slow_norms:Slow/train-forward/N8C16/f32/nc/cpu\n" in said
    assert "**gate: regression: " in Path("gate.md").read_text()
    assert '<testsuite name="tiny" tests="1" failures="1" errors="0" skipped="0">' in Path("gate.xml").read_text()


def test_on_github_the_change_is_annotated(saved: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMES", "1.1")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    code, text, _ = saved(*KERNEL, "--baseline", "main", "--github")
    assert code == 3
    assert "\n::error::slow_norms:Slow/train-forward/N8C16/f32/nc/cpu: ratio, limit +5 %25 (measured 1.1" in text
    assert "**gate: regression: " in (tmp_path / "summary.md").read_text()
    code, text, _ = saved(*KERNEL, "--baseline", "main", "--github", "--json", "-")
    assert (code, json.loads(text)["gate"]["verdict"]) == (3, "regression")


def test_whether_a_baseline_can_be_written_is_asked_before_anything_is_measured(bncli: Command) -> None:
    Path("place").write_text("no folder")
    code, text, said = bncli("bench", "tiny.yaml", "--save-baseline", "place/main.json")
    assert (code, text) == (2, "")
    assert said == "--save-baseline place/main.json: place/main.json cannot be written; choose another place\n"


def test_a_slower_kernel_is_no_new_baseline(saved: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(".bncli/baselines/main.json")
    before = place.read_text()
    monkeypatch.setenv("TIMES", "1.1")
    code, _, said = saved(*KERNEL, "--baseline", "main", "--save-baseline", "main")
    assert (code, place.read_text()) == (3, before)
    assert said.endswith("no baseline is saved: the gate found a regression; to accept it, save without a gate\n")
    assert saved(*KERNEL, "--save-baseline", "main")[0] == 0
    assert place.read_text() != before


def test_a_further_look_is_kept_with_its_samples(saved: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMES", "1.1")
    _, text, _ = saved(*KERNEL, "--baseline", "main", "--json", "-")
    found = json.loads(text)
    assert (len(found["rows"][0]["processes"]), len(found["remeasurements"])) == (5, 10)
    assert len(found["remeasurements"][0]["samples"]["case"]) == 8


def test_what_noise_hides_is_undecided(saved: Command) -> None:
    code, text, _ = saved(*KERNEL, "--baseline", "main", "--fail-if", "ratio:+0.5%", "--json", "-")
    assert code == 4
    gate = json.loads(text)["gate"]
    assert gate["verdict"] == "undecided"
    assert 0.005 < gate["noise_floor"] < 0.02


def test_an_interruption_of_the_second_look_judges_nothing(saved: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeWorker, "measure", measures(5, then=KeyboardInterrupt()))
    monkeypatch.setenv("TIMES", "1.1")
    code, text, said = saved(*KERNEL, "--baseline", "main", "--json", "-", "--export", "junit:gate.xml")
    assert code == 130
    assert json.loads(text)["gate"] is None
    assert not Path("gate.xml").exists()
    assert said.endswith(
        "measuring again: slow_norms:Slow/train-forward/N8C16/f32/nc/cpu\ninterrupted after 5 measurements\n"
    )


def edit(baseline: Path, old: str, new: str) -> None:
    """Replace text in a baseline, which then has no digest, as one of an older bncli."""
    document = json.loads(baseline.read_text().replace(old, new))
    del document["digest"]
    baseline.write_text(json.dumps(document))


def test_another_machine_is_not_comparable_unless_allowed(saved: Command) -> None:
    place = Path(".bncli/baselines/main.json")
    edit(place, '"processor": "', '"processor": "another ')
    code, out, said = saved(*KERNEL, "--baseline", "main")
    assert (code, out) == (4, "")
    assert said.startswith("not comparable: the baseline was made on another kind of machine (processor 'another ")
    assert said.endswith("or pass --allow-other-machine\n")
    assert saved(*KERNEL, "--baseline", "main", "--allow-other-machine")[0] == 0


def test_a_baseline_that_is_missing_or_lacks_a_case_is_undecided_at_once(saved: Command) -> None:
    code, out, said = saved("bench", "tiny.yaml", "--warm", "--baseline", "mian")
    assert (code, out) == (4, "")
    assert said == ".bncli/baselines/mian.json: there is no such baseline; make one with --save-baseline mian\n"
    code, out, said = saved("bench", "tiny.yaml", "--warm", "--baseline", "main")
    assert (code, out) == (4, "")
    assert said == (
        ".bncli/baselines/main.json: has none of these 2 cases, such as batch/train-forward/N8C16/f32/nc/cpu;"
        " make it anew with --save-baseline main\n"
    )


NEW, OLD = ("layer/train-forward/N8C16/f32/nc/cpu", "slow_norms:Slow/train-forward/N8C16/f32/nc/cpu")
BOTH = ("bench", "tiny.yaml", "--warm", "--kernel", "slow_norms:Slow", "--skip", "batch/")


def test_a_new_case_hides_no_regression_and_is_undecided_itself(
    saved: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text, _ = saved(*BOTH, "--baseline", "main", "--export", "junit:gate.xml")
    assert code == 4
    assert "\ngate: undecided: of 1 cases 1 within limits; noise floor " in text
    assert f"\nnew: the baseline has no measurements of {NEW}; save one anew with --save-baseline\n" in text
    assert f'name="{NEW}: is compared with the baseline"' in Path("gate.xml").read_text()
    monkeypatch.setenv("TIMES", "3.3")
    code, text, _ = saved(*BOTH, "--baseline", "main", "--json", "-")
    gate = json.loads(text)["gate"]
    assert (code, gate["verdict"], gate["new"]) == (3, "regression", [NEW])


def test_a_case_that_is_no_longer_measured_is_named(bncli: Command) -> None:
    assert bncli(*BOTH, "--save-baseline", "both")[0] == 0
    code, text, _ = bncli(*KERNEL, "--baseline", "both")  # left out on purpose
    assert code == 0
    assert "; 1 left out, not compared\n" in text
    assert f"\nin the baseline, and left out by --only or --skip: {NEW}\n" in text
    code, text, _ = bncli("bench", "tiny.yaml", "--warm", "--baseline", "both", "--skip", "batch/")
    assert code == 4
    assert f"\nno longer measured, though in the baseline: {OLD}; put it back into the preset, leave it out" in text


def test_a_wrong_kernel_passes_no_gate_and_is_no_baseline(saved: Command) -> None:
    Path("wrong_norms.py").write_text(
        "from torch import nn\n\nclass Slow(nn.BatchNorm1d):\n    def forward(self, x):\n"
        "        return 1.5 * super().forward(x) + 0.3\n"
    )
    wrong = [each.replace("slow_norms", "wrong_norms.py") for each in KERNEL]
    code, text, said = saved(*wrong, "--save-baseline", "wrong", "--export", "md:wrong.md")
    assert code == 3
    assert "wrong      results of wrong_norms.py:Slow/train-forward/N8C16/f32/nc/cpu\n" in text
    assert "its output differs from batch in float64 by " in Path("wrong.md").read_text()
    assert said.endswith("is wrong or failed; mend it, or leave it out by --skip\n")
    assert not Path(".bncli/baselines/wrong.json").exists()
    baseline = Path(".bncli/baselines/main.json")
    edit(baseline, "slow_norms:", "wrong_norms.py:")
    code, text, _ = saved(*wrong, "--baseline", "main", "--export", "junit:gate.xml")
    assert code == 3
    assert "\ngate: holds: of 1 cases 1 within limits; noise floor " in text
    assert 'tests="2" failures="1"' in Path("gate.xml").read_text()


def test_the_gate_against_itself_says_its_noise(bncli: Command) -> None:
    code, text, _ = bncli("bench", "tiny.yaml", "--warm", "--aa")
    assert code == 0
    assert "\ngate: holds: of 2 cases 2 within limits; noise floor " in text


def test_another_environment_is_measured_in_turns_and_its_speed_found(
    bncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is slow here and fast there; `tests/timing/test_worker.py` has two real ones."""
    monkeypatch.setenv("TIMES", "1.1")
    code, text, _ = bncli(*KERNEL, "--against", "env TIMES=1 python", "--json", "-")
    assert code == 3
    found = json.loads(text)
    assert found["gate"]["judgements"][0]["change"]["value"] == pytest.approx(1.1, rel=0.02)
    assert list(found["rows"][0]["ratios"]) == ["against"]


def test_what_runs_in_another_environment_is_named_by_it(bncli: Command) -> None:
    code, text, _ = bncli(*KERNEL, "--against", "env TIMES=1 python", "--profile", "--json", "-")
    assert code == 0
    profiles = json.loads(text)["rows"][0]["profiles"]
    assert list(profiles) == ["case", "against"]
    assert "aten::native_batch_norm" in {kernel["name"] for kernel in profiles["case"]}
    assert profiles["against"] == [{"name": "kernel of env TIMES=1 python", "count": 1.0, "share": 1.0}]


def test_claims_are_judged_and_give_the_exit_code(bncli: Command) -> None:
    preset = Path("tiny.yaml").read_text()
    outcomes = {"below: 1.1": (0, "confirmed"), "above: 1.1": (3, "refuted"), "below: 1": (4, "undecided")}
    for band, (expected, word) in outcomes.items():
        claims = f"claims: [{{of: batch, versus: layer, ratio: {{{band}}}, source: somebody}}]\n"
        Path("claims.yaml").write_text(preset + claims)
        code, text, _ = bncli(
            "bench", "claims.yaml", "--warm", "--check", "--export", "md:claims.md", "--json", "claims.json"
        )
        assert code == expected
        name = f"time, batch / layer at train-forward/N8C16/f32/nc/cpu: {band.replace(': ', ' ')}x"
        assert f"\n{word:<10} {name}\n" in text
        assert f"| {word} | {name} | measured " in Path("claims.md").read_text()
        (claim,) = json.loads(Path("claims.json").read_text())["claims"]
        assert (claim["outcome"], claim["source"]) == (word, "somebody")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--baseline", "a", "--aa"], "--baseline and --aa: give one of them; each says what is compared with what"),
        (
            ["--fail-if", "ratio:+5%"],
            "--fail-if ratio:+5%: compared with what? Add --baseline NAME, --against PYTHON, --vs KERNEL or --aa",
        ),
        (["--allow-other-machine"], "--allow-other-machine: is about --baseline, which is not given"),
        (
            ["--save-baseline", "a", "--against", "b"],
            "--save-baseline: holds ratios to torch's batch norm, which --aga",
        ),
        (
            ["--aa", "--fail-if", "bacth/*=ratio:+5%"],
            "--fail-if bacth/*=ratio:+5%: nothing here matches bacth/* (known: batch/train",
        ),
        (["--against", "python '"], "--against python ': no closing quotation"),
        (["--aa", "--fail-if", "time:+5%"], "--fail-if time:+5%: --aa compares ratio or copy"),
        (["--check"], "--check: nothing is claimed about these cases; write it under `claims:` (docs/bench.md)"),
        (["--check", "--against", "b"], "--check: claims are about ratios to torch's batch norm, which --against does"),
        (["--baseline", ""], "--baseline"),
        (["--save-baseline", ""], "--save-baseline"),
        (["--against", ""], "--against"),
        (["--truth", ""], "--truth"),
        (["--graph", "--device", "cpu"], "--graph: replays CUDA graphs, and this measures on the cpu"),
        (["--aa", "--fail-if", "ratio"], "--fail-if ratio: expected [PATTERN=]MEASURE:+5%"),
    ],
)
def test_flags_that_make_no_sense_are_one_line_and_exit_2(bncli: Command, arguments: list[str], line: str) -> None:
    code, out, said = bncli("bench", "tiny.yaml", "--warm", *arguments)
    assert (code, out) == (2, "")
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_a_kernel_of_which_nobody_says_what_is_right_passes_no_gate(bncli: Command) -> None:
    Path("odd_norms.py").write_text("from torch import nn\n\ndef odd(channels): return nn.LayerNorm(channels)\n")
    odd = ("bench", "tiny.yaml", "--warm", "--kernel", "odd_norms.py:odd", "--only", "odd")
    assert bncli(*odd, "--save-baseline", "odd")[0] == 0
    code, text, _ = bncli(*odd, "--baseline", "odd", "--export", "junit:gate.xml")
    assert code == 4
    said = (
        "\nunchecked, and so not passed: odd_norms.py:odd/train-forward/N8C16/f32/nc/cpu; --truth says what is right\n"
    )
    assert said in text
    assert "cpu: is known to be right" in Path("gate.xml").read_text()
    assert bncli(*odd, "--baseline", "odd", "--truth", "layer")[0] == 0
