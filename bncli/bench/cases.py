"""Cases: what is timed, as plain data with stable names; a preset's grids, kernels from the command line, filters.

Shapes: N examples, C channels, H W pixels.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from bncli.config.bench import Bench, changed, label, sizes
from bncli.errors import ConfigError

BYTES = {"f32": 4, "f64": 8, "bf16": 2, "f16": 2}  # of one value


@dataclass(frozen=True)
class Case:
    """One row of the table: a norm in one pass over one input."""

    norm: str  # a norm of the zoo, or `module:attribute` of a kernel from the command line
    options: tuple[tuple[str, Any], ...]  # those that differ from the norm's defaults
    pass_: str  # train-forward, train-backward, train-both or eval-forward
    shape: tuple[int, ...]  # (N, C) or (N, C, H, W)
    dtype: str
    layout: str  # nchw, channels_last, or nc for (N, C)
    device: str
    threads: int = 1
    compiled: bool = False

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
        """The norm with its options: `batch,impl=plain`."""
        return label(self.norm, self.options)

    @property
    def setting(self) -> dict[str, Any]:
        """All but the norm, by the axes of a grid, each as a preset writes it."""
        shape = "".join(f"{axis}{size}" for axis, size in zip("NCHW", self.shape, strict=False))
        return {
            "shape": shape, "dtype": self.dtype, "layout": self.layout, "pass": self.pass_, "threads": self.threads,
            "compile": self.compiled,
        }  # fmt: skip

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


def cases_of(bench: Bench, device: str, kernels: Sequence[str] = ()) -> list[Case]:
    """Every case of a preset, those that differ in the norm alone beside each other; kernels join each grid.

    Args:
        bench: a preset.
        device: cpu or cuda.
        kernels: `module:attribute`, as given to --kernel.

    Raises:
        ConfigError: for a kernel that is written otherwise.
    """
    for kernel in kernels:
        if not all(part.isidentifier() for part in kernel.replace(":", ".").split(".")) or kernel.count(":") != 1:
            raise ConfigError(f"--kernel {kernel}: expected module:attribute, as in my_kernels:FastNorm")
    found: dict[Case, None] = {}
    for grid in bench.cases:
        norms = [(part.name, changed(part)) for part in grid.norms] + [(kernel, ()) for kernel in kernels]
        for at in grid.settings():
            for name, options in norms:
                case = Case(
                    name, options, at["pass"], sizes(at["shape"]), at["dtype"], at["layout"], device, at["threads"],
                    at["compile"],
                )  # fmt: skip
                found[case] = None
    return list(found)


def chosen(cases: Sequence[Case], only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Case]:
    """The cases that some pattern of `only` matches, if there is one, and none of `skip`.

    Raises:
        ConfigError: for a pattern that matches no case, with the nearest names; or if nothing is left.
    """
    for flag, patterns in (("--only", only), ("--skip", skip)):
        for pattern in patterns:
            if not any(matches(case.name, pattern) for case in cases):
                raise ConfigError(f"{flag} {pattern}: no case matches{_nearest(pattern, [c.name for c in cases])}")
    kept = [case for case in cases if not only or any(matches(case.name, pattern) for pattern in only)]
    kept = [case for case in kept if not any(matches(case.name, pattern) for pattern in skip)]
    if not kept:
        raise ConfigError(f"--only and --skip leave none of the {len(cases)} cases")
    return kept


def matches(name: str, pattern: str) -> bool:
    """Whether a case's name has `pattern` in it, or matches it as a shell's wildcard does."""
    return pattern in name or fnmatchcase(name, pattern)


def _nearest(pattern: str, names: Sequence[str]) -> str:
    """The whole names, or else the parts of names, that are nearest to a pattern."""
    parts = dict.fromkeys(part for name in names for part in name.split("/"))
    wanted = pattern.strip("*")
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.6) or difflib.get_close_matches(
        wanted, list(parts), n=3, cutoff=0.5
    )
    return f"; nearest: {', '.join(near)}" if near else f" (parts of names: {', '.join(parts)})"
