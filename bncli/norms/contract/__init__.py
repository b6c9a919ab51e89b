"""The contract of our norms as functions, which anybody's norm can be held against: what is checked, and what was seen.

A promise is what comparisons rest on: a norm that breaks one is wrong. The others are facts worth knowing, such as that
a norm does not run in lanes. Each check runs in a process of its own, so that a norm may raise, print, hang or end its
process, and the others go on.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any, Literal

import torch

from bncli.errors import ConfigError
from bncli.norms.contract import conduct, neighbours, numbers, processes
from bncli.norms.contract.candidates import Candidate, find_locations, first_line
from bncli.norms.contract.processes import Ended, run_apart

ContractStatus = Literal["holds", "does not hold", "not applicable", "not tried"]
RAISES = "it raises "
HANGS = 3  # after so many checks that were not done in time the others are not tried


@dataclass(frozen=True)
class ContractRow:
    """One check: what is to hold, whether it does, and what was seen if it does not."""

    check: str
    status: ContractStatus
    promise: bool  # what is wrong where it does not hold; else a fact worth knowing
    seen: str = ""


@dataclass(frozen=True)
class ContractReport:
    """What of the contract a norm keeps."""

    norm: str
    channels: int  # that it was tried with
    rows: tuple[ContractRow, ...]

    @property
    def broken(self) -> tuple[ContractRow, ...]:
        """The promises that do not hold."""
        return tuple(row for row in self.rows if row.promise and row.status == "does not hold")

    @property
    def facts(self) -> tuple[ContractRow, ...]:
        """What does not hold and is no promise."""
        return tuple(row for row in self.rows if not row.promise and row.status == "does not hold")

    def document(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {"schema": "bncli/contract/1", **asdict(self), "keeps_its_promises": not self.broken}

    @property
    def headline(self) -> str:
        """One sentence."""
        promises = sum(row.promise and row.status in ("holds", "does not hold") for row in self.rows)
        kept = f"breaks {len(self.broken)} of {promises} promises" if self.broken else f"keeps all {promises} promises"
        rest = f"{len(self.facts)} {'does' if len(self.facts) == 1 else 'do'} not hold"
        return f"{self.norm} of {self.channels} channels {kept}; of the facts worth knowing {rest}"

    def __str__(self) -> str:
        """The headline, and a line for each check that does not hold."""
        return "\n".join([self.headline, *(f"  {row.check}: {row.seen}" for row in (*self.broken, *self.facts))])


@dataclass(frozen=True)
class ContractCheck:
    """A row of the contract."""

    check: str  # what is to hold, in words
    run: Callable[[Candidate], str | None]
    otherwise: str  # what it means for whoever uses the norm, if it does not hold
    promise: bool = True
    images: bool = False  # tried on (N, C, H, W) alone
    slow: bool = False  # a compiler's: may take this many times as long as others

    def judge(self, candidate: Candidate, seconds: float) -> tuple[ContractRow, Ended | None]:
        """Run it in a process of its own."""
        blank = ContractRow(self.check, "not applicable", self.promise)
        if self.images and not any(len(each) == 2 for each in candidate.locations):
            return replace(blank, seen="it takes no images (N, C, H, W)"), None
        ended = run_apart(partial(_try, self.run, candidate), seconds * (4 if self.slow else 1))
        if ended.how == "late":
            seen = f"not done within {seconds * (4 if self.slow else 1):g} s"
            return replace(blank, status="does not hold" if self.promise else "not tried", seen=seen), ended
        if ended.how == "gone":
            return replace(blank, status="does not hold", seen=str(ended.value)), ended
        status, seen = ended.value
        if status == "does not hold" and not (self.promise and seen.startswith(RAISES)):  # what it raises says it all
            seen = f"{self.otherwise}{f' ({seen})' if seen else ''}"
        return replace(blank, status=status, seen=seen), ended


def _try(run: Callable[[Candidate], str | None], candidate: Candidate) -> tuple[ContractStatus, str]:
    """A check's status, and what was seen."""
    torch.manual_seed(0)
    try:
        reason = run(candidate)
    except AssertionError as error:
        return "does not hold", condense(str(error))
    except Exception as error:  # anybody's code
        return "does not hold", RAISES + first_line(error)
    return ("not applicable", reason) if reason else ("holds", "")


def condense(said: str) -> str:
    """One line of what an assertion says; of `assert_close` the place and how far off."""
    place = said.partition("Tensor-likes")[0].strip() if "Tensor-likes" in said else ""
    for line in said.splitlines():
        if line.startswith("Greatest absolute difference: "):
            off = line.removeprefix("Greatest absolute difference: ").partition(" at ")[0]
            return f"{place} off by {float(off):.2g}".strip()
    return said.strip().partition("\n")[0][:200]


def _run_as_lanes(candidate: Candidate) -> None:
    for training in conduct.BOTH:
        conduct.equals_runs_one_at_a_time_in_lanes(candidate, training=training)
        conduct.keeps_what_is_not_finite_in_its_lane(candidate, training=training)
    conduct.is_differentiated_from_outside_the_lanes(candidate)


