"""What a row of the catalogue says of a metric of shift."""

import math
from dataclasses import dataclass
from typing import Literal

from bncli.catalogue import Row

Kind = Literal["pair", "sample", "gradient", "landscape", "statistics", "draws", "modes"]
Tier = Literal["light", "standard", "full"]


@dataclass(frozen=True, kw_only=True)
class MetricRow(Row):
    """A metric's row: all that a study, a listing or a report must know of it without importing torch."""

    kind: Kind  # what it is a function of (bncli/shift/__init__.py)
    per: Literal["unit", "layer"]  # what it is a number of: each channel, or the whole layer
    unit: str  # of the number: "activation", "share", "nats"; "" for a pure number
    low: float = 0.0  # the least that it can be
    high: float = math.inf  # the most
    null: float | None = None  # what it is where nothing has changed; None if no value says that
    better: Literal["lower", "higher"] | None = None  # the side that those who proposed it call better, if any
    tier: Tier = (
        "standard"  # light: moments, quantiles and counts alone; full: spectra, or further passes of the network
    )
    relative: bool = False  # it stays as it is where all activations, or gradients, are multiplied by one number
    formula: str  # in plain text
    citation: str
