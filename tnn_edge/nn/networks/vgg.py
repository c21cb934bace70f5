"""VGG: convolutions and fully connected layers in a row, each gated in its width (concatenated)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.cost import conv_macs, conv_size
from tnn_edge.nn.gated_channels import Active, AxisSlice, GatedChannels, SlicedTensor
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import BatchNorm
from tnn_edge.nn.schedule import GateOrder, GateSchedule
from tnn_edge.nn.section import GatedBlock, Section

__all__ = ["LIBRARY_MODELS", "GatedConv", "GatedLinear", "LinearHead", "library_names", "vgg"]

LIBRARY_MODELS: Mapping[str, Mapping[str, Any]] = {
    name + ("_bn" if norm else ""): {
        "channels": (64, 128, 256, 512, 512), "convolutions": convolutions, "hidden": (4096, 4096), "image_size": 224,
        "norm": norm,
    }
    for name, convolutions in (
        ("vgg11", (1, 1, 2, 2, 2)),
        ("vgg13", (2, 2, 2, 2, 2)),
        ("vgg16", (2, 2, 3, 3, 3)),
        ("vgg19", (2, 2, 4, 4, 4)),
    )
    for norm in (False, True)
}  # fmt: skip
"""Models of torchvision, and the sizes that they are here (`tnn_edge.nn.weights`)."""


class GatedConv(GatedBlock):
    """3x3 convolution, normalisation where there is one, ReLU, pooling at the end of a stage.

    Components are shares of its filters, gated after the activation: what is off is exactly zero for the next layer,
    which reads what is on scaled by offered over on.

    Args:
        own: its output channels.
        read: the gated channels of its input, None where it reads the image.
        in_channels: of the input.
        has_norm: batch normalisation after the convolution.
        pools: 2x2 maximum after the activation.
    """

    def __init__(
        self, *, own: GatedChannels, read: GatedChannels | None, in_channels: int, has_norm: bool, pools: bool
    ) -> None:
        super().__init__(gate=own.gate, n_components=own.n_components)
        self.own, self.read = own, read
        self.conv = nn.Conv2d(in_channels, own.width, 3, 1, 1)
        self.norm = BatchNorm(own.width) if has_norm else None
        self.pool = nn.MaxPool2d(2) if pools else None

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        h = self._activated(self.conv(x), None)
        return h if masks is None else h * self.own.weights(masks[self.gate])[:, :, None, None]

    def sliced(self, x: Tensor, active: Mapping[str, Active]) -> Tensor:
        kept = self.own.kept(active[self.gate])
        weight, bias = self.conv.weight[kept], self.conv.bias
        assert bias is not None
        if self.read is not None:
            on = active[self.read.gate]
            weight = weight[:, self.read.kept(on)] * self.read.scale(on).to(x.device)[:, None, None]
        return self._activated(F.conv2d(x, weight, bias[kept], padding=1), kept)

    def _activated(self, h: Tensor, channels: Tensor | None) -> Tensor:
        h = F.relu(h if self.norm is None else self.norm(h, channels))
        return h if self.pool is None else self.pool(h)

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        inputs = None if self.read is None else self.read.n_kept(gates[self.read.gate])
        macs = conv_macs(self.conv, size, inputs=inputs, outputs=self.own.n_kept(gates[self.gate]))
        return macs, size if self.pool is None else conv_size(self.pool, size)

    def sliced_tensors(self) -> dict[str, SlicedTensor]:
        out = self.own.on_axis(0)
        vectors = ["conv.bias"]
        if self.norm is not None:
            vectors += [f"norm.{tensor}" for tensor in ("weight", "bias", "running_mean", "running_var")]
        return {
            "conv.weight": SlicedTensor(slices=(out, *_reading(self.read))),
            **dict.fromkeys(vectors, SlicedTensor(slices=(out,))),
        }


class GatedLinear(GatedBlock):
    """Fully connected layer and ReLU; components are shares of its units, gated after the activation.

    Args:
        own: its units.
        read: the gated entries of its flattened input.
    """

    def __init__(self, *, own: GatedChannels, read: GatedChannels) -> None:
        super().__init__(gate=own.gate, n_components=own.n_components)
        self.own, self.read = own, read
        self.linear = nn.Linear(read.width, own.width)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """[B, C, H, W] or [B, C] -> [B, units]."""
        h = F.relu(self.linear(x.flatten(1)))
        return h if masks is None else h * self.own.weights(masks[self.gate])

    def sliced(self, x: Tensor, active: Mapping[str, Active]) -> Tensor:
        kept, on = self.own.kept(active[self.gate]), active[self.read.gate]
        weight = self.linear.weight[kept][:, self.read.kept(on)] * self.read.scale(on).to(x.device)
        return F.relu(F.linear(x.flatten(1), weight, self.linear.bias[kept]))

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        del size
        return self.read.n_kept(gates[self.read.gate]) * self.own.n_kept(gates[self.gate]), 1

    def sliced_tensors(self) -> dict[str, SlicedTensor]:
        out = self.own.on_axis(0)
        return {
            "linear.weight": SlicedTensor(slices=(out, *_reading(self.read))),
            "linear.bias": SlicedTensor(slices=(out,)),
        }


class LinearHead(Section):
    """Fully connected layer that reads gated units.

    Args:
        read: the units of its input.
        n_classes: classes.
    """

    def __init__(self, *, read: GatedChannels, n_classes: int) -> None:
        super().__init__()
        self.read = read
        self.classifier = nn.Linear(read.width, n_classes)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """[B, units] -> logits [B, n_classes]."""
        del masks
        logits: Tensor = self.classifier(x)
        return logits

    def sliced(self, x: Tensor, active: Mapping[str, Active]) -> Tensor:
        on = active[self.read.gate]
        weight = self.classifier.weight[:, self.read.kept(on)] * self.read.scale(on).to(x.device)
        return F.linear(x, weight, self.classifier.bias)

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        return self.read.n_kept(gates[self.read.gate]) * self.classifier.out_features, size

    def sliced_tensors(self) -> dict[str, SlicedTensor]:
        return {"classifier.weight": SlicedTensor(slices=tuple(_reading(self.read)))}


def _reading(read: GatedChannels | None) -> list[AxisSlice]:
    return [] if read is None else [read.on_axis(1, scaled=True)]


def vgg(
    *,
    channels: Sequence[int],
    convolutions: Sequence[int],
    hidden: Sequence[int] = (4096,),
    n_components: int = 16,
    n_classes: int = 10,
    image_size: int = 32,
    norm: bool = True,
    order: GateOrder = "nested",
) -> ThrottleableNetwork:
    """Build a VGG (Simonyan & Zisserman, 2014). Without skip connections, each layer keeps a component on.

    Args:
        channels: filters of the convolutions of each stage, multiples of `n_components`; each stage halves the map.
        convolutions: convolutions in each stage.
        hidden: units of the fully connected layers before the last, multiples of `n_components`.
        n_components: components of every layer.
        n_classes: classes.
        image_size: height and width of the input, a multiple of 2 to the number of stages.
        norm: batch normalisation after each convolution.
        order: gate order.

    ``vgg(channels=(64, 128, 256), convolutions=(2, 2, 3))`` is VGG-D cut to three stages and one fully connected layer;
    ``vgg(channels=(64, 128, 256, 512, 512), convolutions=(2, 2, 3, 3, 3), hidden=(4096, 4096), n_classes=1000,
    image_size=224, norm=False)`` is VGG-16.
    """
    if len(convolutions) != len(channels):
        raise ValueError(f"{len(channels)} stages have channels, {len(convolutions)} have convolutions")
    if image_size % 2 ** len(channels):
        raise ValueError(f"image_size {image_size} cannot be halved {len(channels)} times")
    if n_components < 1:
        raise ValueError(f"there must be at least one component, got {n_components}")
    if uneven := [width for width in (*channels, *hidden) if width % n_components]:
        raise ValueError(f"a layer of {uneven[0]} does not divide into {n_components} components")
    layers: dict[str, GatedBlock] = {}
    read: GatedChannels | None = None
    for stage, (width, n) in enumerate(zip(channels, convolutions, strict=True), start=1):
        for index in range(1, n + 1):
            own = GatedChannels(
                gate=f"stage{stage}_conv{index}", n_components=n_components, channels=width // n_components
            )
            layers[own.gate] = GatedConv(
                own=own,
                read=read,
                in_channels=3 if read is None else read.width,
                has_norm=norm,
                pools=index == n,
            )
            read = own
    if read is None:
        raise ValueError("there must be at least one convolution")
    map_size = image_size // 2 ** len(channels)
    read = GatedChannels(gate=read.gate, n_components=n_components, channels=read.channels * map_size**2)
    for index, width in enumerate(hidden, start=1):
        own = GatedChannels(gate=f"fc{index}", n_components=n_components, channels=width // n_components)
        layers[own.gate] = GatedLinear(own=own, read=read)
        read = own
    if not hidden:
        raise ValueError("there must be at least one fully connected layer before the last")
    return ThrottleableNetwork(
        stem=None,
        blocks=layers,
        head=LinearHead(read=read, n_classes=n_classes),
        schedule=GateSchedule.widthwise(dict.fromkeys(layers, n_components), order, at_least=1),
    )


def library_names(network: ThrottleableNetwork) -> dict[str, str]:
    """Name in torchvision's VGG -> ours, whatever the sizes. It numbers the layers, also those without weights."""
    modules: dict[str, str] = {}
    feature = unit = 0
    for name, block in network.blocks.items():
        if isinstance(block, GatedConv):
            modules[f"blocks.{name}.conv"] = f"features.{feature}"
            modules[f"blocks.{name}.norm"] = f"features.{feature + 1}"
            feature += 2 + (block.norm is not None) + (block.pool is not None)
        else:
            modules[f"blocks.{name}.linear"] = f"classifier.{unit}"
            unit += 3
    modules["head.classifier"] = f"classifier.{unit}"
    split = {name: name.rpartition(".") for name in network.state_dict()}
    return {f"{modules[module]}.{tensor}": name for name, (module, _, tensor) in split.items()}
