"""Whole networks, anybody's: built for the data at hand, given trained weights, and their norms replaced."""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncli.errors import ConfigError, DataError, did_you_mean, first_line
from bncli.models.foreign import SIZES
from bncli.models.rows import ModelRow
from bncli.models.unit import Normaliser
from bncli.norms import NORMS
from bncli.norms.replace import replace_norms
from bncli.norms.sites import Replacement
from bncli.norms.sites.census import settle

Maker = Callable[..., Any]
_RUNNING = ("running_mean", "running_var", "num_batches_tracked")
_NO_HEAD = "its last layer is not the one that gives its output; let it take num_classes"


def make_listed(package: str, name: str, **options: Any) -> nn.Module:
    """A model of torchvision's or timm's own list, without trained weights.

    Raises:
        ConfigError: if there is none of that name, or it cannot be made.
    """
    models = _import("torchvision.models" if package == "torchvision" else package)
    known = models.list_models()
    if name not in known:
        raise ConfigError(f"model {package}:{name}: {package} has no model {name!r}{did_you_mean(name, known)}")
    make = (
        partial(models.get_model, name, weights=None)
        if package == "torchvision"
        else partial(models.create_model, name, pretrained=False)
    )
    return make_model(make, f"{package}:{name}", options)


def make_model(make: Maker, what: str, options: Mapping[str, Any]) -> nn.Module:
    """What a class or function makes.

    Raises:
        ConfigError: if it raises or makes something else; `what` begins the message.
    """
    try:
        made = make(**options)
    except Exception as error:  # anybody's code
        raise ConfigError(f"{what}: cannot be made: {first_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{what}: must give a torch module, got {type(made).__name__}")
    return made


def adapt_listed(name: str, make: Maker, row: ModelRow) -> Maker:
    """A model of a package's list as a target of MODELS."""
    package, _, listed = name.partition(":")
    sizes = ("num_classes", "in_chans") if package == "timm" else ("num_classes",)
    return _adapt(f"model {name}", partial(make, package, listed), sizes)


def adapt_whole(name: str, make: Any, row: ModelRow) -> Maker:
    """A class, function or module of a file as a target of MODELS."""
    if isinstance(make, nn.Module):
        return _adapt(f"model {name}", lambda: copy.deepcopy(make), ())
    return _adapt(f"model {name}", make, [key for key in inspect.signature(make).parameters if key in SIZES])


def _adapt(what: str, make: Maker, sizes: Any) -> Maker:
    def build(shape: tuple[int, ...], outputs: int, norm: Normaliser, **options: Any) -> nn.Module:
        return build_whole(what, make, sizes, shape, outputs, norm, **options)[0]

    build.report = partial(build_whole, what, make, sizes)  # type: ignore[attr-defined]
    return build


