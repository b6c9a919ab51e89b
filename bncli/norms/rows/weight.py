"""Rows of the norms that act on weights, and of the fair baselines without a norm."""

from typing import Literal

from bncli.catalogue import Option
from bncli.norms.row import NormRow, eps

WEIGHT = {
    "weight": NormRow(
        "bncli.norms.weight:weight_norm", "length and direction of each output's weights learned apart",
        side="weight", family="weight", citation="Salimans & Kingma 2016, arXiv:1602.07868",
        formula="y = w x + bias, w = g v / |v| for each output", over="", evaluation="the same",
        differs="Without the paper's data-dependent start: g starts at |v|, so that the layer does what it did.",
        parameters="C", cost=2.1,
    ),
    "weight-std": NormRow(
        "bncli.norms.weight:weight_std", "each output's weights to mean 0, standard deviation 1",
        {
            "eps": eps(1e-5, "added to the standard deviation (`form: root`: to the variance)"),
            "form": Option(
                Literal["paper", "readme", "root"], "paper",
                "std: paper (biased), readme (unbiased, as the authors' code), root (eps inside the root, as timm)",
            ),
        },
        side="weight", family="weight", citation="Qiao et al. 2019, arXiv:1903.10520",
        formula="y = w x + bias, w = (v - mean) / (std + eps), std biased",
        over="the weights of an output", evaluation="the same",
        differs="Stands alone; the paper puts group or batch norm behind it. The authors' code takes the unbiased std.",
        cost=2.3,
    ),
    "scaled-weight-std": NormRow(
        "bncli.norms.weight:scaled_weight_std", "standardised weights that keep the activations' variance",
        {
            "eps": eps(1e-4, "the least of fan-in times variance"),
            "activation": Option(
                Literal["identity", "relu", "silu", "gelu", "tanh", "sigmoid"], "relu",
                "what stands before the layer: its constant gamma",
            ),
            "affine": Option(bool, True, "learn a gain for each output"),
        },
        side="weight", family="weight", citation="Brock et al. 2021, arXiv:2101.08692",
        formula="y = w x + bias, w = gain gamma (v - mean) / sqrt(max(N var, eps)), N the fan-in, var biased",
        over="the weights of an output", evaluation="the same",
        differs="gamma is in every layer's weights, also in the first, which no activation precedes;"
        " without the paper's scaled residual blocks and gradient clipping.",
        parameters="C", cost=2.6,
    ),
    "fixup": NormRow(
        "bncli.norms.residual:fixup", "no norm: scaled and zeroed residual branches with scalar biases",
        side="network", family="none", citation="Zhang, Dauphin & Ma 2019, arXiv:1901.09321",
        formula="y = x + multiplier branch(x); branch weights times L^(-1/(2m-2)), the last and the readout 0",
        over="", evaluation="the same",
        differs="The first layer keeps its bias per channel, and has no scalar one before it.",
        parameters="5", cost=1.15,
    ),
    "skipinit": NormRow(
        "bncli.norms.residual:skipinit", "no norm: residual branches times a learned number that starts at 0",
        side="network", family="none", citation="De & Smith 2020, arXiv:2002.10444",
        formula="y = x + multiplier branch(x), multiplier 0 at the start", over="", evaluation="the same",
        differs="Biases stay where the layers have them.",
        parameters="1", cost=1.05,
    ),
}  # fmt: skip
