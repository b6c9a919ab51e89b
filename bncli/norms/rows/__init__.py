"""What a row of the catalogue says of a norm, and the options that many norms share; the rows, one file a family."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from bncli.catalogue import Count, Fraction, Option, Positive, Row

EACH_LOCATION = "channels of each location of each example"


@dataclass(frozen=True, kw_only=True)
class NormRow(Row):
    """A norm's row: all that a study, a listing or a card must know of it without importing torch.

    In `parameters` and `buffers`, C is the number of channels, d that of a group and G that of groups; they are added
    to a layer, or to a residual branch of two layers where `side` is "network".
    """

    # what the target takes: channels, the layer whose weights it normalises, a network
    side: Literal["activation", "weight", "network"] = "activation"
    family: str  # "none", "batch", "sample", "activation", "weight", "whitening"
    citation: str
    formula: str  # y as a function of x, in plain text
    over: str  # what its statistics are taken over: "examples and locations", "" if it has none
    evaluation: str  # what it does in evaluation; "the same" if nothing else than in training
    differs: str = ""  # from the paper, from torch
    parameters: str = "0"  # learned numbers
    buffers: str = "0"  # running numbers, counters left out
    cost: float = 1.0  # of a training step of the quickstart network, relative to `none` (docs/norms.md)
    absorbs_bias: bool = False  # it subtracts each channel's mean over examples, so a bias before it does nothing
    batch_statistics: bool = False  # training needs at least two values for each channel
    synchronised: bool = False  # its batch is that of all ranks together (training.ranks)
    whitens: bool = False  # and more values than channels in a group, to have a full-rank covariance
    needs_locations: bool = False  # takes statistics over locations, of which (N, C) has none
    equal_groups: bool = False  # its `groups` must divide the channels, and hold more than one value
    several_values: bool = False  # takes a variance over each example, or each output's weights: needs more than one
    ordered: bool = False  # the order of the examples matters
    activates: bool = False  # is an activation as well; the network's own comes on top

    @property
    def needs_residual(self) -> bool:
        """Whether it means anything only where the network has residual branches."""
        return self.side == "network"

    @property
    def apart(self) -> bool:
        """Whether it takes each location by itself, or may, as transformers have it: no statistic spans several."""
        return self.over in ("", EACH_LOCATION) or "over" in self.options

    def misfit(self, options: Mapping[str, Any], channels: int, *, locations: bool) -> str:
        """Why the norm cannot take so many channels, with or without locations, to follow its name; "" if it can."""
        if self.needs_locations and not locations:
            return " takes its statistics over locations, and this network's layers have none"
        if locations and options.get("over") == "last":
            return ": over=last normalises the last axes, which are locations in this network; use sample or channels"
        if self.several_values and self.side == "activation" and channels == 1 and not locations:
            return " takes its statistics over the values of an example, and a layer has 1; use more channels"
        if not self.equal_groups:
            return ""
        if options["groups"] == channels and not locations:
            return f": groups={channels} makes groups of 1 value, whose variance is 0; use fewer groups"
        wrong = undivided(options["groups"], channels)
        return f": {wrong}" if wrong else ""


def undivided(groups: int, channels: int) -> str:
    """Say that `groups` does not divide `channels`, and what does; "" if it does."""
    if channels % groups == 0:
        return ""
    divisors = ", ".join(str(d) for d in range(1, min(channels, 4_096) + 1) if channels % d == 0)
    which = "their divisors" if channels <= 4_096 else "their divisors up to 4,096"
    return f"groups={groups} does not divide {channels} channels ({which}: {divisors})"


MOMENTUM = Option(Fraction, 0.1, "weight of the new value in the running statistics", "share")
IMPL = Option(Literal["plain", "fast", "auto"], "auto", "how it is computed; auto: the faster, of the same numbers")
FORCED = replace(IMPL, before="auto", meaning="how it is computed; fast: by Triton on a GPU; auto: plain")
AFFINE = Option(bool, True, "learn a scale and a shift per channel")
PARTS = Option(Literal[True, False, "scale", "shift"], True, "learn a scale and a shift per channel, or one of them")


def eps(
    default: float, meaning: str = "added to the variance (or to the covariance's diagonal)", unit: str = "variance"
) -> Option:
    """The small number that keeps a division finite."""
    return Option(Positive, default, meaning, unit)


def group_size(default: int) -> Option:
    """How many channels a group has."""
    return Option(Count, default, "channels that are whitened together; the last group may be smaller", "channels")


def groups(default: int) -> Option:
    """How many groups there are."""
    return Option(Count, default, "groups of channels, all of one size", "groups")
