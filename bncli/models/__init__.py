"""Networks that take a norm factory: what there is, and what a study must know of it."""

from math import prod
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from bncli.catalogue import LARGEST, WHOLE, Count, Option, Pixels, Spelling
from bncli.models import sizes
from bncli.models.foreign import ModelCatalogue
from bncli.models.rows import ModelRow
from bncli.models.sizes import Layer as Layer
from bncli.models.sizes import Options, Shape


def _initialisation(given: Any) -> Any:
    if given in ("he", "glorot"):
        return given
    if isinstance(given, dict) and list(given) == ["normal"] and isinstance(given["normal"], int | float):
        if 0 < given["normal"] <= LARGEST:
            return {"normal": float(given["normal"])}
        raise ValueError(f"normal must be > 0{' and finite' * (given['normal'] > 0)}, got {given['normal']}")
    raise ValueError(f"must be 'he', 'glorot' or {{normal: STANDARD_DEVIATION}}, got {given!r}")


def _depth(given: int) -> int:
    if given % 6 != 2:
        raise ValueError(f"must be 6n + 2 (8, 14, 20, ...), got {given}")
    return given


_ACTIVATION = Literal["sigmoid", "tanh", "relu", "gelu", "identity"]
_INIT = Annotated[
    Any,
    BeforeValidator(_initialisation),
    Spelling("he or glorot or {normal: number > 0}", {"anyOf": [
        {"enum": ["he", "glorot"]},
        {"type": "object", "properties": {"normal": {"type": "number", "exclusiveMinimum": 0}},
         "required": ["normal"], "additionalProperties": False},
    ]}),
]  # fmt: skip
_INIT_MEANING = "weights: he (normal), glorot (uniform) or {normal: standard deviation}; biases start at 0"
_LAYERS = Annotated[int, Field(ge=1, le=10_000), WHOLE]  # ten times as deep as any network that was ever reported on
_RESNET_DEPTH = Annotated[
    int,
    Field(ge=8, le=10_000),
    AfterValidator(_depth),
    WHOLE,
    Spelling("8 or 14 or 20 or ...", {"type": "integer", "minimum": 8, "maximum": 10_000}),
]
_HIDDEN = Annotated[tuple[Count, ...], Field(strict=False, max_length=10_000)]
_CHANNELS = Annotated[tuple[Count, ...], Field(strict=False, min_length=1)]
_THREE = Annotated[tuple[Count, Count, Count], Field(strict=False)]


def _common(activation: str, init: str) -> dict[str, Option]:
    """What every network with activations takes."""
    return {
        "activation": Option(_ACTIVATION, activation, "of every hidden layer"),
        "init": Option(_INIT, init, _INIT_MEANING),
        "bias": Option(
            Literal["auto", "always"], "auto", "auto leaves a bias out where the norm after it would cancel it"
        ),
    }


_PLACEMENT = {"placement": Option(Literal["pre", "post"], "pre", "the norm before or after the activation")}


def _repeated(options: Options, shape: Shape, layers: list[Layer]) -> str:
    return f"{prod(shape)}-{options['depth']}x{options['width']}-{layers[-1].channels}"


def _stages(options: Options, shape: Shape, layers: list[Layer]) -> str:
    return "-".join(str(width) for width in (_image(shape), *options["channels"], layers[-1].channels))


def _image(shape: Shape) -> str:
    return "x".join(str(length) for length in shape)


def _images_only(options: Options, shape: Shape) -> str:
    return "" if len(shape) == 3 else "needs images, and an example here is a list of numbers"


def _pooled(options: Options, shape: Shape) -> str:
    stages = len(options["channels"])
    if len(shape) == 3 and min(shape[1:]) >> stages == 0:
        return f"halves {_image(shape[1:])} pixels {stages} times, and nothing is left; give fewer channels"
    return _images_only(options, shape)


def _padded(options: Options, shape: Shape) -> str:
    channels = list(options["channels"])
    if options["shortcut"] == "pad" and channels != sorted(channels):
        return f"cannot pad channels {channels} on its shortcuts, where they get fewer; use shortcut: projection"
    return _images_only(options, shape)


