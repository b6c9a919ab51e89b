"""Presets and options as chance and malice would write them: an error is one line a mistake, and what is valid runs."""

import contextlib
import random
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from bncli.config import Bench, Study, read_preset, read_study
from bncli.config.reading import override
from bncli.config.yaml_tree import parse
from bncli.data import DATASETS, data_part
from bncli.errors import BncliError
from bncli.limits import BENCH_FACTS, BENCH_MEASURES, read_limit
from bncli.measures import MEASURES
from bncli.models import MODELS
from bncli.norms import NORMS
from bncli.plan import Job, seconds_of
from bncli.plan.words import warnings_of
from bncli.presets import preset_names, preset_path
from bncli.session.bench_plan import plan_bench
from bncli.session.study import describe_plan, open_session
from bncli.session.study import read_preset as read_preset_of
from bncli.timing.grids import Axes, choose_grids

CPU_SECONDS = 30.0  # that one mutant may take, read and planned: a study at the limits of docs/studies.md takes as long
MEMORY = 2 << 30  # bytes beyond what the process holds already

SHIPPED = [preset_path(name).read_text() for name in preset_names()]
TREES: list[dict[str, Any]] = [parse(text).data for text in SHIPPED]
KEYS = sorted(
    {key for tree in TREES for key in [*tree, *tree.get("training", ()), *tree.get("probes", ()), "<<", "looks"]}
)
WORDS = [
    *NORMS,
    *MODELS,
    *DATASETS,
    *MEASURES,
    "adam",
    "cosine",
    "light",
    "full",
    "precise",
    "train",
    "N8C4",
    "N3C3H1W1",
]
NUMBERS = [0, -1, 1, 2, 3, 7, 33, 1000, 10**6, 10**9, 10**12, 10**20, 10**400, -(10**9), 0.5, 1e-300, 1e-5, 1e30, 1e300]
TEXTS = [
    "", " ", "\0", "\x1b[31m", "\u202e", "é\u0301", "💥", "\r\n::error::", "a" * 5_000, "1e3", "0..9", "0..999999999",
    "null", "!!python/object:os.system", "../../etc/passwd", "${HOME}", "%s{}", "<script>", "nan", "\ud7ff", "\x85",
]  # fmt: skip
OTHERS = [None, True, False, float("nan"), float("inf"), -float("inf"), [], {}, [[]], {"": ""}, [None], {"name": None}]


DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # quicker, where PyYAML has it


def any_value(chance: random.Random, most: int = 10) -> Any:
    kind = chance.randrange(most)
    if kind < 4:
        return chance.choice(NUMBERS)
    if kind < 6:
        return chance.choice(WORDS)
    if kind < 7:
        return chance.choice(TEXTS)
    if kind < 8:
        return chance.choice(OTHERS)
    if kind < 9:
        return [any_value(chance, most - 1) for _ in range(chance.choice([1, 2, 3, 40]))]
    return {chance.choice([*KEYS, *TEXTS, "name"]): any_value(chance, most - 2) for _ in range(chance.randrange(4))}


