"""Rows of the norms that decorrelate channels as well as scale them."""

from bncli.catalogue import Count, Option
from bncli.norms.row import AFFINE, IMPL, MOMENTUM, NormRow, eps, group_size

WHITENING = {
    "zca": NormRow(
        "bncli.norms.whitening:ZCA", "decorrelated batch normalisation: whitening by the symmetric root",
        {"eps": eps(1e-3), "momentum": MOMENTUM, "affine": AFFINE, "group_size": group_size(16), "impl": IMPL},
        family="whitening", citation="Huang et al. 2018, arXiv:1804.08450",
        formula="y = weight S^-1/2 (x - mean) + bias, S = cov + eps I",
        over="examples and locations, the channels of a group together",
        evaluation="running mean, and the root of the running covariance",
        differs="Averages the covariance; the paper's code averages S^-1/2, which over-scales in evaluation.",
        parameters="2*C", buffers="C + G*d*d", cost=3.5, absorbs_bias=True, batch_statistics=True, whitens=True,
    ),
    "cholesky": NormRow(
        "bncli.norms.whitening:Cholesky", "whitening by the inverse of the covariance's Cholesky factor",
        {"eps": eps(1e-3), "momentum": MOMENTUM, "affine": AFFINE, "group_size": group_size(16), "impl": IMPL},
        family="whitening", citation="Siarohin et al. 2019, arXiv:1806.00420",
        formula="y = weight L^-1 (x - mean) + bias, S = cov + eps I = L L^T",
        over="examples and locations, the channels of a group together",
        evaluation="running mean, and the factor of the running covariance",
        differs="The paper colours with a full matrix; here a scale and a shift per channel follow.",
        parameters="2*C", buffers="C + G*d*d", cost=3.0, absorbs_bias=True, batch_statistics=True, whitens=True,
    ),
    "iternorm": NormRow(
        "bncli.norms.whitening:IterNorm", "partial whitening by T Newton-Schulz steps",
        {
            "T": Option(Count, 5, "Newton-Schulz iterations"),
            "eps": eps(1e-5), "momentum": MOMENTUM, "affine": AFFINE, "group_size": group_size(64), "impl": IMPL,
        },
        family="whitening", citation="Huang et al. 2019, arXiv:1904.03441",
        formula="y = weight W_T (x - mean) + bias, W_T after T Newton-Schulz steps from I towards S^-1/2",
        over="examples and locations, the channels of a group together",
        evaluation="running mean, and W_T of the running covariance",
        differs="The coupled iteration, stable for any T; averages the covariance, the paper's code W_T.",
        parameters="2*C", buffers="C + G*d*d", cost=5.0, absorbs_bias=True, batch_statistics=True, whitens=True,
    ),
}  # fmt: skip
