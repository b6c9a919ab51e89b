"""Metrics of what happens to the distributions, one row each; strings only, no torch.

The contract that every row keeps: its target is a pure function, differentiable or not, batched over leading lane axes,
whose results for several lanes equal those of each lane alone. Options of the row are its keywords with the same
defaults. Results are (*lanes, C) where `per` is "unit" and (*lanes,) where it is "layer" (`percentiles`, the one
exception: (*lanes, 3, C)), in the row's range or nan; a lane that is not finite leaves the others alone. What a target
is given, its row's `kind` says:

- "pair": `f(before, after)`, samples (*lanes, N, C) of the same N examples at two checkpoints. Of two equal samples it
  is the row's `null`.
- "sample": `f(x)`, a sample (*lanes, N, C) of one checkpoint.
- "gradient": `f(gradient, moved)`, each (*lanes, P): a layer's G and G' (`gradients.gradient_shift`).
- "landscape": `f(walk)`, a `landscape.Walk`: losses and gradients along the step; one number for the whole network.
- "statistics": `f(running_mean, running_var, mean, var)`, each (*lanes, C): a norm's running statistics, and those of
  the population under the same weights.
- "draws": `f(outputs)`, (*lanes, B, N, C): the norm's outputs for the same N examples in the company of B batches.
- "modes": `f(training, evaluation)`, each (*lanes, N, C): outputs of the same batch in the two modes.
- "weight": `f(weight)`, (*lanes, P): a layer's weight, as one vector.
- "weight-gradient": `f(gradient)`, (*lanes, P): the loss's gradient in that weight.

Examples at several locations (convolutions) come as N times locations samples. bfloat16 and float16 are computed in
float32; spectra in float64.
"""

from typing import Literal

from bncli.catalogue import Catalogue
from bncli.shift.rows import CONDITIONING, DISTRIBUTION, GRADIENT, LANDSCAPE, PERCENTILES, STATISTICS, WEIGHT, MetricRow

METRICS: Catalogue[MetricRow] = Catalogue(
    "metric", {**PERCENTILES, **DISTRIBUTION, **GRADIENT, **LANDSCAPE, **CONDITIONING, **STATISTICS, **WEIGHT}
)

ProbePlace = Literal[
    "layer", "norm", "activation"
]  # behind a layer: what it gives, what reaches the activation, its output
PLACES: tuple[ProbePlace, ...] = ("layer", "norm", "activation")
