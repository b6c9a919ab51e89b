"""The rows of the metrics of shift, and what a row says."""

import math
from dataclasses import dataclass
from typing import Literal

from bncli.catalogue import Fraction, Option, Row

MetricKind = Literal[
    "pair", "sample", "gradient", "landscape", "statistics", "draws", "modes", "weight", "weight-gradient"
]
Tier = Literal["light", "standard", "full"]


@dataclass(frozen=True, kw_only=True)
class MetricRow(Row):
    """A metric's row: all that a study, a listing or a report must know of it without importing torch."""

    kind: MetricKind  # what it is a function of (bncli/shift/__init__.py)
    per: Literal["unit", "layer"]  # what it is a number of: each channel, or the whole layer
    unit: str  # of the number: "activation", "share", "nats"; "" for a pure number
    low: float = 0.0  # the least that it can be
    high: float = math.inf  # the most
    null: float | None = None  # what it is where nothing has changed; None if no value says that
    better: Literal["lower", "higher"] | None = None  # the side that those who proposed it call better, if any
    # light: moments, quantiles, counts alone; full: spectra, or further passes of the network; None: asked for by its
    # name alone, as what came later is, so that a study that asks for a tier stays the same study
    tier: Tier | None = "standard"
    relative: bool = False  # it stays as it is where all activations, or gradients, are multiplied by one number
    formula: str  # in plain text
    citation: str


_FIGURE_1 = "Ioffe & Szegedy 2015, arXiv:1502.03167, section 4.1, figure 1"
_WASSERSTEIN = "Villani 2009, Optimal Transport, chapter 6"
_GAUSSIAN_W2 = "Dowson & Landau 1982, The Frechet distance between multivariate normal distributions"
_KL = "Jeffreys 1946; Kullback & Leibler 1951"
_SANTURKAR = "Santurkar et al. 2018, arXiv:1805.11604"
_HUANG = "after Huang et al. 2022, Delving into the estimation shift of batch normalization"

PERCENTILES = {
    "percentiles": MetricRow(
        "bncli.shift.distribution:percentiles", "the 15th, 50th and 85th percentile of each unit",
        kind="sample", per="unit", unit="activation", low=-math.inf, tier="light",
        formula="q(.15), q(.50), q(.85)", citation=_FIGURE_1,
    ),
    "percentile-drift": MetricRow(
        "bncli.shift.distribution:percentile_drift", "how far the three percentiles moved, on average",
        kind="pair", per="unit", unit="activation", null=0, better="lower", tier="light",
        formula="mean |q' - q| over the three", citation=f"after {_FIGURE_1}",
    ),
    "percentile-drift-relative": MetricRow(
        "bncli.shift.distribution:relative_percentile_drift", "the same in widths of the band between 15 and 85 %",
        kind="pair", per="unit", unit="band width", null=0, better="lower", tier="light", relative=True,
        formula="mean |q' - q| / (q(.85) - q(.15))", citation=f"after {_FIGURE_1}",
    ),
}  # fmt: skip