def _attended(options: Options, shape: Shape) -> str:
    width, heads, patch = (options[key] for key in ("width", "heads", "patch"))
    if len(shape) == 1:
        return "takes images or tokens, and an example here is a list of numbers"
    if width % heads or (options["positions"] == "rotary" and width // heads % 2):
        even = " of an even number each, to be turned in pairs" if options["positions"] == "rotary" else ""
        return f"cannot share {width} channels among {heads} heads{even}; change width or heads"
    if len(shape) == 3 and any(side % patch for side in shape[1:]):
        return f"cannot cut {_image(shape[1:])} pixels into patches of {patch} x {patch}; change patch"
    return ""


def _blocks(options: Options, shape: Shape, layers: list[Layer]) -> str:
    placed = f"norms {options['placement']}" if options["placement"] != "none" else "no norms in blocks"
    seen = "causal, " if options["causal"] else ""
    return f"{seen}{options['depth']}x{options['width']}, {options['heads']} heads, {placed},"


MODELS = ModelCatalogue("model", {
    "mlp": ModelRow(
        "bncli.models.mlp:MLP", "fully connected: linear, norm, activation for each hidden layer, then linear",
        {
            "hidden": Option(
                _HIDDEN, (100, 100, 100),
                "of each hidden layer; []: a linear model, without a place for norms", "units"
            ),
            **_common("sigmoid", "glorot"), **_PLACEMENT,
        },
        sizes=sizes.mlp,
    ),
    "deep-mlp": ModelRow(
        "bncli.models.mlp:deep_mlp", "the same with all hidden layers alike, so that depth is one number",
        {
            "depth": Option(_LAYERS, 8, "how deep it is", "hidden layers"),
            "width": Option(Count, 100, "of each layer", "units"),
            **_common("sigmoid", "glorot"), **_PLACEMENT,
        },
        sizes=sizes.deep_mlp, text=_repeated,
    ),
    "residual-mlp": ModelRow(
        "bncli.models.mlp:ResidualMLP", "linear layers with shortcuts around (norm, activation, linear) twice",
        {
            "width": Option(Count, 100, "of each layer", "units"),
            "blocks": Option(_LAYERS, 4, "residual ones of two linear layers each", "blocks"),
            **_common("relu", "he"),
        },
        sizes=sizes.residual_mlp, residual=True,
    ),
    "convnet": ModelRow(
        "bncli.models.convolutional:ConvNet", "3x3 convolutions and max pooling in stages, then linear: a small VGG",
        {
            "channels": Option(
                _CHANNELS, (16, 32, 64),
                "of each stage's convolutions; 2x2 max pooling ends a stage", "channels"
            ),
            "convolutions": Option(_LAYERS, 1, "in each stage", "convolutions"),
            "head": Option(
                Literal["average", "flatten"], "average", "what is read out: each channel's mean, or every number"
            ),
            **_common("relu", "he"), **_PLACEMENT,
        },
        sizes=sizes.convnet, text=_stages, misfit=_pooled, locations=True,
    ),
    "resnet": ModelRow(
        "bncli.models.resnet:ResNet", "residual network for small images, of depth 6n + 2: He et al. 2016",
        {
            "depth": Option(_RESNET_DEPTH, 20, "with weights: 6n + 2", "layers"),
            "channels": Option(_THREE, (16, 32, 64), "of the three stages", "channels"),
            "shortcut": Option(
                Literal["pad", "projection"], "pad",
                "where size and channels change: zeros for new channels (option A), or a 1x1 convolution and norm (B)",
            ),
            **_common("relu", "he"), **_PLACEMENT,
        },
        sizes=sizes.resnet, misfit=_padded, locations=True, residual=True,
        text=lambda options, shape, layers: f"depth {options['depth']} {_stages(options, shape, layers)}",
    ),
    "inception-bn": ModelRow(
        "bncli.models.convolutional:InceptionBN",
        "modules 3a, 3b, 3c, 4a of Ioffe & Szegedy 2015's Inception, narrowed",
        {
            "divisor": Option(
                Literal[1, 2, 4, 8, 16, 32], 8,
                "how many times fewer channels than in the paper", "factor"
            ),
            **_common("relu", "he"), **_PLACEMENT,
        },
        sizes=sizes.inception, misfit=_images_only, locations=True,
        text=lambda options, shape, layers: f"{_image(shape)}-3a3b3c4a/{options['divisor']}-{layers[-1].channels}",
    ),
    "deep-linear": ModelRow(
        "bncli.models.mlp:DeepLinear", "matrices alone, a norm behind each: Santurkar et al. 2018",
        {
            "depth": Option(_LAYERS, 25, "how deep it is", "matrices"),
            "width": Option(Count, 10, "between the matrices", "numbers"),
            "init": Option(_INIT, "glorot", _INIT_MEANING),
        },
        sizes=sizes.deep_linear, text=_repeated,
    ),
    "shift": ModelRow(
        "bncli.models.mlp:Shift", "one layer that adds a learned bias, then a norm: Ioffe & Szegedy 2015, section 2",
        sizes=sizes.shift, layers=False,
    ),
    "transformer": ModelRow(
        "bncli.models.transformer:Transformer", "attention and perceptrons, on tokens (BERT, GPT) or patches (ViT)",
        {
            "depth": Option(_LAYERS, 3, "of attention and a perceptron each", "blocks"),
            "width": Option(Count, 32, "of the stream that blocks add to", "channels"),
            "heads": Option(Count, 2, "that the channels are shared among", "heads"),
            "factor": Option(Count, 4, "hidden units of a block's perceptron, as times the width", "factor"),
            "patch": Option(Pixels, 4, "side of the squares that images are cut into", "pixels"),
            "activation": Option(Literal["gelu", "relu", "swiglu"], "gelu", "of the perceptrons"),
            "placement": Option(
                Literal["pre", "post", "sandwich", "none"], "pre",
                "norms before each branch, after each sum (BERT), before and behind each branch, or in no block",
            ),
            "final_norm": Option(
                Literal["auto", True, False], "auto", "a norm before the readout; auto: with pre and sandwich"
            ),
            "statistics": Option(
                Literal["all", "position"], "all",
                "over which positions norms of the batch take them, or over each by itself, with scales of its own",
            ),
            "causal": Option(bool, False, "a position sees only those before it; for data.predict: next"),
            "positions": Option(Literal["learned", "rotary"], "learned", "how a position is told from others"),
            "qk_norm": Option(bool, False, "RMSNorm of each head's queries and keys, whatever the norm is"),
            "init": Option(_INIT, "glorot", _INIT_MEANING),
        },
        sizes=sizes.transformer, text=_blocks, misfit=_attended, locations=True, positions=True, residual=True,
        cost=2.0,  # attention's own products, softmax, GELU: measured 1.8 by `compare rmsnorm`
    ),
})  # fmt: skip