def places_of(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, below in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*path, key)
        yield from places_of(below, (*path, key))


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def mutate_tree(tree: dict[str, Any], chance: random.Random) -> None:
    *where, key = chance.choice(list(places_of(tree)) or [("variants",)])
    parent = at(tree, tuple(where))
    match chance.randrange(8):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[chance.choice(KEYS)] = parent.pop(key)
        case 2:
            other = deepcopy(chance.choice(TREES))
            parent[key] = at(other, chance.choice(list(places_of(other))))
        case 3 if isinstance(parent[key], int | float):
            parent[key] = parent[key] * chance.choice([-1, 0, 2, 10, 1000, 10**6])
        case 4 if isinstance(parent, dict):
            parent[chance.choice(KEYS)] = any_value(chance)
        case 5:
            mixed = chance.choice(TREES)
            shared = chance.choice(list(mixed))
            tree[shared] = deepcopy(mixed[shared])
        case _:
            parent[key] = any_value(chance)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def mutate_text(text: str, chance: random.Random) -> bytes:
    lines = text.splitlines(keepends=True) or [""]
    line, place = chance.randrange(len(lines)), chance.randrange(len(text) + 1)
    match chance.randrange(14):
        case 0:
            lines[line] = ""
        case 1:
            lines.insert(line, lines[chance.randrange(len(lines))])
        case 2:
            lines[line] = " " * chance.randrange(6) + lines[line].lstrip()
        case 3:
            return (text[:place] + chance.choice(TEXTS) + text[place:]).encode(errors="surrogatepass")
        case 4:
            return text[:place].encode()
        case 5:
            return text.encode()[:place] + bytes(chance.randrange(256) for _ in range(8)) + text.encode()[place:]
        case 6:
            deep = chance.choice([10, 70, 5_000])
            lines.append(f"deep: {'[' * deep}{']' * chance.choice([deep, 0])}\n")
        case 7:
            lines.append(BOMB)
        case 8:
            lines.append(f"<<: *{chance.choice('ab')}\nx: &a {{seeds: 2}}\ny: {{<<: *a}}\n")
        case 9:
            lines[line] = lines[line].replace(":", ": !!python/object/apply:os.system ", 1)
        case 10:
            return chance.choice(
                [b"", b"\xef\xbb\xbf" + text.encode(), b"\0" * 100, text.encode("utf-16"), b"---\n---\n", b"[]"]
            )
        case 11:
            lines.append("".join(f"k{i}: {chance.choice(NUMBERS)}\n" for i in range(chance.choice([3, 2_000]))))
        case 12:
            lines[line] = (
                lines[line].rstrip("\n")
                + chance.choice([" #", "  ", " |\n", " >-", "\t", " &a", " *a", "}", "]"])
                + "\n"
            )
        case _:
            digits = [i for i, c in enumerate(text) if c.isdigit()]
            place = chance.choice(digits) if digits else 0
            return (text[:place] + str(chance.choice(NUMBERS)) + text[place + 1 :]).encode()
    return "".join(lines).encode(errors="surrogatepass")