DISTRIBUTION = {
    "location-drift": MetricRow(
        "bncli.shift.distribution:location_drift", "how many of its standard deviations a unit's mean moved",
        kind="pair", per="unit", unit="standard deviation", null=0, better="lower", tier="light", relative=True,
        formula="|m' - m| / s", citation="after Ioffe & Szegedy 2015, arXiv:1502.03167, section 2",
    ),
    "scale-drift": MetricRow(
        "bncli.shift.distribution:scale_drift", "by what factor a unit widened or narrowed, as a logarithm",
        kind="pair", per="unit", unit="log factor", null=0, better="lower", tier="light", relative=True,
        formula="|log(s' / s)|", citation="after Ioffe & Szegedy 2015, arXiv:1502.03167, section 2",
    ),
    "w1": MetricRow(
        "bncli.shift.distribution:w1", "1-Wasserstein distance: how far the unit's values must be carried, on average",
        kind="pair", per="unit", unit="activation", null=0, better="lower",
        formula="mean |sort(x') - sort(x)|", citation=_WASSERSTEIN,
    ),
    "w1-relative": MetricRow(
        "bncli.shift.distribution:relative_w1", "the same in standard deviations before",
        kind="pair", per="unit", unit="standard deviation", null=0, better="lower", relative=True,
        formula="mean |sort(x') - sort(x)| / s", citation=_WASSERSTEIN,
    ),
    "gaussian-w2": MetricRow(
        "bncli.shift.distribution:gaussian_w2", "2-Wasserstein distance of Gaussians fitted to the unit",
        kind="pair", per="unit", unit="activation", null=0, better="lower", tier="light",
        formula="sqrt((m - m')^2 + (s - s')^2)", citation=_GAUSSIAN_W2,
    ),
    "symmetric-kl": MetricRow(
        "bncli.shift.distribution:symmetric_kl", "divergence of Gaussians fitted to the unit, both ways",
        kind="pair", per="unit", unit="nats", null=0, better="lower", tier="light", relative=True,
        formula="((s/s' - s'/s)^2 + (m - m')^2 (1/s^2 + 1/s'^2)) / 2", citation=_KL,
    ),
    "symmetric-kl-standardised": MetricRow(
        "bncli.shift.distribution:standardised_symmetric_kl", "the same without what the whole layer shifts and scales",
        kind="pair", per="unit", unit="nats", null=0, better="lower", tier="light", relative=True,
        formula="symmetric-kl of (x - layer's mean) / layer's deviation, before and after each by its own",
        citation=_KL,
    ),
    "ks": MetricRow(
        "bncli.shift.distribution:ks", "largest gap between the unit's distribution functions",
        kind="pair", per="unit", unit="share", high=1, null=0, better="lower", relative=True,
        formula="max |F' - F|", citation="Kolmogorov 1933; Smirnov 1948",
    ),
    "frechet": MetricRow(
        "bncli.shift.conditioning:frechet", "2-Wasserstein distance of Gaussians fitted to the whole layer",
        kind="pair", per="layer", unit="activation", null=0, better="lower", tier="full",
        formula="sqrt(|m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2))", citation=_GAUSSIAN_W2,
    ),
    "saturation": MetricRow(
        "bncli.shift.statistics:saturation", "share of inputs where the activation has next to no slope",
        {
            "activation": Option(
                Literal["sigmoid", "tanh", "relu", "gelu", "silu", "identity"], "sigmoid", "the activation"
            ),
        },
        kind="sample", per="unit", unit="share", high=1, better="lower", tier="light",
        formula="share of |g'(x)| < 0.1 max |g'|", citation="after Glorot & Bengio 2010, section 3",
    ),
    "activation-rms": MetricRow(
        "bncli.shift.distribution:activation_rms", "root mean square over examples and units: how large the values are",
        kind="sample", per="layer", unit="activation", tier=None,
        formula="sqrt(mean x^2)", citation="after Bjorck et al. 2018, arXiv:1806.02375, section 3",
    ),
}  # fmt: skip

CONDITIONING = {
    "condition-number": MetricRow(
        "bncli.shift.conditioning:condition_number", "largest over least eigenvalue of the covariance",
        kind="sample", per="layer", unit="", low=1, better="lower", tier="full", relative=True,
        formula="l_1 / l_C", citation="LeCun et al. 1998, Efficient BackProp, section 5",
    ),
    "condition-number-part": MetricRow(
        "bncli.shift.conditioning:partial_condition_number", "the same, the least eigenvalues left out",
        {"share": Option(Fraction, 0.9, "of the eigenvalues that count", "share")},
        kind="sample", per="layer", unit="", low=1, better="lower", tier="full", relative=True,
        formula="l_1 / l_k, k = ceil(share C)", citation="after Huang et al. 2018, arXiv:1804.08450",
    ),
    "whiteness": MetricRow(
        "bncli.shift.conditioning:whiteness", "how far the covariance is from the identity",
        kind="sample", per="layer", unit="squared activation", better="lower",
        formula="||S - I||_F / sqrt(C)", citation="after Huang et al. 2018, arXiv:1804.08450",
    ),
    "correlation": MetricRow(
        "bncli.shift.conditioning:correlation", "mean squared correlation of two units",
        kind="sample", per="layer", unit="", high=1, better="lower", relative=True,
        formula="mean R_ij^2 over i != j", citation="after Cogswell et al. 2016, arXiv:1511.06068",
    ),
    "stable-rank": MetricRow(
        "bncli.shift.conditioning:stable_rank", "total variance in units of that along the widest direction",
        kind="sample", per="layer", unit="directions", low=1, better="higher", tier="full", relative=True,
        formula="sum l / l_1", citation="Rudelson & Vershynin 2007; Daneshmand et al. 2020, arXiv:2003.01652",
    ),
    "effective-rank": MetricRow(
        "bncli.shift.conditioning:effective_rank", "how many even directions have the same entropy",
        kind="sample", per="layer", unit="directions", low=1, better="higher", tier="full", relative=True,
        formula="exp(-sum p log p), p = l / sum l", citation="after Roy & Vetterli 2007, The effective rank",
    ),
    "participation": MetricRow(
        "bncli.shift.conditioning:participation", "how many even directions have the same sum of squared variances",
        kind="sample", per="layer", unit="directions", low=1, better="higher", relative=True,
        formula="(sum l)^2 / sum l^2", citation="participation ratio; Bell & Dean 1970",
    ),
    "mean-cosine": MetricRow(
        "bncli.shift.conditioning:mean_cosine", "how much two examples point the same way",
        kind="sample", per="layer", unit="", low=-1, high=1, better="lower", relative=True,
        formula="mean x_i x_j / (|x_i| |x_j|) over i != j", citation="Lubana et al. 2021, arXiv:2106.05956",
    ),
}  # fmt: skip

