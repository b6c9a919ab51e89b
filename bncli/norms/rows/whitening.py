"""Rows of the norms that decorrelate channels as well as scale them."""

from typing import Literal

from bncli.catalogue import Count, Fraction, Option
from bncli.norms.rows import AFFINE, IMPL, MOMENTUM, NormRow, eps, group_size

STEPS = Option(Count, 5, "Newton-Schulz iterations", "iterations")
BY = Option(Literal["iterative", "zca"], "iterative", "T Newton-Schulz steps, or the symmetric root itself")

WHITENING = {
    "zca": NormRow(
        "bncli.norms.whitening:ZCA", "decorrelated batch normalisation: whitening by the symmetric root",
        {"eps": eps(1e-3), "momentum": MOMENTUM, "affine": AFFINE, "group_size": group_size(16), "impl": IMPL},
        family="whitening", numerics=3, citation="Huang et al. 2018, arXiv:1804.08450",
        formula="y = weight S^-1/2 (x - mean) + bias, S = cov + eps I",
        over="examples and locations, the channels of a group together",
        evaluation="running mean, and the root of the running covariance",
        differs="Averages the covariance; the paper's code averages S^-1/2, which over-scales in evaluation.",
        parameters="2*C", buffers="C + G*d*d", cost=3.5, absorbs_bias=True, batch_statistics=True, whitens=True,
    ),
    "pca": NormRow(
        "bncli.norms.pca:PCA", "whitening along the principal axes, which swap from batch to batch: a negative control",
        {"eps": eps(1e-3), "momentum": MOMENTUM, "affine": AFFINE, "group_size": group_size(16), "impl": IMPL},
        family="whitening", numerics=3, citation="Huang et al. 2018, arXiv:1804.08450, section 3",
        formula="y = weight L^-1/2 U^T (x - mean) + bias, S = cov + eps I = U L U^T, L descending",
        over="examples and locations, the channels of a group together",
        evaluation="running mean, and the axes of the running covariance",
        differs="Fixes the axes' signs; where eigenvalues are equal the gradient is finite and arbitrary: none exists.",
        parameters="2*C", buffers="C + G*d*d", cost=3.5, absorbs_bias=True, batch_statistics=True, whitens=True,
    ),
    "zca-cor": NormRow(
        "bncli.norms.whitening:ZCACor", "whitening by the symmetric root of the correlation, after scaling",
        {"eps": eps(1e-3), "momentum": MOMENTUM, "affine": AFFINE, "group_size": group_size(16), "impl": IMPL},
        family="whitening", numerics=3, citation="Kessy, Lewin & Strimmer 2018, arXiv:1512.00809",
        formula="y = weight P^-1/2 V^-1/2 (x - mean) + bias, S = cov + eps I = V^1/2 P V^1/2, V = diag S",
        over="examples and locations, the channels of a group together",
        evaluation="running mean, and the root of the running covariance",
        differs="The paper whitens a data set, without eps; as a layer it takes the rest from `zca`.",
        parameters="2*C", buffers="C + G*d*d", cost=3.7, absorbs_bias=True, batch_statistics=True, whitens=True,
    ),
    "cholesky": NormRow(
        "bncli.norms.whitening:Cholesky", "whitening by the inverse of the covariance's Cholesky factor",
        {"eps": eps(1e-3), "momentum": MOMENTUM, "affine": AFFINE, "group_size": group_size(16), "impl": IMPL},
        family="whitening", numerics=3, citation="Siarohin et al. 2019, arXiv:1806.00420",
        formula="y = weight L^-1 (x - mean) + bias, S = cov + eps I = L L^T",
        over="examples and locations, the channels of a group together",
        evaluation="running mean, and the factor of the running covariance",
        differs="The paper colours with a full matrix; here a scale and a shift per channel follow.",
        parameters="2*C", buffers="C + G*d*d", cost=3.0, absorbs_bias=True, batch_statistics=True, whitens=True,
    ),
    "iternorm": NormRow(
        "bncli.norms.whitening:IterNorm", "partial whitening by T Newton-Schulz steps",
        {
            "T": STEPS,
            "form": Option(
                Literal["coupled", "paper"], "coupled",
                "the stable iteration, or the published recursion with the same iterates, for T <= 7",
            ),
            "eps": eps(1e-5), "momentum": MOMENTUM, "affine": AFFINE, "group_size": group_size(64), "impl": IMPL,
        },
        family="whitening", numerics=3, citation="Huang et al. 2019, arXiv:1904.03441",
        formula="y = weight W_T (x - mean) + bias, W_T after T Newton-Schulz steps from I towards S^-1/2",
        over="examples and locations, the channels of a group together",
        evaluation="running mean, and W_T of the running covariance",
        differs="By default the coupled iteration, stable for any T; averages the covariance, the paper's code W_T.",
        parameters="2*C", buffers="C + G*d*d", cost=5.0, absorbs_bias=True, batch_statistics=True, whitens=True,
    ),
    "group-whitening": NormRow(
        "bncli.norms.sample_whitening:GroupWhitening", "whitening of the groups of channels within each example",
        {
            "groups": Option(Count, 4, "groups that are made uncorrelated; must divide the channels", "groups"),
            "by": BY, "T": STEPS, "eps": eps(1e-5), "affine": AFFINE,
        },
        family="whitening", numerics=3, citation="Huang et al. 2021, arXiv:2009.13333",
        formula="y = weight W (x - mean) + bias, W the whitening of the covariance (plus eps I) of groups of channels",
        over="the channels of a group and the locations, each example by itself", evaluation="the same",
        differs="4 groups, the paper's networks have 64 and more; the published iterative form has no eps.",
        parameters="2*C", cost=4.0,
    ),
    "instance-whitening": NormRow(
        "bncli.norms.sample_whitening:InstanceWhitening", "whitening over the locations of each example",
        {"by": BY, "T": STEPS, "eps": eps(1e-5), "affine": AFFINE, "group_size": group_size(16)},
        family="whitening", numerics=3, citation="Pan et al. 2019, arXiv:1904.09739; Li et al. 2017, arXiv:1705.08086",
        formula="y = weight W (x - mean) + bias, W the whitening of an example's S = cov + eps I",
        over="locations, each example by itself, the channels of a group together", evaluation="the same",
        differs="The paper has it as a component of `switchable-whitening`, not alone.",
        parameters="2*C", cost=5.0, absorbs_bias=True, needs_locations=True,
    ),
    "switchable-whitening": NormRow(
        "bncli.norms.switchable_whitening:SwitchableWhitening",
        "partial whitening by a learned mixture of the batch's and each example's statistics",
        {
            "of": Option(
                Literal["bw-iw", "bw-iw-ln", "bw-iw-bn-in-ln"], "bw-iw",
                "what is mixed: whitening over the batch, over an example's locations; and their diagonals, and layer",
            ),
            "tie": Option(bool, False, "mix covariances with the weights of the means"),
            "T": STEPS, "eps": eps(1e-5),
            "momentum": Option(Fraction, 0.01, MOMENTUM.meaning, MOMENTUM.unit), "affine": AFFINE,
            "group_size": group_size(16),
        },
        family="whitening", numerics=3, citation="Pan et al. 2019, arXiv:1904.09739",
        formula="y = weight W_T (x - sum_k p_k mean_k) + bias, W_T towards (sum_k q_k S_k + eps I)^-1/2",
        over="examples and locations, and locations alone, the channels of a group together",
        evaluation="running mean and covariance for the batch's; the same for an example's own",
        differs="Averages the unbiased covariance, from I on; the published code the biased one, from 0 on.",
        parameters="2*C + 4", buffers="C + G*d*d", cost=6.0, needs_locations=True,
    ),
    "deconv": NormRow(
        "bncli.norms.whitening:Deconv", "network deconvolution over channels: partial whitening before a layer",
        {
            "T": STEPS, "eps": eps(1e-2), "momentum": MOMENTUM,
            "affine": Option(bool, False, AFFINE.meaning), "group_size": group_size(64), "impl": IMPL,
        },
        family="whitening", numerics=3, citation="Ye et al. 2020, arXiv:1905.11926",
        formula="y = W_T (x - mean), W_T after T Newton-Schulz steps from I towards (cov + eps I)^-1/2",
        over="examples and locations, the channels of a group together",
        evaluation="running mean, and W_T of the running covariance",
        differs="The paper whitens the patches a kernel sees, folded into its weights, and averages W_T.",
        buffers="C + G*d*d", cost=6.0, absorbs_bias=True, batch_statistics=True, whitens=True,
    ),
}  # fmt: skip
