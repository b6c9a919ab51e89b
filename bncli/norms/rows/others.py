"""Rows of the norms that take their statistics from each example, are an activation too, or act on weights."""

from typing import Literal

from bncli.catalogue import Fraction, Option, Positive
from bncli.norms.rows import AFFINE, EACH_LOCATION, FORCED, MOMENTUM, PARTS, NormRow, eps, groups

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
            "eps": eps(1e-5, "added to the standard deviation (`form: root`: to the variance)", "of the weights"),
            "form": Option(
                Literal["paper", "readme", "root"], "paper",
                "std: paper (biased), readme (unbiased, as the authors' code), root (eps inside the root, as timm)",
            ),
        },
        side="weight", family="weight", citation="Qiao et al. 2019, arXiv:1903.10520",
        formula="y = w x + bias, w = (v - mean) / (std + eps), std biased",
        over="the weights of an output", evaluation="the same",
        differs="Stands alone; the paper puts group or batch norm behind it. The authors' code takes the unbiased std.",
        cost=2.3, several_values=True,
    ),
    "scaled-weight-std": NormRow(
        "bncli.norms.weight:scaled_weight_std", "standardised weights that keep the activations' variance",
        {
            "eps": eps(1e-4, "the least of fan-in times variance", "of the weights, squared"),
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
        parameters="C", cost=2.6, several_values=True,
    ),
    "fixup": NormRow(
        "bncli.norms.weight:fixup", "no norm: scaled and zeroed residual branches with scalar biases",
        side="network", family="none", citation="Zhang, Dauphin & Ma 2019, arXiv:1901.09321",
        formula="y = x + multiplier branch(x); branch weights times L^(-1/(2m-2)), the last and the readout 0",
        over="", evaluation="the same",
        differs="The first layer keeps its bias per channel, and has no scalar one before it.",
        parameters="5", cost=1.15,
    ),
    "skipinit": NormRow(
        "bncli.norms.weight:skipinit", "no norm: residual branches times a learned number that starts at 0",
        side="network", family="none", citation="De & Smith 2020, arXiv:2002.10444",
        formula="y = x + multiplier branch(x), multiplier 0 at the start", over="", evaluation="the same",
        differs="Biases stay where the layers have them.",
        parameters="1", cost=1.05,
    ),
}  # fmt: skip


ALPHA0 = Option(Positive, 0.5, "alpha before training", "1 / activation")

ACTIVATION = {
    "frn": NormRow(
        "bncli.norms.activation:FRN", "filter response normalisation with a learned threshold: norm and activation",
        {"eps": eps(1e-6, "added to the mean square", "squared activation")},
        family="activation", citation="Singh & Krishnan 2020, arXiv:1911.09737",
        formula="y = max(weight x / sqrt(mean(x^2) + eps) + bias, tau)",
        over="locations of each channel of each example", evaluation="the same",
        differs="On a single location |learned_eps|, from 1e-4 on, is added to eps: the paper's rule for (N, C).",
        parameters="3*C + 1", cost=1.9, activates=True,
    ),
    "evonorm-b0": NormRow(
        "bncli.norms.activation:EvoNormB0", "found by search: the larger of batch and instance deviation, no centring",
        {"eps": eps(1e-5), "momentum": MOMENTUM},
        family="activation", citation="Liu et al. 2020, arXiv:2004.02967",
        formula="y = weight x / max(sqrt(var_batch + eps), v x + sqrt(var_instance + eps)) + bias",
        over="locations of each example, and examples and locations",
        evaluation="running unbiased variance of the batch",
        differs="Published code often has eps 1e-3. On a single location the variance of the instance is 0.",
        parameters="3*C", buffers="C", cost=2.1, batch_statistics=True, activates=True,
    ),
    "evonorm-s0": NormRow(
        "bncli.norms.activation:EvoNormS0", "found by search: a swish over the deviation of a group, no centring",
        {"groups": groups(32), "eps": eps(1e-5)},
        family="activation", citation="Liu et al. 2020, arXiv:2004.02967",
        formula="y = weight x sigmoid(v x) / sqrt(var + eps) + bias, var biased",
        over="locations and the channels of a group, of each example", evaluation="the same",
        parameters="3*C", cost=2.2, equal_groups=True, activates=True,
    ),
    "dyt": NormRow(
        "bncli.norms.activation:DyT", "dynamic tanh: squashes each value, takes no statistics",
        {"alpha0": ALPHA0},
        family="activation", citation="Zhu et al. 2025, arXiv:2503.10622",
        formula="y = weight tanh(alpha x) + bias", over="", evaluation="the same",
        parameters="2*C + 1", cost=1.1,
    ),
    "derf": NormRow(
        "bncli.norms.activation:Derf", "dynamic erf: squashes each value, takes no statistics",
        {"alpha0": ALPHA0},
        family="activation", citation="Chen et al. 2025, arXiv:2512.10938",
        formula="y = weight erf(alpha x + shift) + bias", over="", evaluation="the same",
        parameters="2*C + 2", cost=1.2,
    ),
}  # fmt: skip


