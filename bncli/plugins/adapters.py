"""What a plug-in gives as mere functions, made into what the engine calls: models, data sets, metrics, optimisers."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bncli.catalogue import Row
from bncli.data import DataRow
from bncli.data.splits import Split, Splits
from bncli.errors import ConfigError, DataError
from bncli.models.rows import ModelRow
from bncli.models.unit import Normaliser
from bncli.optim.optimizers import Hyper, Optimizer, Params, State
from bncli.shift.rows import MetricRow

Function = Callable[..., Any]


def adapt_model(name: str, make: Function, row: ModelRow) -> Function:
    """A function of norm, shape or features, outputs or classes, by keyword, as a target of MODELS.

    A network that takes a shape is given examples of it, (N, *shape). One that says nothing of its weights (no
    attribute `init`) has drawn them when it was made, from the run's seed.
    """
    wanted = inspect.signature(make).parameters

    def build(inputs: Any, outputs: int, norm: Normaliser, **options: Any) -> nn.Module:
        given = {"norm": norm, "shape": inputs, "features": inputs, "outputs": outputs, "classes": outputs}
        named = {key: value for key, value in given.items() if key in wanted}
        made = make(**named, **options)
        if not isinstance(made, nn.Module):
            raise ConfigError(f"plug-in {row.origin}: model {name!r}: must give a torch module, got {_kind(made)}")
        if row.locations:
            made.register_forward_pre_hook(lambda module, given: (given[0].unflatten(-1, inputs), *given[1:]))
        return made

    return build


def adapt_data(name: str, load: Function, row: DataRow) -> Function:
    """A loader of `Splits`, or of {"train": (inputs, targets), "validation": ..., "test": ...}, as one of `Splits`.

    Raises:
        DataError: where options make of it what the row does not say.
    """

    def checked(*, device: str, **options: Any) -> Splits:
        splits, _ = _load(name, load, row, device, options)
        for part, split in _parts(splits).items():
            if split.stored.shape[1] != row.features:
                raise DataError(
                    f"plug-in {row.origin}: data set {name!r}: an example of its {part} part has"
                    f" {split.stored.shape[1]} numbers, and {row.features} by its defaults; let options keep that"
                )
            if row.classes and len(split) and int(split.targets.max()) >= row.classes:
                most = int(split.targets.max())
                raise DataError(
                    f"plug-in {row.origin}: data set {name!r}: there is a class {most} in its {part} part, and by its"
                    f" defaults they are 0 to {row.classes - 1}; let options keep that"
                )
        return splits

    return checked


def measure_data(name: str, load: Function, row: DataRow) -> DataRow:
    """The row with what loading the data with its defaults tells: examples, their shape, classes or targets.

    Raises:
        DataError: if it is no data.
    """
    defaults = {key: option.default for key, option in row.options.items()}
    splits, shape = _load(name, load, row, "cpu", defaults)
    parts = _parts(splits)
    examples = {part: len(split) for part, split in parts.items()}
    if splits.train.targets.is_floating_point():
        targets = splits.train.targets.shape[1]
        return replace(row, examples=examples, shape=shape, targets=targets, loss="squared_error")
    classes = 1 + max(int(split.targets.max()) for split in parts.values() if len(split))
    return replace(row, examples=examples, shape=shape, classes=classes)


def _load(
    name: str, load: Function, row: DataRow, device: str, options: Mapping[str, Any]
) -> tuple[Splits, tuple[int, ...]]:
    """Splits on a device, and the shape of an example before it was flattened."""
    what = f"plug-in {row.origin}: data set {name!r}"
    try:
        made = load(device=device, **options)
    except Exception as error:  # anybody's code
        raise DataError(f"{what}: {type(error).__name__}: {error}") from error
    if isinstance(made, Splits):
        return made, tuple(made.train.stored.shape[1:])
    names = ("train", "validation", "test")
    if not isinstance(made, Mapping) or set(made) != set(names):
        raise DataError(f"{what}: must give {{train, validation, test: (inputs, targets)}}, got {_kind(made)}")
    splits = {}
    for part in names:
        x, y = (torch.as_tensor(values) for values in made[part])
        if len(x) != len(y):
            raise DataError(f"{what}: {len(x)} inputs and {len(y)} targets in its {part} part")
        y = y if not y.is_floating_point() else y.reshape(len(y), -1).to(torch.get_default_dtype())
        splits[part] = Split(x.reshape(len(x), -1).to(device), (y if y.is_floating_point() else y.long()).to(device))
    return Splits(**splits), tuple(torch.as_tensor(made["train"][0]).shape[1:]) or (1,)


def _parts(splits: Splits) -> dict[str, Split]:
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


def adapt_metric(name: str, metric: Function, row: MetricRow) -> Function:
    """A function of samples (N, C) as one of (*lanes, N, C): lane by lane, so that no function need know of lanes."""

    def over_lanes(*samples: Tensor, **options: Any) -> Tensor:
        lanes = samples[0].shape[:-2]
        each = zip(*(sample.reshape(-1, *sample.shape[-2:]) for sample in samples), strict=True)
        values = torch.stack([torch.as_tensor(metric(*one, **options)) for one in each])
        return values.reshape((*lanes, *values.shape[1:]))

    return over_lanes


def measure_metric(name: str, metric: Function, row: MetricRow) -> MetricRow:
    """The row with what a call tells: whether the metric is a number of each channel or of the whole layer.

    Raises:
        ConfigError: if it is neither, or raises something.
    """
    what = f"plug-in {row.origin}: metric {name!r}"
    generator = torch.Generator().manual_seed(0)
    examples, channels = 64, 7
    samples = torch.randn(2, examples, channels, generator=generator)[: 2 if row.kind == "pair" else 1]
    try:
        found = torch.as_tensor(metric(*samples))
    except Exception as error:  # anybody's code
        raise ConfigError(f"{what}: {type(error).__name__}: {error} (of samples ({examples}, {channels}))") from error
    if tuple(found.shape) not in ((), (channels,)):
        raise ConfigError(
            f"{what}: of samples ({examples}, {channels}) expected one number, or {channels} of the channels,"
            f" got shape {tuple(found.shape)}"
        )
    return replace(row, per="unit" if found.ndim else "layer")


def adapt_optimizer(name: str, make: Function, row: Row) -> Optimizer:
    """A function of options that gives an `Optimizer`, as one."""

    def made(hyper: Hyper) -> Optimizer:
        found = make(**hyper.options)
        if not isinstance(found, Optimizer):
            raise ConfigError(f"plug-in {row.origin}: optimizer {name!r}: must give an Optimizer, got {_kind(found)}")
        return found

    def init(params: Params, hyper: Hyper) -> State:
        return made(hyper).init(params, hyper)

    def update(params: Params, grads: Params, state: State, hyper: Hyper) -> None:
        made(hyper).update(params, grads, state, hyper)

    return Optimizer(init, update)


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