def _train_in_two_processes(candidate: Candidate) -> None:
    for seen in processes.train_in_two_processes({"": candidate}).values():
        raise AssertionError(seen)


def _keep_number_format(candidate: Candidate) -> None:
    for dtype in (torch.float64, torch.float32):
        numbers.keeps_its_own_type(candidate, dtype)


def _take_halves(candidate: Candidate) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        numbers.keeps_its_own_type(candidate, dtype)
        numbers.is_single_inside(candidate, dtype)


def _stay_the_same_within_autocast(candidate: Candidate) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        numbers.is_the_same_within_autocast(candidate, dtype)


_NEIGHBOURS: tuple[tuple[neighbours.Habit, str, str, bool], ...] = (
    (neighbours.takes_inputs_of_any_layout, "inputs of any memory layout give the same numbers",
     "numbers depend on how the input lies in memory", True),
    (neighbours.takes_gradients_of_any_layout, "gradients of any memory layout give the same numbers",
     "numbers depend on how the output's gradient lies in memory", True),
    (neighbours.stands_between_convolutions, "stands between channels_last convolutions",
     "gradients depend on the memory layout of the layers around it", True),
    (neighbours.keeps_one_layout_in_training_and_evaluation, "keeps the memory layout of its input",
     "the next layer may have to copy", False),
    (neighbours.may_be_overwritten, "an in-place activation may follow", "use activations that do not work in place",
     False),
    (neighbours.works_within_autocast, "trains within autocast", "do not train it in mixed precision", False),
    (neighbours.works_in_inference_mode, "works in torch.inference_mode", "evaluate with torch.no_grad instead", False),
    (neighbours.follows_writes_to_data, "follows buffers that are written through .data",
     "it remembers something beside its buffers", False),
    (neighbours.runs_on_meta, "is made and run on the meta device", "a model with it cannot be laid out without memory",
     False),
    (neighbours.is_loaded_after_to_empty, "is loaded after to_empty", "its state is not all that it holds", False),
    (neighbours.is_checkpointed, "gradient checkpointing changes nothing",
     "the second forward pass moves its running statistics again, as torch's own norms do", False),
    (neighbours.is_found_by_update_bn, "update_bn gives it the statistics of the averaged weights",
     "after averaging weights its running statistics are the old ones", False),
    (neighbours.loads_states_without_a_count, "loads states without num_batches_tracked", "old states do not load",
     False),
)  # fmt: skip
CHECKS: tuple[ContractCheck, ...] = (
    ContractCheck("gives the shape, type and device of its input", conduct.keeps_shape_and_type,
                  "the next layer gets something else"),
    ContractCheck("leaves its input and its output's gradient as they were", conduct.leaves_its_input_alone,
                  "other layers see changed numbers"),
    ContractCheck("channels are normalised alone or in whole groups, the same in every example",
                  conduct.keeps_channels_in_groups, "it mixes channels"),
    ContractCheck("every parameter changes the output", conduct.uses_every_parameter, "a parameter is never used"),
    ContractCheck("the gradient is that of finite differences", conduct.has_the_gradient_of_finite_differences,
                  "the gradient is wrong"),
    ContractCheck("constant channels give finite outputs and gradients", numbers.is_finite_on_constants,
                  "a constant channel ends the training"),
    ContractCheck("NaN in the input is NaN in the output", partial(numbers.passes_on, bad=torch.nan),
                  "a diverged run would not be seen"),
    ContractCheck("float32 stays float32, and float64 stays float64", _keep_number_format,
                  "it changes the number format"),
    ContractCheck("evaluation gives the same twice and changes nothing", conduct.evaluates_without_a_trace,
                  "evaluating changes a run"),
    ContractCheck("a forward pass in training changes buffers alone", conduct.trains_its_buffers_alone,
                  "it changes what the optimiser learns, or its own state's form"),
    ContractCheck("state_dict has all that evaluation needs", conduct.saves_all_that_evaluation_needs,
                  "a saved network would not evaluate as it did"),
    ContractCheck("a copy is whole and by itself", conduct.is_copied_whole, "copies share or lose something"),
    ContractCheck("uses the parameters that functional_call gives it", conduct.uses_the_parameters_it_is_given,
                  "it keeps parameters of its own"),
    *(ContractCheck(check, habit, otherwise, promise, images=True) for habit, check, otherwise, promise in _NEIGHBOURS),
    ContractCheck("runs as lanes", _run_as_lanes, "runs train one at a time", promise=False),
    ContractCheck("can be differentiated twice", conduct.has_the_second_gradient_of_finite_differences,
                  "gradient penalties are out of reach", promise=False),
    ContractCheck("evaluates each example by itself", conduct.evaluates_each_example_by_itself,
                  "evaluation depends on the batch", promise=False),
    ContractCheck("the order of the examples does not matter", conduct.permutes_with_its_examples,
                  "shuffling a batch changes its outputs", promise=False),
    ContractCheck("training gives the same twice", conduct.repeats_itself_in_training,
                  "its training output is random", promise=False),
    ContractCheck("NaN stays in its channel or example", numbers.keeps_nan_in_its_channel_or_example,
                  "one NaN spreads", promise=False),
    ContractCheck("is exact at a mean of 10,000", numbers.is_exact_far_from_zero,
                  "float32 is not enough for how it computes", promise=False),
    ContractCheck("a batch of one is normalised or refused", numbers.takes_a_single_example,
                  "a last batch of one example breaks the training", promise=False),
    ContractCheck("an empty batch is evaluated or refused", numbers.takes_an_empty_batch,
                  "an empty batch is an error", promise=False),
    ContractCheck("half precision goes in and comes out, float32 inside", _take_halves,
                  "mixed precision costs accuracy or fails", promise=False),
    ContractCheck("autocast changes nothing", _stay_the_same_within_autocast, "its numbers are other ones there",
                  promise=False),
    ContractCheck("is saved and loaded as a module", conduct.is_pickled_whole,
                  "save its state_dict instead", promise=False),
    ContractCheck("torch.compile gives the same (backend aot_eager)", partial(conduct.compiles, backend="aot_eager"),
                  "leave it out of what is compiled", promise=False, slow=True),
    ContractCheck("torch.export gives the same", neighbours.is_exported, "it cannot be exported", promise=False,
                  images=True, slow=True),
    ContractCheck("trains in two processes (DistributedDataParallel)", _train_in_two_processes,
                  "gradients or buffers differ there", promise=False, images=True, slow=True),
)  # fmt: skip