OVER = Option(
    Literal["sample", "channels", "last"], "sample",
    "statistics of each example (sample), of the channels of each location, or of the last axes, which torch's takes",
    before="sample",
)  # fmt: skip

SAMPLE = {
    "layer": NormRow(
        "bncli.norms.sample:LayerNorm", "each example to mean 0, variance 1 over all its channels",
        {"eps": eps(1e-5), "affine": PARTS, "over": OVER, "impl": FORCED},
        family="sample", citation="Ba et al. 2016, arXiv:1607.06450",
        formula="y = weight (x - mean) / sqrt(var + eps) + bias, var biased",
        over="channels and locations of each example", evaluation="the same",
        differs="On maps this is torch's GroupNorm(1, C). torch's LayerNorm is over: last, with one size or several in"
        " the place of the channels; ConvNeXt's is over: channels.",
        parameters="2*C", cost=1.2, several_values=True,
    ),
    "rms": NormRow(
        "bncli.norms.sample:RMSNorm", "each example to root mean square 1 over all its channels",
        {
            "eps": eps(1e-6, "added to the mean square", "squared activation"),
            "affine": Option(bool, True, "learn a scale per channel"),
            "over": OVER, "impl": FORCED,
        },
        family="sample", citation="Zhang & Sennrich 2019, arXiv:1910.07467",
        formula="y = weight x / sqrt(mean(x^2) + eps)",
        over="channels and locations of each example", evaluation="the same",
        differs="The paper's formula has no eps, torch's default is the type's smallest step. torch's RMSNorm is over:"
        " last, with one size or several in the place of the channels.",
        parameters="C", cost=1.3,
    ),
    "scale": NormRow(
        "bncli.norms.transformer:ScaleNorm", "the channels of each location to one learned length",
        {"eps": eps(1e-5, "the least length that is divided by", "activation")},
        family="sample", citation="Nguyen & Salazar 2019, arXiv:1910.05895",
        formula="y = scale x / max(|x|, eps), |x| the root of the sum of squares", over=EACH_LOCATION,
        evaluation="the same", differs="torch has no such layer.",
        parameters="1", cost=1.3,
    ),
    "instance": NormRow(
        "bncli.norms.sample:InstanceNorm", "each channel of each example to mean 0, variance 1 over its locations",
        {
            "eps": eps(1e-5), "affine": PARTS,
            "track_running_stats": Option(
                bool, False, "keep running statistics, means over examples, and evaluate by them", before=False
            ),
            "momentum": Option(
                MOMENTUM.type, 0.1,
                f"with track_running_stats: {MOMENTUM.meaning}", "share", before=0.1
            ),
        },
        family="sample", citation="Ulyanov et al. 2016, arXiv:1607.08022",
        formula="y = weight (x - mean) / sqrt(var + eps) + bias, var biased",
        over="locations of each channel of each example", evaluation="the same",
        differs="Refuses a single location in evaluation too; torch returns the bias there. torch learns no scale and"
        " shift by default, and takes an example without the axis of examples.",
        parameters="2*C", cost=1.3, absorbs_bias=True, needs_locations=True,
    ),
    "group": NormRow(
        "bncli.norms.sample:GroupNorm", "each example to mean 0, variance 1 over each group of channels",
        {"groups": groups(32), "eps": eps(1e-5), "affine": PARTS, "impl": FORCED},
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
        parameters="2*C + 6", buffers="2*C", cost=2.1, batch_statistics=True, several_values=True,
    ),
    "online": NormRow(
        "bncli.norms.online:OnlineNorm", "each example by the statistics of those before it, gradients likewise",
        {
            "forward_momentum": Option(Fraction, 0.001, "weight of one example in the running statistics", "share"),
            "backward_momentum": Option(
                Fraction, 0.01,
                "weight of one example in the control of the gradient", "share"
            ),
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
