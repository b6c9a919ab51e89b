"""Walks the model lists of torchvision and timm: is every norm found, and can it be replaced? For .ci/nightly.

    python tests/norms/every_model.py [torchvision] [timm] [--every 5]

Models are built without weights, on the meta device where they can be: shapes without numbers, so that size costs
nothing. One line for each model, with what was left and why; the exit code is 1 if a count is wrong or a model fails.
"""

import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator

import torch
from architectures import timm, torchvision
from torch import nn

from bncli import BncliError, replace_norms
from bncli.norms.sites.census import take_census

TO = ("group", "none")


def list_torchvision() -> Iterator[tuple[str, nn.Module]]:
    models = torchvision().models
    for name in models.list_models():
        made: dict[str, object] = {"weights": None}
        if "rcnn" in name or name.startswith(("deeplab", "fcn", "fcos", "keypoint", "lraspp", "mask", "retina", "ssd")):
            made["weights_backbone"] = None
        if name in ("googlenet", "inception_v3"):
            made["init_weights"] = False
        yield name, build(lambda name=name, made=made: models.get_model(name, **made))


def list_timm(every: int) -> Iterator[tuple[str, nn.Module]]:
    package = timm()
    for name in package.list_models()[::every]:
        yield f"timm/{name}", build(lambda name=name: package.create_model(name, pretrained=False))


def build(make: object) -> nn.Module:
    try:
        with torch.device("meta"):
            return make()  # type: ignore[operator]
    except (NotImplementedError, RuntimeError):  # "Cannot copy out of meta tensor": RegNets
        return make()  # type: ignore[operator]


def count_norms(model: nn.Module) -> Counter[str]:
    """By the classes themselves; one that is derived from them by a model's own file counts too."""
    kinds: tuple[type, ...] = (
        nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm,
        torchvision().ops.FrozenBatchNorm2d,
    )  # fmt: skip
    if "timm" in sys.modules:
        layers = timm().layers
        names = (
            "RmsNorm", "RmsNorm2d", "SimpleNorm", "SimpleNorm2d", "FilterResponseNormTlu2d", "FilterResponseNormAct2d",
            "EvoNorm2dB0", "EvoNorm2dB1", "EvoNorm2dB2", "EvoNorm2dS0", "EvoNorm2dS1", "EvoNorm2dS2",
            "FrozenBatchNormAct2d",
        )  # fmt: skip
        kinds += (layers.grn.GlobalResponseNorm, *(getattr(layers, name) for name in names))
    return Counter(type(module).__name__ for module in model.modules() if isinstance(module, kinds))


def check(name: str, model: nn.Module) -> str:
    """What is wrong with a model's replacement, or ""."""
    expected = sum(count_norms(model).values())
    census = take_census(model)
    told = [f"{len(census.sites)} norms"]
    wrong = "" if len(census.sites) == expected else f"{expected} norms counted, {len(census.sites)} found"
    if census.problem:
        told.append(f"no pass: {census.problem[:60]}")
    if census.functional:
        told.append(f"functional: {census.functional[0]}")
    for to in TO if expected else ():
        _, report = replace_norms(model, to, strict=False)
        left = Counter(f"{row.old} {row.reason}" for row in report.rows if row.reason)
        told += [f"{to} leaves {count} {what}" for what, count in left.items()]
    print(f"{name}: {'WRONG: ' + wrong if wrong else 'good'} ({'; '.join(told)})", flush=True)
    return wrong


def main() -> int:
    """The exit code."""
    warnings.simplefilter("ignore")
    every = int(sys.argv[sys.argv.index("--every") + 1]) if "--every" in sys.argv else 5
    started, failed, models = time.monotonic(), list[str](), 0
    wanted = [word for word in sys.argv[1:] if word in ("torchvision", "timm")] or ["torchvision", "timm"]
    for package in wanted:
        for name, model in list_torchvision() if package == "torchvision" else list_timm(every):
            models += 1
            try:
                if check(name, model):
                    failed.append(name)
            except BncliError as error:
                print(f"{name}: FAILED: {error}", flush=True)
                failed.append(name)
    print(f"{models} models, {len(failed)} failed ({', '.join(failed)}), {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
