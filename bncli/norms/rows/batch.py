"""Rows of the norms that take their statistics over the batch, and of `none`."""

from typing import Literal

from bncli.catalogue import Option
from bncli.norms.row import AFFINE, IMPL, MOMENTUM, NormRow, eps

BATCH = {
    "none": NormRow(
        "bncli.norms.batch:NoNorm", "no normalisation", family="none", citation="",
        formula="y = x", over="", evaluation="the same",
    ),
    "batch": NormRow(
        "bncli.norms.batch:Batch", "each channel to mean 0, variance 1 over the batch",
        {"eps": eps(1e-5), "momentum": MOMENTUM, "affine": AFFINE, "impl": IMPL},
        family="batch", citation="Ioffe & Szegedy 2015, arXiv:1502.03167",
        formula="y = weight (x - mean) / sqrt(var + eps) + bias, var biased",
        over="examples and locations", evaluation="running mean and running unbiased variance",
        differs="The paper averages the evaluation statistics with the weights held; this, like torch, along training.",
        parameters="2*C", buffers="2*C", cost=1.5, absorbs_bias=True, batch_statistics=True,
    ),
    "detached": NormRow(
        "bncli.norms.detached:Detached", "normalisation whose statistics the gradient does not see",
        {
            "by": Option(Literal["centring", "scaling", "whitening"], "scaling", "what is done with the statistics"),
            "differentiate": Option(bool, False, "let the gradient see the statistics after all: the control"),
            "eps": eps(1e-5), "momentum": MOMENTUM,
        },
        family="batch", citation="Ioffe & Szegedy 2015, section 2",
        formula="y = (x - mean) / sqrt(var + eps), mean and var constants to the gradient",
        over="examples and locations", evaluation="running statistics",
        differs="The paper writes out only the centring of a bias.",
        buffers="2*C", cost=1.4, batch_statistics=True,
    ),
}  # fmt: skip