def mutant(number: int) -> bytes:
    """Preset `number`: always the same."""
    chance = random.Random(number)
    source = chance.randrange(len(SHIPPED))
    if chance.random() < 0.35:
        return mutate_text(SHIPPED[source], chance)
    tree = deepcopy(TREES[source])
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        with contextlib.suppress(TypeError, IndexError, KeyError):  # an earlier mutation took the place away
            mutate_tree(tree, chance)
    how = {"allow_unicode": True, "sort_keys": False, "default_flow_style": chance.random() < 0.2}
    return bytes(yaml.dump(tree, Dumper=DUMPER, encoding="utf-8", **how))


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """A process that asks for much more than it has gets a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def read_and_plan(path: Path) -> Study | Bench | None:
    """What `validate` and `--dry-run` do; None where it is refused."""
    started = time.process_time()
    try:
        if b"cases" in path.read_bytes():
            preset: Study | Bench = read_preset(path)
        else:
            session = open_session(path, store=path.parent / "store", device="cpu", yes=True)
            describe_plan(session)
            preset = session.study
        if isinstance(preset, Bench):
            plan_bench(preset, "fuzzed", device="cpu", yes=True)
        else:
            warnings_of(preset)
    except BncliError as error:
        check_message(error)
        return None
    finally:
        taken = time.process_time() - started
    assert taken < CPU_SECONDS
    return preset


def check_message(error: BncliError) -> None:
    assert str(error).strip()
    assert "Traceback" not in str(error)
    assert "pydantic" not in str(error)


def train_a_little(path: Path) -> str:
    """Train the first run of each variant for three steps; how they ended, or why nothing was trained."""
    from bncli.engine.train import train
    from bncli.plan import runs_of

    try:
        study = read_study(path, ["training.steps=3", "evaluation.every=2", "training.schedule.warmup=0"], seeds="1")
    except BncliError:
        return "refused"  # a sweep or an override of the same key, say
    runs = {
        run.variant: run for run in runs_of(study.model_copy(update={"tune": None, "bisect": None}), "cpu", "plain")
    }
    ends = set()
    for run in runs.values():
        alone = run.training.ranks == 1  # several ranks are several processes
        if alone and seconds_of(Job((run,))) < 0.3 and run.training.batch_size < 5_000:
            try:
                ends.add(train(Job((run,)))[0].info.status)
            except BncliError as error:  # data that are not here, a probe of no layer
                check_message(error)
    return ",".join(sorted(ends)) or "too long"


def fuzz(numbers: range, folder: Path, trained: int) -> dict[str, int]:
    """Read and plan mutants, train every `trained`-th that is valid; how many of each kind there were."""
    counts: dict[str, int] = {}
    path = folder / "mutant.yaml"
    for number in numbers:
        path.write_bytes(mutant(number))
        try:
            preset = read_and_plan(path)
            kind = "refused" if preset is None else type(preset).__name__
            counts[kind] = counts.get(kind, 0) + 1
            if isinstance(preset, Study) and counts[kind] % trained == 0:
                end = train_a_little(path)
                counts[end] = counts.get(end, 0) + 1
        except Exception as error:
            raise AssertionError(f"mutant {number}: {type(error).__name__}: {error}") from error
    return counts


def test_two_hundred_mutated_presets_are_refused_in_words_or_run(tmp_path: Path) -> None:
    with little_memory():
        counts = fuzz(range(200), tmp_path, trained=5)
    assert counts["refused"] > 80
    assert counts["Study"] > 20
    assert counts["Bench"] > 2
    assert counts["done"] > 0


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(10))
def test_twenty_thousand_mutated_presets_are_refused_in_words_or_run(part: int, tmp_path: Path) -> None:
    with little_memory():
        counts = fuzz(range(2_000 * part, 2_000 * (part + 1)), tmp_path, trained=10)
    assert sum(counts[kind] for kind in ("refused", "Study", "Bench")) == 2_000


def texts(number: int, grammar: list[str]) -> str:
    """Text `number`, made of parts of a grammar and of what does not belong there."""
    chance = random.Random(number)
    parts = [
        *grammar,
        *TEXTS,
        *map(str, NUMBERS),
        "=",
        ",",
        ":",
        ".",
        "..",
        "[",
        "]",
        "{",
        "}",
        "+",
        "-",
        "%",
        "*",
        "?",
    ]
    wanted = [chance.choice(grammar if chance.random() < 0.6 else parts) for _ in range(chance.randrange(1, 8))]
    return "".join(wanted)


QUICK = parse(preset_path("quickstart").read_text()).data


def set_of(text: str) -> None:
    override(QUICK, text, {})
    read_study(QUICK, [text])


KERNELS = (*BENCH_MEASURES, *BENCH_FACTS)
PARSERS: Mapping[str, tuple[Callable[[str], object], list[str]]] = {
    "--set": (set_of, ["training.lr", "variants.batch.norm.eps", "sweep", "seeds", "=", "0.1", ",", "5", "."]),
    "--seeds": (lambda text: read_study(QUICK, seeds=text), ["1", "0", "..", "9", ",", " "]),
    "--variants": (lambda text: read_preset_of(QUICK, variants=text), ["batch", "none", "zca", ",", " "]),
    "--fail-if": (lambda text: read_limit(text, list(MEASURES)), ["final_loss:+", "reached:-", "batch=", "10", "%", "1e3"]),
    "--fail-if of bench": (lambda text: read_limit(text, KERNELS, slower=True), ["error:", "peak:+", "1e-5", "5%", "a=", "0"]),
    "--norm": (lambda text: choose_grids(None, Axes(norm=[text])), ["batch", "group", "(groups=", "8", ")", ",", ":", "a.py"]),
    "--shape": (lambda text: choose_grids(None, Axes(norm=["batch"], shape=[text])), ["N8", "C16", "8", "x", "16", "H", ","]),
    "--threads": (lambda text: choose_grids(None, Axes(norm=["batch"], threads=[text])), ["1", "2", ",", "0", " ", "99"]),
    "--data": (data_part, ["mnist", "hf:", "x", ".npz", "/", "~", "."]),
}  # fmt: skip


@pytest.mark.parametrize("option", PARSERS)
def test_mutated_texts_of_options_are_refused_in_words_or_read(option: str) -> None:
    read, grammar = PARSERS[option]
    ends = set()
    with little_memory():
        for number in range(200):
            text = texts(number, grammar)
            try:
                read(text)
                ends.add("read")
            except BncliError as error:
                check_message(error)
                ends.add("refused")
            except Exception as error:
                raise AssertionError(f"{option} {text!r}: {type(error).__name__}: {error}") from error
    assert ends == {"read", "refused"}