GRADIENT = {
    "gradient-shift": MetricRow(
        "bncli.shift.gradients:shift_norm", "what the preceding layers' step changes of a layer's gradient",
        kind="gradient", per="layer", unit="gradient", null=0, better="lower",
        formula="||G - G'||_2", citation=f"{_SANTURKAR}, definition 2.1",
    ),
    "gradient-shift-relative": MetricRow(
        "bncli.shift.gradients:relative_shift", "the same in lengths of the gradient",
        kind="gradient", per="layer", unit="gradient's length", null=0, better="lower", relative=True,
        formula="||G - G'||_2 / ||G||_2", citation=f"after {_SANTURKAR}, definition 2.1",
    ),
    "gradient-cosine": MetricRow(
        "bncli.shift.gradients:cosine", "cosine of the angle by which it turns a layer's gradient",
        kind="gradient", per="layer", unit="", low=-1, high=1, null=1, better="higher", relative=True,
        formula="G G' / (||G|| ||G'||)", citation=f"{_SANTURKAR}, section 2.2",
    ),
}  # fmt: skip

WEIGHT = {
    "gradient-norm": MetricRow(
        "bncli.shift.gradients:l2_norm", "length of the loss's gradient in a layer's weight",
        kind="weight-gradient", per="layer", unit="gradient", tier=None,
        formula="||dL/dW||_2", citation="Glorot & Bengio 2010; Yang et al. 2019, arXiv:1902.08129",
    ),
    "weight-norm": MetricRow(
        "bncli.shift.gradients:l2_norm", "length of a layer's weight",
        kind="weight", per="layer", unit="weight", tier=None,
        formula="||W||_2", citation="van Laarhoven 2017, arXiv:1706.05350",
    ),
}  # fmt: skip

LANDSCAPE = {
    "loss-range": MetricRow(
        "bncli.shift.gradients:loss_range", "how much the loss differs along the step",
        kind="landscape", per="layer", unit="loss", null=0, better="lower", tier="full",
        formula="max L - min L over the step sizes", citation=f"{_SANTURKAR}, section 3.1",
    ),
    "gradient-predictiveness": MetricRow(
        "bncli.shift.gradients:gradient_predictiveness", "how much the gradient changes along the step",
        kind="landscape", per="layer", unit="gradient", null=0, better="lower", tier="full",
        formula="max ||grad L(theta) - grad L(theta - eta grad)||_2", citation=f"{_SANTURKAR}, section 3.1",
    ),
    "effective-smoothness": MetricRow(
        "bncli.shift.gradients:effective_smoothness", "the same by the distance walked: beta-smoothness along the step",
        kind="landscape", per="layer", unit="gradient per weight", null=0, better="lower", tier="full",
        formula="max ||grad L(theta) - grad L(theta - eta grad)||_2 / ||eta grad||_2",
        citation=f"{_SANTURKAR}, section 3.1",
    ),
}  # fmt: skip

STATISTICS = {
    "estimation-shift-mean": MetricRow(
        "bncli.shift.statistics:mean_estimation_shift", "running mean against the population's, same weights",
        kind="statistics", per="layer", unit="activation", null=0, better="lower",
        formula="||mean_running - mean||_2", citation=_HUANG,
    ),
    "estimation-shift-var": MetricRow(
        "bncli.shift.statistics:var_estimation_shift", "running variance against the population's, same weights",
        kind="statistics", per="layer", unit="squared activation", null=0, better="lower",
        formula="||var_running - var||_2", citation=_HUANG,
    ),
    "estimation-shift-relative": MetricRow(
        "bncli.shift.statistics:relative_estimation_shift", "both in the population's standard deviations",
        kind="statistics", per="layer", unit="standard deviation", null=0, better="lower", relative=True,
        formula="sqrt(mean(((m_running - m)^2 + (s_running - s)^2) / s^2))", citation=_HUANG,
    ),
    "normalisation-disturbance": MetricRow(
        "bncli.shift.statistics:normalisation_disturbance", "how far an output strays with the rest of its batch",
        kind="draws", per="layer", unit="activation", null=0, better="lower", tier="full",
        formula="mean_b ||G(x; X_b) - mean_b G(x; X_b)||_2 / sqrt(C)",
        citation="Huang et al. 2019, arXiv:1904.03441, section 3.3",
    ),
    "mode-gap": MetricRow(
        "bncli.shift.statistics:mode_gap", "outputs in evaluation against outputs in training",
        kind="modes", per="layer", unit="standard deviation", null=0, better="lower", relative=True,
        formula="||T - E||_F / ||T - mean T||_F", citation="after Singh & Shrivastava 2019, arXiv:1904.06031",
    ),
}  # fmt: skip
