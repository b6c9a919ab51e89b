"""Rows of the norms that take their statistics over the batch, and of `none`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bncli.catalogue import LARGEST, Count, Fraction, Natural, NonNegative, Option
from bncli.norms.rows import AFFINE, IMPL, MOMENTUM, PARTS, NormRow, eps


def _momentum(given: Any) -> Any:
    if given is None:  # as torch calls it
        return "cumulative"
    if given == "cumulative" or (isinstance(given, int | float) and not isinstance(given, bool) and 0 < given <= 1):
        return given if isinstance(given, str) else float(given)
    raise ValueError(f"must be a number > 0 and <= 1, or 'cumulative', got {given!r}")


CUMULATIVE = Option(
    Annotated[Fraction | Literal["cumulative"], BeforeValidator(_momentum)], 0.1,
    "weight of the new value in the running statistics; cumulative: all batches weigh the same", "share",
)  # fmt: skip
AtLeastOne = Annotated[float, Field(ge=1, le=LARGEST)]

BATCH = {
    "none": NormRow(
        "bncli.norms.batch:NoNorm", "no normalisation", family="none", citation="",
        formula="y = x", over="", evaluation="the same",
    ),
    "batch": NormRow(
        "bncli.norms.batch:BatchNorm", "each channel to mean 0, variance 1 over the batch",
        {
            "eps": eps(1e-5),
            "momentum": CUMULATIVE,
            "affine": PARTS,
            "track_running_stats": Option(
                bool, True, "keep running statistics; without, evaluation is by the batch too", before=True
            ),
            "impl": IMPL,
        },
        family="batch", citation="Ioffe & Szegedy 2015, arXiv:1502.03167",
        formula="y = weight (x - mean) / sqrt(var + eps) + bias, var biased",
        over="examples and locations", evaluation="running mean and running unbiased variance",
        differs="The paper averages the evaluation statistics with the weights held; this, like torch, along training.",
        parameters="2*C", buffers="2*C", cost=1.5, absorbs_bias=True, batch_statistics=True,
    ),
    "batch-mean": NormRow(
        "bncli.norms.partial:MeanOnlyBatchNorm", "each channel to mean 0 over the batch, its scale left as it is",
        {"momentum": MOMENTUM, "affine": Option(bool, True, "learn a shift per channel")},
        family="batch", citation="Salimans & Kingma 2016, arXiv:1602.07868, section 2.3",
        formula="y = x - mean + bias", over="examples and locations", evaluation="running mean",
        differs="The paper pairs it with weight normalization, which is apart here; torch has no such layer.",
        parameters="C", buffers="C", cost=1.3, absorbs_bias=True, batch_statistics=True,
    ),
    "batch-var": NormRow(
        "bncli.norms.partial:VarianceOnlyBatchNorm", "each channel to variance 1 over the batch, its mean only scaled",
        {"eps": eps(1e-5), "momentum": MOMENTUM, "affine": AFFINE},
        family="batch", citation="after Daneshmand et al. 2020, arXiv:2003.01652",
        formula="y = weight x / sqrt(var + eps) + bias, var biased and about the mean",
        over="examples and locations", evaluation="running unbiased variance",
        differs="torch has no such layer.",
        parameters="2*C", buffers="C", cost=1.5, batch_statistics=True,
    ),
    "batch-l1": NormRow(
        "bncli.norms.partial:L1BatchNorm", "batch normalisation by the mean absolute deviation: no squares, no roots",
        {"eps": eps(1e-5, "added to the scale", "activation"), "momentum": MOMENTUM, "affine": AFFINE},
        family="batch", citation="Hoffer et al. 2018, arXiv:1803.01814",
        formula="y = weight (x - mean) / (scale + eps) + bias, scale = sqrt(pi / 2) mean |x - mean|",
        over="examples and locations", evaluation="running mean and running scale",
        differs="The paper has no eps; torch has no such layer.",
        parameters="2*C", buffers="2*C", cost=1.5, absorbs_bias=True, batch_statistics=True,
    ),
    "ghost": NormRow(
        "bncli.norms.ghost:GhostBatchNorm", "batch normalisation of small virtual batches within the batch",
        {
            "ghost_size": Option(Count, 32, "examples of a virtual batch; the last one may be smaller", "examples"),
            "eps": eps(1e-5), "momentum": MOMENTUM, "affine": AFFINE,
        },
        family="batch", citation="Hoffer et al. 2017, arXiv:1705.08741",
        formula="y = weight (x - mean) / sqrt(var + eps) + bias, var biased",
        over="locations and examples of a virtual batch",
        evaluation="running mean and running unbiased variance, within virtual batches",
        differs="The paper moves the running statistics once for each virtual batch, this once a step, towards the "
        "virtual batches' mean; torch has no such layer.",
        parameters="2*C", buffers="2*C", cost=1.9, absorbs_bias=True, batch_statistics=True,
    ),
    "sync": NormRow(
        "bncli.norms.sync:SyncBatchNorm", "batch normalisation over the batches of all ranks that train one network",
        {"eps": eps(1e-5), "momentum": CUMULATIVE, "affine": PARTS},
        family="batch", citation="Peng et al. 2018, arXiv:1711.07240",
        formula="y = weight (x - mean) / sqrt(var + eps) + bias, var biased, both of all ranks' batches as one",
        over="examples and locations", evaluation="running mean and running unbiased variance",
        differs="Without other ranks it is `batch`. Unlike torch's SyncBatchNorm it runs on a CPU, takes ranks with "
        "unequal numbers of examples to the last digit, and can be differentiated twice.",
        parameters="2*C", buffers="2*C", cost=1.5, absorbs_bias=True, batch_statistics=True, synchronised=True,
    ),
    "renorm": NormRow(
        "bncli.norms.renorm:BatchRenorm", "batch normalisation corrected towards the running statistics in training",
        {
            "rmax": Option(
                AtLeastOne, 3.0,
                "largest correction of the scale, either way, once it is reached", "factor"
            ),
            "dmax": Option(NonNegative, 5.0, "largest correction of the mean", "standard deviations"),
            "plain_steps": Option(
                Natural, 5_000,
                "training steps without correction; then the bounds grow linearly", "steps"
            ),
            "rmax_steps": Option(Natural, 40_000, "training step at which rmax is reached, >= plain_steps", "steps"),
            "dmax_steps": Option(Natural, 25_000, "training step at which dmax is reached, >= plain_steps", "steps"),
            "eps": eps(1e-5),
            "momentum": Option(MOMENTUM.type, 0.01, MOMENTUM.meaning, MOMENTUM.unit),
            "affine": AFFINE,
        },
        family="batch", citation="Ioffe 2017, arXiv:1702.03275",
        formula="y = weight ((x - mean) / std r + d) + bias, std = sqrt(var + eps), r = clip(std / running std), "
        "d = clip((mean - running mean) / running std), r and d constants to the gradient",
        over="examples and locations, and training so far", evaluation="running mean and running biased std, eps in it",
        differs="torch has no such layer; its BatchNorm averages the variance, and with momentum 0.1.",
        parameters="2*C", buffers="2*C", cost=1.7, absorbs_bias=True, batch_statistics=True,
    ),
    "power": NormRow(
        "bncli.norms.transformer:PowerNorm", "division by a running quadratic mean, and a gradient that follows it",
        {
            "momentum": MOMENTUM,
            "backward_momentum": Option(Fraction, 0.1, "weight of the newest batch in the gradient's control", "share"),
            "warmup": Option(Natural, 0, "first use the batch's own quadratic mean (PN-V) for so many", "batches"),
            "differentiate": Option(bool, False, "the output's own gradient instead of the running control"),
            "eps": eps(1e-5, "added to the mean square", "squared activation"), "affine": AFFINE,
        },
        family="batch", citation="Shen et al. 2020, arXiv:2003.07845",
        formula="y = weight x / sqrt(running mean of x^2 + eps) + bias; the gradient controlled by a running product",
        over="examples and locations, and training so far", evaluation="running quadratic mean",
        differs="The authors' code scales each token's channels by groups first, divides its gradient by the batch's"
        " quadratic mean, and has a warm-up by default. torch has no such layer.",
        parameters="2*C", buffers="2*C", cost=1.8, batch_statistics=True,
    ),
    "noisy-batch": NormRow(
        "bncli.norms.ghost:NoisyBatchNorm",
        "batch normalisation, then random shifts and scales: covariate shift put back",
        {
            "n_mu": Option(NonNegative, 0.5, "a channel's shift is drawn from +- this", "standard deviations"),
            "n_sigma": Option(AtLeastOne, 1.25, "a channel's scale is drawn from 1 to this", "factor"),
            "r_mu": Option(
                NonNegative, 0.1,
                "a value's shift is drawn from its channel's +- this", "standard deviations"
            ),
            "r_sigma": Option(NonNegative, 0.1, "standard deviation of a value's scale about its channel's", "factor"),
            "draws": Option(Literal["channel", "layer"], "channel", "what has a shift and a scale of its own"),
            "eps": eps(1e-5), "momentum": MOMENTUM, "affine": AFFINE,
        },
        family="batch", citation="Santurkar et al. 2018, arXiv:1805.11604",
        formula="y = s batch(x) + m, m uniform about its channel's shift, s normal about its channel's scale",
        over="examples and locations", evaluation="running mean and running unbiased variance, no noise",
        differs="Whether the paper draws shift and scale for each channel or layer, and whether r_sigma is a standard "
        "deviation or a variance, is read as said here.",
        parameters="2*C", buffers="2*C", cost=1.9, absorbs_bias=True, batch_statistics=True,
        lanes=False,  # it would run, but with other noise than alone: a run's numbers are to follow from its seed
    ),
    "frozen": NormRow(
        "bncli.norms.batch:FrozenBatchNorm", "batch normalisation by running statistics that nothing updates",
        {"eps": eps(1e-5), "affine": AFFINE},
        family="batch", citation="Wu & Johnson 2021, arXiv:2105.07576",
        formula="y = weight (x - running mean) / sqrt(running var + eps) + bias",
        over="", evaluation="the same",
        differs="torchvision's FrozenBatchNorm2d does not learn weight and bias. Untrained it has mean 0, variance 1.",
        parameters="2*C", buffers="2*C", cost=1.5,
    ),
    "detached": NormRow(
        "bncli.norms.detached:DetachedNorm", "normalisation whose statistics the gradient does not see",
        {
            "by": Option(Literal["centring", "scaling", "whitening"], "scaling", "what is done with the statistics"),
            "differentiate": Option(bool, False, "let the gradient see the statistics after all: the control"),
            "eps": eps(1e-5), "momentum": MOMENTUM,
        },
        family="batch", numerics=3, citation="Ioffe & Szegedy 2015, section 2",
        formula="y = (x - mean) / sqrt(var + eps), mean and var constants to the gradient",
        over="examples and locations", evaluation="running statistics",
        differs="The paper writes out only the centring of a bias.",
        buffers="2*C", cost=1.4, batch_statistics=True,
    ),
}  # fmt: skip
