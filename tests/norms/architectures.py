"""Networks of torchvision, timm and of the tests' own to replace the norms of: each small, with a batch for it."""

import importlib.util
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn


class Generator(nn.Module):
    """Of a GAN: transposed convolutions, each with a norm and a ReLU in place."""

    example = (12, 2, 2)

    def __init__(self, noise: int = 12, width: int = 8) -> None:
        super().__init__()
        widths = [noise, 4 * width, 2 * width, width]
        blocks = [
            (nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b in pairwise(widths)
        ]
        self.main = nn.Sequential(*(m for block in blocks for m in block), nn.ConvTranspose2d(width, 3, 4, 2, 1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.main(z).tanh()


class UNet(nn.Module):
    """Two levels, a skip connection; a group, an instance and a batch norm."""

    example = (3, 16, 16)

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = self.block(3, width, nn.GroupNorm(4, width))
        self.inner = self.block(width, 2 * width, nn.InstanceNorm2d(2 * width, affine=True))
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.out = self.block(2 * width, width, nn.BatchNorm2d(width))
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def block(inputs: int, outputs: int, norm: nn.Module) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), norm, nn.LeakyReLU(0.2, inplace=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.down(x)
        coarse = self.inner(nn.functional.max_pool2d(fine, 2))
        return self.head(self.out(torch.cat([fine, self.up(coarse)], 1)))


REASON = "torchvision and timm are installed by .ci/run and .ci/nightly only"
_LIBRARIES: list[torch.library.Library] = []  # what is defined lasts as long as they


def torchvision() -> Any:
    """The package, with the two operators that it lacks where torch has no build of it; or the test is skipped."""
    if importlib.util.find_spec("torchvision") and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
    return pytest.importorskip("torchvision", reason=REASON)


def timm() -> Any:
    """The package, which imports torchvision; or the test is skipped."""
    torchvision()
    return pytest.importorskip("timm", reason=REASON)


def _of_torchvision(name: str, **options: object) -> nn.Module:
    models = torchvision().models
    return models.get_model(name, weights=None, **options)


def _densenet() -> nn.Module:
    densenet = torchvision().models.DenseNet
    return densenet(8, (2, 2, 2, 2), 16, num_classes=10)


def _convnext() -> nn.Module:
    convnext = torchvision().models.convnext
    config = convnext.CNBlockConfig
    return convnext.ConvNeXt([config(16, 32, 2), config(32, None, 2)], num_classes=10)


def _vit() -> nn.Module:
    models = torchvision().models
    return models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10)


def _swin() -> nn.Module:
    models = torchvision().models
    return models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [2, 2], num_classes=10)


def _segmentation() -> nn.Module:
    models = torchvision().models.segmentation
    return models.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)


def _of_timm(name: str, **options: object) -> nn.Module:
    return timm().create_model(name, pretrained=False, num_classes=10, **options)


Network = tuple[Callable[[], nn.Module], tuple[int, ...]]  # and the shape of an example

OWN: dict[str, Network] = {"generator": (Generator, Generator.example), "u-net": (UNet, UNet.example)}
TORCHVISION: dict[str, Network] = {
    "resnet18": (partial(_of_torchvision, "resnet18", num_classes=10), (3, 64, 64)),
    "densenet": (_densenet, (3, 64, 64)),
    "mobilenet_v2": (partial(_of_torchvision, "mobilenet_v2", num_classes=10, width_mult=0.25), (3, 64, 64)),
    "mobilenet_v3_small": (partial(_of_torchvision, "mobilenet_v3_small", num_classes=10), (3, 64, 64)),
    "efficientnet_b0": (partial(_of_torchvision, "efficientnet_b0", num_classes=10), (3, 64, 64)),
    "inception_v3": (
        partial(_of_torchvision, "inception_v3", num_classes=10, init_weights=False, aux_logits=False), (3, 107, 107)
    ),
    "vgg11_bn": (partial(_of_torchvision, "vgg11_bn", num_classes=10), (3, 64, 64)),
    "regnet_y_400mf": (partial(_of_torchvision, "regnet_y_400mf", num_classes=10), (3, 64, 64)),
    "convnext": (_convnext, (3, 64, 64)),
    "vit": (_vit, (3, 32, 32)),
    "swin": (_swin, (3, 64, 64)),
    "lraspp": (_segmentation, (3, 64, 64)),
}  # fmt: skip
TIMM: dict[str, Network] = {
    "timm/resnet18": (partial(_of_timm, "resnet18"), (3, 64, 64)),
    "timm/resnetv2_18": (partial(_of_timm, "resnetv2_18"), (3, 64, 64)),  # norm and activation in one
    "timm/mobilenetv3_small_050": (partial(_of_timm, "mobilenetv3_small_050"), (3, 64, 64)),
    "timm/convnext_atto": (partial(_of_timm, "convnext_atto"), (3, 64, 64)),
    "timm/vit_tiny": (partial(_of_timm, "vit_tiny_patch16_224", img_size=64, depth=2), (3, 64, 64)),
    "timm/poolformer_s12": (partial(_of_timm, "poolformer_s12"), (3, 64, 64)),
}  # fmt: skip
