"""Cases: what is timed, as plain data with stable names; a preset's grids, kernels from the command line, filters.

Shapes: N examples, C channels, H W pixels.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from bncli.config.bench import RIVALS, Bench, KernelClaim, changed, label, misfits, sizes
from bncli.config.parts import Part
from bncli.errors import ConfigError, unknown
from bncli.norms import NORMS
from bncli.plugins import registered
from bncli.plugins.code import split_code

TimedNorm = tuple[str, tuple[tuple[str, Any], ...]]  # a norm, or `FILE.py:NAME` or `MODULE:NAME`; its options
BYTES = {"f32": 4, "f64": 8, "bf16": 2, "f16": 2}  # of one value


@dataclass(frozen=True)
class Case:
    """One row of the table: a norm in one pass over one input."""

    norm: str  # a norm of the catalogue, or `FILE.py:NAME` or `MODULE:NAME` of a kernel from the command line
    options: tuple[tuple[str, Any], ...]  # those that differ from the norm's defaults
    pass_: str  # train-forward, train-backward, train-both or eval-forward
    shape: tuple[int, ...]  # (N, C) or (N, C, H, W)
    dtype: str
    layout: str  # nchw, channels_last, or nc for (N, C)
    device: str
    threads: int = 1
    compiled: bool = False
    versus: TimedNorm | None = None  # what it is timed against beside torch and a copy, in the same setting

    @property
    def name(self) -> str:
        """`batch,impl=plain/train-forward/N32C64H56W56/f32/nchw/cpu`.

        These six parts are always there, in this order; `t2` (threads) and `compiled` follow where a case has more
        than one thread or is compiled. A name says all of its case, whatever else its preset holds.
        """
        extras = [f"t{self.threads}"] * (self.threads > 1) + ["compiled"] * self.compiled
        at = self.setting
        return "/".join([self.label, self.pass_, at["shape"], self.dtype, self.layout, self.device, *extras])

    @property
    def label(self) -> str:
        """The norm with its options: `batch,impl=plain`; of a kernel in a file, without the file's folder."""
        return label(self.norm.rpartition("/")[2], self.options)

    @property
    def setting(self) -> dict[str, Any]:
        """All but the norm, by the axes of a grid, each as a preset writes it."""
        shape = "".join(f"{axis}{size}" for axis, size in zip("NCHW", self.shape, strict=False))
        return {
            "shape": shape, "dtype": self.dtype, "layout": self.layout, "pass": self.pass_, "threads": self.threads,
            "compile": self.compiled,
        }  # fmt: skip

    @property
    def rival(self) -> "Case | None":
        """What it is timed against as a case of its own."""
        return self.versus and replace(self, norm=self.versus[0], options=self.versus[1], versus=None)

    @property
    def is_kernel(self) -> bool:
        """Whether it is a kernel from the command line."""
        return ":" in self.norm

    @property
    def size_byte(self) -> int:
        """Bytes of the input."""
        size = BYTES[self.dtype]
        for axis in self.shape:
            size *= axis
        return size


def expand_cases(bench: Bench, device: str, kernels: Sequence[str] = (), versus: TimedNorm | None = None) -> list[Case]:
    """Every case of a preset, those that differ in the norm alone beside each other; kernels join each grid.

    Args:
        bench: a preset.
        device: cpu or cuda.
        kernels: `FILE.py:NAME` or `MODULE:NAME`, as given to --kernel.
        versus: what every case is timed against, as given to --vs.

    Raises:
        ConfigError: for a kernel that is written otherwise.
    """
    for kernel in kernels:
        split_code(kernel, "--kernel")
    found: dict[Case, None] = {}
    for grid in bench.cases:
        norms = [(part.name, changed(part)) for part in grid.norms] + [(kernel, ()) for kernel in kernels]
        for at in grid.settings():
            for name, options in norms:
                case = Case(
                    name, options, at["pass"], sizes(at["shape"]), at["dtype"], at["layout"], device, at["threads"],
                    at["compile"], versus,
                )  # fmt: skip
                found[case] = None
    return list(found)


def is_foreign(norm: str) -> bool:
    """Whether it is anybody's code: a kernel from the command line, or a plug-in's norm."""
    return ":" in norm or any(norm in plugin.names.get("NORMS", ()) for plugin in registered())


def choose_truth(bench: Bench, text: str | None, cases: Sequence[Case]) -> TimedNorm | None:
    """What kernels and plug-ins' norms must compute: --truth says it, or else the preset, which has no code.

    Raises:
        ConfigError: if there is no such norm, it cannot take the cases' input, or none of the cases is anybody's code.
    """
    if text is None:
        return (bench.truth.name, changed(bench.truth)) if bench.truth else None
    shapes = list(
        dict.fromkeys(
            case.setting["shape"] for case in cases if any(is_foreign(each.norm) for each in (case, case.rival) if each)
        )
    )
    if not shapes:
        raise ConfigError("--truth: is about kernels and plug-ins' norms, and none is timed; add --kernel FILE.py:NAME")
    if ":" in text:
        split_code(text, "--truth")
    elif text not in NORMS:
        raise ConfigError(f"--truth: {unknown('norm', text, NORMS)}; or give FILE.py:NAME or MODULE:NAME")
    elif problem := next(misfits(Part(name=text, options=NORMS.options(text, {})), shapes), ""):
        raise ConfigError(f"--truth {text}: {problem}")
    return text, ()


