"""DenseNet-BC: dense blocks whose layers are gated (concatenated, each layer a component)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.cost import conv_macs
from tnn_edge.nn.gated_channels import Active, GatedChannels, SlicedTensor
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import BatchNorm
from tnn_edge.nn.residual import Stem, StemKind
from tnn_edge.nn.schedule import GateOrder, GateSchedule
from tnn_edge.nn.section import GatedBlock, Section

__all__ = [
    "LIBRARY_MODELS",
    "DenseHead",
    "DenseLayer",
    "GatedDenseBlock",
    "Transition",
    "densenet",
    "library_names",
]

LIBRARY_MODELS: Mapping[str, Mapping[str, Any]] = {
    "densenet121": {"layers": (6, 12, 24, 16), "growth": 32, "stem": "imagenet"},
    "densenet161": {"layers": (6, 12, 36, 24), "growth": 48, "stem": "imagenet"},
    "densenet169": {"layers": (6, 12, 32, 32), "growth": 32, "stem": "imagenet"},
    "densenet201": {"layers": (6, 12, 48, 32), "growth": 32, "stem": "imagenet"},
}
"""Models of torchvision, and the sizes that they are here (`tnn_edge.nn.weights`)."""

_BOTTLENECK = 4
"""Channels between the convolutions of a layer over its growth (Huang et al., 2017)."""


class _Reader(Section):
    """What reads the concatenated features of a dense block: normalisation, activation, then the gates.

    Gated after the activation, because normalisation would turn the zeros of what is off into a constant.
    """

    def __init__(self, read: GatedChannels) -> None:
        super().__init__()
        self.read = read
        self.norm1 = BatchNorm(read.width)

    def activated(self, x: Tensor, mask: Tensor | None) -> Tensor:
        h = F.relu(self.norm1(x))
        return h if mask is None else h * self.read.weights(mask)[:, :, None, None]

    def activated_slice(self, x: Tensor, on: Active) -> Tensor:
        return F.relu(self.norm1(x, self.read.kept(on)))

    def reading_tensors(self, weight: str) -> dict[str, SlicedTensor]:
        norm = SlicedTensor(slices=(self.read.on_axis(0),))
        return {
            weight: SlicedTensor(slices=(self.read.on_axis(1, scaled=True),)),
            **{f"norm1.{tensor}": norm for tensor in ("weight", "bias", "running_mean", "running_var")},
        }

    def _read_weight(self, weight: Tensor, on: Active) -> Tensor:
        """A 1x1 convolution's or a matrix's weight on what is on."""
        scale = self.read.scale(on).to(weight.device)
        return weight[:, self.read.kept(on)] * scale.reshape(-1, *(1 for _ in weight.shape[2:]))


class DenseLayer(_Reader):
    """1x1 and 3x3 convolution, each behind normalisation and ReLU; reads the block's input and the layers before it."""

    def __init__(self, *, read: GatedChannels, growth: int) -> None:
        super().__init__(read)
        inner = _BOTTLENECK * growth
        self.conv1 = nn.Conv2d(read.width, inner, 1, bias=False)
        self.norm2 = BatchNorm(inner)
        self.conv2 = nn.Conv2d(inner, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        h = self.conv1(self.activated(x, None if masks is None else masks[self.read.gate]))
        return self.conv2(F.relu(self.norm2(h)))  # type: ignore[no-any-return]  # a module's call is Any

    def sliced(self, x: Tensor, active: Mapping[str, Active]) -> Tensor:
        on = active[self.read.gate]
        h = F.conv2d(self.activated_slice(x, on), self._read_weight(self.conv1.weight, on))
        return self.conv2(F.relu(self.norm2(h)))  # type: ignore[no-any-return]  # a module's call is Any

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        inputs = self.read.n_kept(gates[self.read.gate])
        return conv_macs(self.conv1, size, inputs=inputs) + conv_macs(self.conv2, size), size

    def sliced_tensors(self) -> dict[str, SlicedTensor]:
        return self.reading_tensors("conv1.weight")


class GatedDenseBlock(GatedBlock):
    """Layers whose outputs are concatenated with the block's input; each layer is a component.

    Args:
        gate: name of the module.
        in_channels: of the input.
        n_layers: layers.
        growth: output channels of a layer.
    """

    def __init__(self, *, gate: str, in_channels: int, n_layers: int, growth: int) -> None:
        super().__init__(gate=gate, n_components=n_layers)
        self.layers = nn.ModuleList(
            DenseLayer(
                read=GatedChannels(gate=gate, n_components=i, channels=growth, ungated=in_channels), growth=growth
            )
            for i in range(n_layers)
        )
        self.features = GatedChannels(gate=gate, n_components=n_layers, channels=growth, ungated=in_channels)
        self.branches = {f"layers.{i}.conv2": i for i in range(n_layers)}

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """Features that are off are in the output; whoever reads them masks them."""
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, dim=1), masks))
        return torch.cat(features, dim=1)

    def sliced(self, x: Tensor, active: Mapping[str, Active]) -> Tensor:
        features = [x]
        for i in active[self.gate]:
            features.append(self._layer(i).sliced(torch.cat(features, dim=1), active))
        return torch.cat(features, dim=1)

    def _layer(self, i: int) -> DenseLayer:
        layer = self.layers[i]
        assert isinstance(layer, DenseLayer)
        return layer

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        on = (i for i, bit in enumerate(gates[self.gate]) if bit)
        return sum(self._layer(i).macs(gates, size)[0] for i in on), size

    def component_macs(self, gates: GateVector, size: int) -> tuple[float, ...]:
        return tuple(float(self._layer(i).macs(gates, size)[0]) for i in range(self.n_components))

    def sliced_tensors(self) -> dict[str, SlicedTensor]:
        return {
            f"layers.{i}.{name}": tensor
            for i in range(self.n_components)
            for name, tensor in self._layer(i).sliced_tensors().items()
        }


