"""Rows of the norms that take their statistics from each example, or from the examples one by one."""

from typing import Literal

from bncli.catalogue import Fraction, Option
from bncli.norms.rows import AFFINE, MOMENTUM, NormRow, eps, groups

SAMPLE = {
    "layer": NormRow(
        "bncli.norms.sample:LayerNorm", "each example to mean 0, variance 1 over all its channels",
        {"eps": eps(1e-5), "affine": AFFINE},
        family="sample", citation="Ba et al. 2016, arXiv:1607.06450",
        formula="y = weight (x - mean) / sqrt(var + eps) + bias, var biased",
        over="channels and locations of each example", evaluation="the same",
        differs="On maps this is torch's GroupNorm(1, C): torch's LayerNorm takes channels last and each location by"
        " itself, or learns a weight per channel and location.",
        parameters="2*C", cost=1.2,
    ),
    "rms": NormRow(
        "bncli.norms.sample:RMSNorm", "each example to root mean square 1 over all its channels",
        {"eps": eps(1e-6, "added to the mean square"), "affine": Option(bool, True, "learn a scale per channel")},
        family="sample", citation="Zhang & Sennrich 2019, arXiv:1910.07467",
        formula="y = weight x / sqrt(mean(x^2) + eps)",
        over="channels and locations of each example", evaluation="the same",
        differs="The paper's formula has no eps, torch's default is the type's smallest step. On maps torch's RMSNorm"
        " takes channels last and each location by itself.",
        parameters="C", cost=1.3,
    ),
    "instance": NormRow(
        "bncli.norms.sample:InstanceNorm", "each channel of each example to mean 0, variance 1 over its locations",
        {"eps": eps(1e-5), "affine": AFFINE},
        family="sample", citation="Ulyanov et al. 2016, arXiv:1607.08022",
        formula="y = weight (x - mean) / sqrt(var + eps) + bias, var biased",
        over="locations of each channel of each example", evaluation="the same",
        differs="Refuses a single location in evaluation too; torch returns the bias there. torch learns no scale and"
        " shift by default.",
        parameters="2*C", cost=1.3, absorbs_bias=True, needs_locations=True,
    ),
    "group": NormRow(
        "bncli.norms.sample:GroupNorm", "each example to mean 0, variance 1 over each group of channels",
        {"groups": groups(32), "eps": eps(1e-5), "affine": AFFINE},
        family="sample", citation="Wu & He 2018, arXiv:1803.08494",
        formula="y = weight (x - mean) / sqrt(var + eps) + bias, var biased",
        over="locations and the channels of a group, of each example", evaluation="the same",
        differs="torch has no default for the number of groups.",
        parameters="2*C", cost=1.3, equal_groups=True,
    ),
    "switchable": NormRow(
        "bncli.norms.switchable:SwitchableNorm", "a learned mixture of instance, layer and batch norm",
        {"eps": eps(1e-5), "momentum": MOMENTUM, "affine": AFFINE},
        family="sample", citation="Luo et al. 2019, arXiv:1806.10779",
        formula="y = weight (x - mean) / sqrt(var + eps) + bias, mean = sum_k softmax(mean_weight)_k mean_k, var alike",
        over="locations; channels and locations; and examples and locations, mixed",
        evaluation="running mean and variance in the batch's part",
        differs="Variances over locations are unbiased, as in the authors' code; the paper's are biased. On a single"
        " location the instance part is left out.",
        parameters="2*C + 6", buffers="2*C", cost=2.1, batch_statistics=True,
    ),
    "online": NormRow(
        "bncli.norms.online:OnlineNorm", "each example by the statistics of those before it, gradients likewise",
        {
            "forward_momentum": Option(Fraction, 0.001, "weight of one example in the running statistics"),
            "backward_momentum": Option(Fraction, 0.01, "weight of one example in the control of the gradient"),
            "bound": Option(Literal["layer", "clamp", "none"], "layer", "what keeps outputs from growing"),
            "differentiate": Option(bool, False, "the output's own gradient instead of the control process"),
            "eps": eps(1e-5), "affine": AFFINE,
        },
        family="sample", citation="Chiley et al. 2019, arXiv:1905.05894",
        formula="y = weight bounded((x_t - mean_{t-1}) / sqrt(var_{t-1} + eps)) + bias",
        over="all examples before, exponentially weighted, and their locations", evaluation="running mean and variance",
        differs="The paper's decays are one minus these momenta; its layer scaling is bound: layer. Trains one lane at"
        " a time: the backward pass moves states of its own, which vmap cannot.",
        parameters="2*C", buffers="4*C", cost=8.0, ordered=True, lanes=False,
    ),
}  # fmt: skip