def find_truth(case: Case, told: TimedNorm | None = None) -> Case | None:
    """What a case's results are held against, in float64; None where nothing is known.

    A norm of the catalogue is held against itself, plain; anybody's code against what was told; a kernel else against
    the norm of its name.
    """
    exact = replace(case, dtype="f64", compiled=False, versus=None)
    if told and is_foreign(case.norm):
        return replace(exact, norm=told[0], options=told[1])
    if not case.is_kernel:
        plain = (("impl", "plain"),) if "impl" in NORMS[case.norm].options else ()
        options = tuple(each for each in case.options if each[0] != "impl")
        return None if case.dtype == "f64" else replace(exact, options=(*options, *plain))
    name = case.norm.rpartition(":")[2].replace("_", "-")
    fits = name in NORMS and not any(misfits(Part(name=name, options=NORMS.options(name, {})), [case.setting["shape"]]))
    return replace(exact, norm=name) if fits else None


def choose_cases(cases: Sequence[Case], only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Case]:
    """The cases that some pattern of `only` matches, if there is one, and none of `skip`.

    Raises:
        ConfigError: for a pattern that matches no case, with the nearest names; or if nothing is left.
    """
    for flag, patterns in (("--only", only), ("--skip", skip)):
        for pattern in patterns:
            if not any(matches(case.name, pattern) for case in cases):
                raise ConfigError(f"{flag} {pattern}: no case matches{_suggest(pattern, [c.name for c in cases])}")
    names = choose_names([case.name for case in cases], only, skip)
    if not names:
        raise ConfigError(f"--only and --skip leave none of the {len(cases)} cases")
    return [case for case in cases if case.name in names]


def choose_names(names: Sequence[str], only: Sequence[str], skip: Sequence[str]) -> tuple[str, ...]:
    """Those that some pattern of `only` matches, if there is one, and none of `skip`."""
    kept = [name for name in names if not only or any(matches(name, pattern) for pattern in only)]
    return tuple(name for name in kept if not any(matches(name, pattern) for pattern in skip))


def matches(name: str, pattern: str) -> bool:
    """Whether a case's name has `pattern` in it, or matches it as a shell's wildcard does."""
    return pattern in name or fnmatchcase(name, pattern)


def _suggest(pattern: str, names: Sequence[str]) -> str:
    """The whole names, or else the parts of names, that are nearest to a pattern."""
    parts = dict.fromkeys(part for name in names for part in name.split("/"))
    wanted = pattern.strip("*")
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.6) or difflib.get_close_matches(
        wanted, list(parts), n=3, cutoff=0.5
    )
    return f"; nearest: {', '.join(near)}" if near else f" (parts of names: {', '.join(parts)})"


# pass -> tensors of the input's size: (read, written)
_TENSORS = {
    "train-forward": (1, 1),  # x; y
    "train-backward": (2, 1),  # x and the gradient of y; the gradient of x
    "train-both": (3, 2),  # both: y is handed over before its gradient exists
    "eval-forward": (1, 1),
}
# Products of (d, d) and (d, m): covariance and application; in the backward pass the gradients of both, of which that
# of the application has two.
_PRODUCTS = {"train-forward": 2, "train-backward": 3, "train-both": 5, "eval-forward": 1}
# Products of (d, d) and (d, d) for each Newton-Schulz step.
_STEPS = {"train-forward": 3, "train-backward": 6, "train-both": 9, "eval-forward": 0}


@dataclass(frozen=True)
class Work:
    """What one pass has to do."""

    least_byte: int  # speed of light
    algorithmic_byte: int
    products: int | None  # floating-point operations of matrix products, for norms that decorrelate; else None


def count_work(case: Case) -> Work:
    """The work of a case, by the rules above; a kernel from the command line counts as a batch norm."""
    read, written = _TENSORS[case.pass_]
    twice = read if _is_over_batch(case) and case.pass_ != "eval-forward" else 0
    least = (read + written) * case.size_byte
    return Work(least, least + twice * case.size_byte, _count_products(case))


def count_tensors(pass_: str) -> int:
    """How many tensors of the input's size a pass reads or writes at least."""
    return sum(_TENSORS[pass_])


def _is_over_batch(case: Case) -> bool:
    return case.is_kernel or NORMS[case.norm].batch_statistics or "examples" in NORMS[case.norm].over


def _count_products(case: Case) -> int | None:
    """Of planes and roots: 2 m C d a product of planes, 2 G d^3 one of roots; eigh and cholesky are none."""
    if case.is_kernel or not NORMS[case.norm].whitens:
        return None
    options = {key: option.default for key, option in NORMS[case.norm].options.items()} | dict(case.options)
    channels = case.shape[1]
    d = min(int(options["group_size"]), channels)
    groups = -(-channels // d)
    values = 1
    for size in case.shape:
        values *= size
    steps = int(options.get("T", 1)) - 1  # the first step multiplies by the identity
    return 2 * values * d * _PRODUCTS[case.pass_] + 2 * groups * d**3 * steps * _STEPS[case.pass_]


def pair_cases(claim: KernelClaim, cases: Sequence[Case]) -> Iterator[tuple[Case, Case | None]]:
    """The cases that a claim is of, each with the one that it is held against; None is a rival."""
    for case in cases:
        if case.label == claim.of and claim.at.items() <= case.setting.items():
            if claim.versus in RIVALS:
                yield case, None
            for other in cases:
                if other.label == claim.versus and other.setting == case.setting:
                    yield case, other