class Transition(_Reader):
    """Between two dense blocks: 1x1 convolution that halves the channels, pooling that halves the map."""

    def __init__(self, *, read: GatedChannels) -> None:
        super().__init__(read)
        self.conv1 = nn.Conv2d(read.width, read.width // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        h = self.conv1(self.activated(x, None if masks is None else masks[self.read.gate]))
        return self.pool(h)  # type: ignore[no-any-return]  # a module's call is Any

    def sliced(self, x: Tensor, active: Mapping[str, Active]) -> Tensor:
        on = active[self.read.gate]
        h = F.conv2d(self.activated_slice(x, on), self._read_weight(self.conv1.weight, on))
        return self.pool(h)  # type: ignore[no-any-return]  # a module's call is Any

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        macs = conv_macs(self.conv1, size, inputs=self.read.n_kept(gates[self.read.gate]))
        return macs, size // 2

    def sliced_tensors(self) -> dict[str, SlicedTensor]:
        return self.reading_tensors("conv1.weight")


class DenseHead(_Reader):
    """Normalisation, ReLU, global average pooling and a fully connected layer."""

    def __init__(self, *, read: GatedChannels, n_classes: int) -> None:
        super().__init__(read)
        self.classifier = nn.Linear(read.width, n_classes)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """[B, C, H, W] -> logits [B, n_classes]."""
        h = self.activated(x, None if masks is None else masks[self.read.gate])
        return self.classifier(h.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # a module's call is Any

    def sliced(self, x: Tensor, active: Mapping[str, Active]) -> Tensor:
        on = active[self.read.gate]
        h = self.activated_slice(x, on).mean(dim=(2, 3))
        return F.linear(h, self._read_weight(self.classifier.weight, on), self.classifier.bias)

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        del size
        return self.read.n_kept(gates[self.read.gate]) * self.classifier.out_features, 1

    def sliced_tensors(self) -> dict[str, SlicedTensor]:
        return self.reading_tensors("classifier.weight")


def densenet(
    *,
    layers: Sequence[int],
    growth: int,
    n_classes: int = 10,
    stem: StemKind = "cifar",
    stem_channels: int | None = None,
    order: GateOrder = "nested",
) -> ThrottleableNetwork:
    """Build a DenseNet-BC (Huang et al., 2017).

    Args:
        layers: layers of each dense block; each but the last is followed by a transition.
        growth: output channels of a layer.
        n_classes: classes.
        stem: ``cifar`` or ``imagenet``.
        stem_channels: channels after the stem, by default twice the growth.
        order: gate order.

    ``densenet(layers=(16, 16, 16), growth=12)`` is the paper's for CIFAR; ``densenet(layers=(6, 12, 32, 32), growth=32,
    n_classes=1000, stem="imagenet")`` is DenseNet-169.
    """
    if not layers:
        raise ValueError("there must be at least one dense block")
    channels = stem_channels or 2 * growth
    first = Stem(kind=stem, out_channels=channels)
    sections: dict[str, Section] = {}
    sizes: dict[str, int] = {}
    features: GatedChannels | None = None
    for index, n_layers in enumerate(layers, start=1):
        if features is not None:
            transition = Transition(read=features)
            sections[f"transition{index - 1}"] = transition
            channels = transition.conv1.out_channels
        block = GatedDenseBlock(gate=f"dense{index}", in_channels=channels, n_layers=n_layers, growth=growth)
        sections[block.gate] = block
        sizes[block.gate] = n_layers
        features = block.features
    assert features is not None
    return ThrottleableNetwork(
        stem=first,
        blocks=sections,
        head=DenseHead(read=features, n_classes=n_classes),
        schedule=GateSchedule.widthwise(sizes, order),
    )


_RENAMED = (
    (r"^stem\.(conv|norm)\.", r"features.\g<1>0."),
    (r"^blocks\.dense(\d+)\.layers\.(\d+)\.", lambda at: f"features.denseblock{at[1]}.denselayer{int(at[2]) + 1}."),
    (r"^blocks\.(transition\d+)\.(norm|conv)1\.", r"features.\1.\2."),
    (r"^head\.norm1\.", "features.norm5."),
    (r"^head\.classifier\.", "classifier."),
)


def library_names(network: ThrottleableNetwork) -> dict[str, str]:
    """Name in torchvision's DenseNet -> ours, whatever the sizes.

    The files that torchvision publishes are older than its names, and have a dot before the number in those of layers.
    """
    names: dict[str, str] = {}
    for ours in network.state_dict():
        theirs = ours
        for pattern, name in _RENAMED:
            theirs = re.sub(pattern, name, theirs)
        names[theirs] = ours
        names[re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", theirs)] = ours
    return names