def build_whole(
    what: str, make: Maker, sizes: Any, shape: tuple[int, ...], outputs: int, norm: Normaliser, *,
    weights: str | None = None, checksum: str | None = None, sites: str | None = None,
    resize: tuple[int, int] | None = None, repeat: bool = False, arguments: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[nn.Module, Replacement, list[str]]:  # fmt: skip
    """A whole network for examples (N, features) of a shape, its norms replaced; drawn by torch's generator.

    Returns:
        The network, what was replaced, and what else was done to it, in words.

    Raises:
        ConfigError: if it cannot be made, takes other examples, gives other outputs, or a norm cannot stand in it.
        DataError: if the weights do not fit it.
    """

    def prepare(x: Tensor) -> Tensor:
        x = x.unflatten(-1, shape) if len(shape) > 1 else x
        x = x.repeat_interleave(3, dim=1) if repeat else x
        return F.interpolate(x, tuple(resize), mode="bilinear", antialias=True) if resize else x

    if (repeat or resize) and len(shape) != 3:
        raise ConfigError(f"{what}: resize and repeat are for images, and an example here has the shape {list(shape)}")
    if repeat and shape[0] != 1:
        raise ConfigError(f"{what}: repeat is for images of one channel, and these have {shape[0]}")
    x = prepare(torch.randn(2, torch.Size(shape).numel(), generator=torch.Generator().manual_seed(0)))
    known = {
        "shape": tuple(x.shape[1:]), "features": x[0].numel(), "in_features": x[0].numel(),
        **dict.fromkeys(("in_channels", "in_chans"), x.shape[1]),
        **dict.fromkeys(("outputs", "classes", "num_classes", "n_classes"), outputs),
    }  # fmt: skip
    model = make_model(make, what, {**{key: known[key] for key in sizes}, **options, **(arguments or {})})
    try:
        settle(model, x)
        notes = _load(model, weights, what) if weights else []
        notes += _adapt_head(model, x, outputs)
        given = NORMS.changed(norm.name, norm.options)  # what is at its default stays as the old norm has it
        model, report = replace_norms(model, norm.name, inputs=x, where=sites, **given)
    except ConfigError as error:
        found = [
            problem.message.replace("where: chooses", "sites fits whole paths (layer2.*), and chooses")
            for problem in error.problems
        ]
        raise ConfigError(*(f"{what}: {problem}" for problem in found if "strict=False" not in problem)) from error
    model.register_forward_pre_hook(lambda module, given: (prepare(given[0]), *given[1:]))
    model.register_forward_hook(lambda module, given, found: _scores(found))
    return model, report, notes


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError:
        package = module.partition(".")[0]
        raise ConfigError(f"{package} is not installed: pip install {package}") from None
    except (ImportError, RuntimeError) as error:  # made for another torch
        raise ConfigError(f"{module} cannot be imported ({str(error).splitlines()[0]})") from None


def _scores(found: Any) -> Any:
    """What of a network's output is one number for each class: the first of several, or what is called logits."""
    if isinstance(found, Tensor):
        return found
    if isinstance(found, Mapping):  # Hugging Face's outputs are one too
        return found.get("logits", found.get("out"))
    return _scores(found[0]) if isinstance(found, tuple | list) and found else getattr(found, "logits", None)


def _evaluate(model: nn.Module, x: Tensor) -> Any:
    """The scores of an evaluation; mode and generators stay."""
    mode = model.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return _scores(model.eval()(x))
    finally:
        model.train(mode)


def _adapt_head(model: nn.Module, x: Tensor, outputs: int) -> list[str]:
    """See that a network gives as many numbers as there are classes, by another last layer if need be."""
    calls: list[tuple[str, nn.Linear, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda module, given, found, path=path: calls.append((path, module, found)))
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        found = _evaluate(model, x)
    except Exception as error:  # anybody's code
        raise ConfigError(
            f"does not take examples of shape {list(x.shape[1:])}: {first_line(error)}; see model.resize and"
            " model.repeat for images of another size or number of channels"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(found, Tensor):
        raise ConfigError("must give a tensor of one number for each class; for other networks bring a loop: --task")
    if tuple(found.shape) == (len(x), outputs):
        return []
    wanted = f"must give ({len(x)}, {outputs}), a number for each class, and gives {tuple(found.shape)}"
    path, last, gave = calls[-1] if calls else ("", None, x)
    if found.ndim != 2 or gave.data_ptr() != found.data_ptr() or not last or not path:
        raise ConfigError(f"{wanted}; {_NO_HEAD}")
    above, _, name = path.rpartition(".")
    head = nn.Linear(last.in_features, outputs, bias=last.bias is not None)
    setattr(model.get_submodule(above), name, head.to(last.weight.device, last.weight.dtype))
    found = _evaluate(model, x)
    if tuple(found.shape) != (len(x), outputs):
        raise ConfigError(f"{wanted}; {_NO_HEAD}")
    return [f"its last layer {path} gave {last.out_features} numbers; it is drawn anew for {outputs}"]


def _load(model: nn.Module, file: str, what: str) -> list[str]:
    """Load trained weights, without running any code of theirs; a last layer for other classes may stay as drawn.

    Raises:
        DataError: if they cannot be read or are of another network.
    """
    place = Path(file).name
    try:
        found = _read(file)
    except Exception as error:  # torch raises whatever a file makes it raise
        raise DataError(
            f"{what}: weights {place} cannot be read as a state_dict ({type(error).__name__}); write it by"
            " torch.save(model.state_dict(), FILE): other objects would run code"
        ) from None
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"{what}: weights {place}: expected a state_dict, names with tensors")
    given = {key.removeprefix("module."): value for key, value in found.items()}
    own = model.state_dict()
    other = sorted(key for key in given.keys() & own.keys() if given[key].shape != own[key].shape)
    strange = [key for key in given.keys() ^ own.keys() if not key.endswith(_RUNNING)]
    heads = {key.rpartition(".")[0] for key in other}
    same = all(given[key].shape[1:] == own[key].shape[1:] for key in other)  # but for the number of classes
    if (
        strange
        or len(heads) > 1
        or not (same and all(isinstance(model.get_submodule(name), nn.Linear) for name in heads))
    ):
        shapes = [f"{key} {list(given[key].shape)} where {list(own[key].shape)} is expected" for key in other]
        wrong = [f"{key} {'unknown' if key in given else 'missing'}" for key in sorted(strange)] or shapes
        raise DataError(
            f"{what}: weights {place} are of another network: {len(wrong)} names or shapes differ, such as"
            f" {', '.join(wrong[:3])}"
        )
    if broken := [key for key, value in given.items() if not value.isfinite().all()]:
        raise DataError(f"{what}: weights {place} hold values that are not finite, in {broken[0]}")
    model.load_state_dict({key: value for key, value in given.items() if key not in other}, strict=False)
    return [f"weights {place} are of other classes: {other[0].rpartition('.')[0]} is drawn anew"] if other else []


def _read(file: str) -> Any:
    if file.endswith(".safetensors"):
        reader: Any = import_module("safetensors.torch")
        return reader.load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)
