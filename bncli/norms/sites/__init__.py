"""The places of norms in anybody's model, as plain data: what stands there, what replaced it, or why nothing did."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from math import prod
from typing import Any

from torch import nn

NormChoice = str | Callable[[str, nn.Module], bool]
"""Which norms: a pattern on their paths ("layer4.*"), or a function of path and module."""


@dataclass(frozen=True)
class NormSite:
    """A norm of a model, without the module itself."""

    path: str  # in `named_modules`; the first, where it has several
    also: tuple[str, ...]  # its other paths: a shared module stands at each
    type: str  # its class: BatchNorm2d, timm.BatchNormAct2d
    kind: str  # of bncli's norms, the one that does the same; "" if none does
    channels: int  # 0 if only its input says
    axis: int  # of its input that holds the channels: 1, or -1 for the last one
    each_location: bool  # it takes its statistics from each location by itself
    sizes: tuple[int, ...] = ()  # of the last axes, if it is those that it normalises
    refusal: str = ""  # why nothing can stand in its place
    stays: bool = False  # and that is as it should be

    def matches(self, where: NormChoice | None, module: nn.Module) -> bool:
        """Whether a pattern fits one of its paths, or a function says yes to one of them."""
        paths = (self.path, *self.also)
        if where is None:
            return True
        if callable(where):
            return any(where(path, module) for path in paths)
        return any(fnmatchcase(path, where) for path in paths)


@dataclass(frozen=True)
class NormCall:
    """What the first call of a norm was like in a forward pass."""

    shape: tuple[int, ...]  # of its input
    examples: int = 0  # axis of the examples: 0, or 1 where the sequence comes first
    layers: tuple[str, ...] = ()  # linear layers or convolutions whose output is its input, in any of its calls
    changed: bool = False  # what it gives is changed in place by what follows
    viewed: bool = False  # its input is a layer's output in another shape
    shared: bool = False  # its input is used by something else too

    def count_locations(self, channels: int) -> int:
        """How many values of each channel an example has."""
        return prod(self.shape) // max(1, self.shape[self.examples] * channels)


@dataclass(frozen=True)
class Census:
    """The norms of a model, in the order in which they were registered."""

    sites: tuple[NormSite, ...]
    calls: Mapping[str, NormCall] = field(default_factory=dict)  # by path; of a norm that was called
    functional: tuple[str, ...] = ()  # "features.3: torch.nn.functional.batch_norm"
    problem: str = ""  # why no forward pass could be made; "" if one was
    guessed: bool = False  # the pass was made of inputs that nobody gave: their shape says nothing


@dataclass(frozen=True)
class ReplacedNorm:
    """One norm of a model: what stands there now, or why it was left."""

    path: str
    also: tuple[str, ...]  # its other paths
    old: str  # its class
    new: str = ""  # the norm that stands there now; "" if it was left
    channels: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)  # of the new norm
    kept: tuple[str, ...] = ()  # what was taken over: weight, bias, running statistics, hooks, act
    notes: tuple[str, ...] = ()  # what else there is to know
    reason: str = ""  # why it was left; "" if it was replaced
    refused: bool = False  # it was to be replaced, and could not be


def list_refusals(rows: Sequence[ReplacedNorm]) -> list[str]:
    """Why norms could not be replaced, those of one kind and reason in one line."""
    told: dict[str, list[str]] = {}
    for row in rows:
        if row.refused:
            told.setdefault(f"{row.old} {row.reason}", []).append(row.path or "the model itself")
    more = {what: f" and {len(paths) - 3} more" if len(paths) > 3 else "" for what, paths in told.items()}
    return [f"{', '.join(paths[:3])}{more[what]}: {what}" for what, paths in told.items()]


@dataclass(frozen=True)
class Replacement:
    """What `replace_norms` did to a model."""

    to: str
    rows: tuple[ReplacedNorm, ...]
    functional: tuple[str, ...] = ()  # norms that are no modules: out of reach
    bias_added: tuple[str, ...] = ()  # layers that got a bias, because the new norm has none
    bias_dropped: tuple[str, ...] = ()  # layers that lost theirs, because the new norm cancels it
    added: tuple[str, ...] = ()  # names in the state_dict that were not there before
    removed: tuple[str, ...] = ()  # names that are there no more
    notes: tuple[str, ...] = ()  # on the whole model

    @property
    def replaced(self) -> tuple[ReplacedNorm, ...]:
        """The norms that were replaced."""
        return tuple(row for row in self.rows if not row.reason)

    def document(self) -> dict[str, Any]:
        """All of it in types that JSON knows."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} of {len(self.rows)} norms replaced by {self.to}"]
        for row in self.rows:
            what = f"left: {row.reason}" if row.reason else f"{row.new} of {row.channels} channels"
            groups = f", {row.options['groups']} groups" if "groups" in row.options else ""
            kept = f"; keeps {', '.join(row.kept)}" if row.kept else ""
            lines.append(f"  {row.path or 'the model itself'}: {row.old} -> {what}{groups}{kept}")
            lines += [f"    {note}" for note in row.notes]
        lines += [f"  {each}: no module, out of reach" for each in self.functional]
        for names, what in ((self.bias_added, "got a bias"), (self.bias_dropped, "lost a bias that the norm cancels")):
            if names:
                lines.append(f"  {', '.join(names)}: {what}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])
