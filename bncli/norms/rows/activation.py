"""Rows of the norms that are an activation as well, or only a squashing function."""

from bncli.catalogue import Option, Positive
from bncli.norms.row import MOMENTUM, NormRow, eps, groups

ALPHA0 = Option(Positive, 0.5, "alpha before training")

ACTIVATION = {
    "frn": NormRow(
        "bncli.norms.response:FRN", "filter response normalisation with a learned threshold: norm and activation",
        {"eps": eps(1e-6, "added to the mean square")},
        family="activation", citation="Singh & Krishnan 2020, arXiv:1911.09737",
        formula="y = max(weight x / sqrt(mean(x^2) + eps) + bias, tau)",
        over="locations of each channel of each example", evaluation="the same",
        differs="On a single location |learned_eps|, from 1e-4 on, is added to eps: the paper's rule for (N, C).",
        parameters="3*C + 1", cost=1.9, activates=True,
    ),
    "evonorm-b0": NormRow(
        "bncli.norms.evonorm:EvoNormB0", "found by search: the larger of batch and instance deviation, no centring",
        {"eps": eps(1e-5), "momentum": MOMENTUM},
        family="activation", citation="Liu et al. 2020, arXiv:2004.02967",
        formula="y = weight x / max(sqrt(var_batch + eps), v x + sqrt(var_instance + eps)) + bias",
        over="locations of each example, and examples and locations",
        evaluation="running unbiased variance of the batch",
        differs="Published code often has eps 1e-3. On a single location the variance of the instance is 0.",
        parameters="3*C", buffers="C", cost=2.1, batch_statistics=True, activates=True,
    ),
    "evonorm-s0": NormRow(
        "bncli.norms.evonorm:EvoNormS0", "found by search: a swish over the deviation of a group, no centring",
        {"groups": groups(32), "eps": eps(1e-5)},
        family="activation", citation="Liu et al. 2020, arXiv:2004.02967",
        formula="y = weight x sigmoid(v x) / sqrt(var + eps) + bias, var biased",
        over="locations and the channels of a group, of each example", evaluation="the same",
        parameters="3*C", cost=2.2, equal_groups=True, activates=True,
    ),
    "dyt": NormRow(
        "bncli.norms.dynamic:DyT", "dynamic tanh: squashes each value, takes no statistics",
        {"alpha0": ALPHA0},
        family="activation", citation="Zhu et al. 2025, arXiv:2503.10622",
        formula="y = weight tanh(alpha x) + bias", over="", evaluation="the same",
        parameters="2*C + 1", cost=1.1,
    ),
    "derf": NormRow(
        "bncli.norms.dynamic:Derf", "dynamic erf: squashes each value, takes no statistics",
        {"alpha0": ALPHA0},
        family="activation", citation="Chen et al. 2025, arXiv:2512.10938",
        formula="y = weight erf(alpha x + shift) + bias", over="", evaluation="the same",
        parameters="2*C + 2", cost=1.2,
    ),
}  # fmt: skip
