"""Networks of torchvision, small and with random weights, and the same networks as ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, make_layers

from tnn_edge.errors import RunError
from tnn_edge.nn import ThrottleableNetwork, build_network
from tnn_edge.nn.registry import network_module
from tnn_edge.nn.weights import load_library_weights

N_CLASSES = 7


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of network, small: ours and the library's."""

    architecture: str
    sizes: Mapping[str, Any]
    plain: Callable[[], nn.Module]
    image_size: int = 64

    def build(self, **other: Any) -> ThrottleableNetwork:
        return build_network(self.architecture, {"n_classes": N_CLASSES, **self.sizes, **other}).eval()

    def load(self, network: ThrottleableNetwork, source: Path | str) -> tuple[str, ...]:
        return load_library_weights(network, self.architecture, self.sizes, str(source))


def small_vgg(*, batch_norm: bool) -> VGG:
    """Its classes build 100 million weights for features of a size of their own; here both are small."""
    with torch.device("meta"):
        plain = VGG(nn.Sequential(), init_weights=False)
    plain.features = make_layers([8, "M", 16, 16, "M"], batch_norm=batch_norm)
    plain.classifier = nn.Sequential(
        nn.Linear(16 * 7 * 7, 32), nn.ReLU(), nn.Dropout(),
        nn.Linear(32, 16), nn.ReLU(), nn.Dropout(),
        nn.Linear(16, N_CLASSES),
    )  # fmt: skip
    return plain


DEPTHS = (1, 2, 1, 1)
WIDE = {"channels": [256, 512, 1024, 2048], "blocks": list(DEPTHS), "stem": "imagenet", "stem_channels": 64}
VGG_SIZES = {"channels": [8, 16], "convolutions": [1, 2], "hidden": [32, 16], "n_components": 4, "image_size": 28}
FAMILIES = {
    "resnet_d basic": Family(
        architecture="resnet_d",
        sizes={"channels": [64, 128, 256, 512], "blocks": list(DEPTHS), "stem": "imagenet"},
        plain=lambda: ResNet(BasicBlock, DEPTHS, num_classes=N_CLASSES),
    ),
    "resnet_d bottleneck": Family(
        architecture="resnet_d",
        sizes={"block": "bottleneck", **WIDE},
        plain=lambda: ResNet(Bottleneck, DEPTHS, num_classes=N_CLASSES),
    ),
    "resnet_w": Family(
        architecture="resnet_w",
        sizes={"inner_channels": [64, 128, 256, 512], **WIDE},
        plain=lambda: ResNet(Bottleneck, DEPTHS, num_classes=N_CLASSES),
    ),
    "resnext_w": Family(
        architecture="resnext_w",
        sizes={"component_channels": [4, 8, 16, 32], "n_components": 32, **WIDE},
        plain=lambda: ResNet(Bottleneck, DEPTHS, num_classes=N_CLASSES, groups=32, width_per_group=4),
    ),
    "densenet": Family(
        architecture="densenet",
        sizes={"layers": [2, 3, 2], "growth": 4, "stem": "imagenet"},
        plain=lambda: DenseNet(growth_rate=4, block_config=(2, 3, 2), num_init_features=8, num_classes=N_CLASSES),
    ),
    "vgg": Family(
        architecture="vgg",
        sizes={"norm": False, **VGG_SIZES},
        plain=lambda: small_vgg(batch_norm=False),
        image_size=28,
    ),
    "vgg batch norm": Family(
        architecture="vgg",
        sizes={"norm": True, **VGG_SIZES},
        plain=lambda: small_vgg(batch_norm=True),
        image_size=28,
    ),
}
SMALL = FAMILIES["densenet"]


def plain_network(family: Family = SMALL) -> nn.Module:
    """The library's network with weights and statistics that a test cannot pass by accident."""
    torch.manual_seed(5)
    return randomise(family.plain())


@torch.no_grad()
def randomise(plain: nn.Module) -> nn.Module:
    """Random normalisation, in place."""
    for norm in (module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert tensor is not None
            tensor.uniform_(0.3, 1.3)
    return plain.eval()


def saved(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


def tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def legacy(state: Mapping[str, Tensor], path: Path) -> None:
    """Save as torch did before 1.6, and as many a published file still is."""
    torch.save(state, path, _use_new_zipfile_serialization=False)


def of_library(architecture: str, model: str, **other: Any) -> tuple[ThrottleableNetwork, str, Mapping[str, Any]]:
    """A library model as ours, of shapes alone, with its name and sizes."""
    sizes = {**network_module(architecture).LIBRARY_MODELS[model], **other}
    with torch.device("meta"):
        return build_network(architecture, sizes), architecture, sizes


def assert_refused(family: Family, source: Path | str, message: str, **other: Any) -> None:
    """One error, and the network as it was."""
    ours = family.build(**other)
    before = tensors(ours)
    with pytest.raises(RunError, match=message):
        family.load(ours, source)
    assert same(tensors(ours), before)
