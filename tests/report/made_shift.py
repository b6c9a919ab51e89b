"""Shift findings made by hand: two variants, every metric at every layer."""

from typing import Any

from bncli.findings.shift import Cell, Definition, PercentileBand, ShiftArm, ShiftComparison, ShiftFindings

LAYERS = ["hidden.0/norm", "hidden.1/norm"]
METRICS = ("percentile-drift", "percentile-drift-relative", "symmetric-kl-standardised", "location-drift", "ks")
DEFINITIONS = tuple(Definition(name, name.replace("-", " "), "pair", "", "ratio", "lower") for name in METRICS)


def site(name: str) -> tuple[str, str]:
    """A layer and a place in it, of "layer/place"."""
    layer, _, place = name.partition("/")
    return layer, place


def cell(metric: str, layer: str, **changes: Any) -> Cell:
    """One number, and what is to be different about it."""
    given: dict[str, Any] = {
        "values": {0: 0.1, 1: 0.2}, "mean": 0.15, "std": 0.07, "low": 0.1, "high": 0.2, "first": 0.2, "last": 0.1,
        "trend": "falling", "null": 0.01, "within_noise": False,
    }  # fmt: skip
    return Cell(metric, *site(layer), **{**given, **changes})


def arm(variant: str, layers: list[str], **changes: Any) -> ShiftArm:
    """A variant with every metric at these layers."""
    cells = tuple(cell(metric, layer, **changes) for metric in METRICS for layer in layers)
    return ShiftArm(variant, {}, variant == "none", 2, cells, 0.04)


def findings(layers: list[str], asked: tuple[str, ...] = (), **changes: Any) -> ShiftFindings:
    """Two variants at these layers."""
    comparisons = tuple(
        ShiftComparison(metric, *site(layer), "batch", "none", {}, 2, 0.2, 0.1, 0.4, "less", False)
        for metric in METRICS
        for layer in ["", *layers]
    )
    bands = tuple(
        PercentileBand(variant, {}, *site(layer), index, (0, 500), (-1.0, -2.0), (0.0, 0.0), (1.0, 2.0))
        for variant in ("none", "batch")
        for layer in layers
        for index in (None, 3)
    )
    return ShiftFindings(
        "study", "does it shift?", "mnist", "probed", asked, DEFINITIONS,
        (arm("none", layers), arm("batch", layers, **changes)), comparisons, bands, ("it does",), ("a note",), (), {},
    )  # fmt: skip