def check_candidate(candidate: Candidate, seconds: float) -> Iterator[ContractRow]:
    """Hold a norm against every check, one after the other; which shapes it takes is found out here.

    Args:
        candidate: its `locations` do not matter.
        seconds: that a check may take; a compiler's, four times as many.

    Raises:
        ConfigError: where this process cannot fork any more.
    """
    _require_forks(seconds)
    ended = run_apart(partial(_find, candidate), seconds)
    late = f"not done within {seconds:g} s"
    wrong = "" if ended.how == "done" else str(ended.value or late)
    taken, channels_last, others = ([], False, {}) if wrong else ended.value
    shown = "; ".join(f"{shape} {what}" for shape, what in others.items())
    fits = bool(taken) and not any(what.startswith("gives") for what in others.values())
    yield ContractRow(
        "takes batches and gives their shape",
        "holds" if fits else "does not hold",
        True,
        "" if fits else wrong or shown,
    )
    if not taken:
        yield from (ContractRow(each.check, "not tried", each.promise, "it takes no batch") for each in CHECKS)
        return
    candidate = replace(candidate, locations=tuple(map(tuple, taken)), channels_last=channels_last)
    hung, printed = 0, [ended.printed]
    for check in CHECKS:
        if hung == HANGS:
            yield ContractRow(
                check.check, "not tried", check.promise, f"{HANGS} checks before it were not done in time"
            )
            continue
        declared = check.run is _run_as_lanes and candidate.lanes
        row, how = replace(check, promise=check.promise or declared).judge(candidate, seconds)
        if how:
            hung += how.how == "late" and not check.slow
            printed.append(how.printed)
        yield row
    every = {0: "(N, C)", 1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}
    missing = (
        "its channels are last" if channels_last else " or ".join(every[n] for n in every if n not in map(len, taken))
    )
    yield ContractRow(
        "takes (N, C) and one to three axes of locations",
        "does not hold" if missing else "holds",
        False,
        missing if channels_last or not missing else f"it does not take {missing}",
    )
    told = "".join(printed).strip()
    yield ContractRow(
        "prints nothing",
        "does not hold" if told else "holds",
        False,
        f"it prints {told.splitlines()[0][:80]!r}" if told else "",
    )


def _find(candidate: Candidate) -> tuple[list[tuple[int, ...]], bool, dict[str, str]]:
    """The locations that a norm takes, whether its channels are last, and what it does with other shapes."""
    torch.manual_seed(0)
    taken, others = find_locations(candidate)
    if not any(taken):  # (N, C) says nothing of the axis
        turned, left = find_locations(replace(candidate, channels_last=True))
        if any(turned):
            return turned, True, left
    return taken, False, others


def _require_forks(seconds: float) -> None:
    """Have everything imported that forks need, and try whether gradients can be taken in one."""
    if not torch.accelerator.is_available():  # or else the pass starts a thread for each GPU, and forks may make none
        _differentiate()  # torch's first backward pass imports 500 modules
    with warnings.catch_warnings(), suppress(Exception):  # the check of the compiler will say it
        warnings.simplefilter("ignore")
        import_module("torch._dynamo")  # which checkpointing, "meta" and lanes import too: 2 s each
    if run_apart(_differentiate, seconds).how != "done":
        raise ConfigError(
            "this process has taken gradients on a machine with an accelerator, and no process of its own can do so any"
            " more; use `bncli check-norm`, or check_norm in a new process"
        )


def _differentiate() -> None:
    x = torch.ones(1, requires_grad=True)
    torch.autograd.grad(x * 1.0, x, torch.ones(1))
