"""A bottleneck whose inner width is gated: ResNeXt's paths, ResNet's channels, MobileNet's expansion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.cost import conv_macs, conv_size
from tnn_edge.nn.gated_channels import Active, GatedChannels, SlicedTensor
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.norm import BatchNorm
from tnn_edge.nn.residual import Skip
from tnn_edge.nn.same_padding import same_conv
from tnn_edge.nn.section import GatedBlock

__all__ = ["Grouping", "WidthGatedBottleneck"]

Grouping = Literal["dense", "components", "depthwise"]


class WidthGatedBottleneck(GatedBlock):
    """1x1 -> kxk -> 1x1 of which each component is a share of the inner channels; the last convolution sums them.

    y = skip(x) + norm3(conv3(n / k * the inner channels that are on)), and skip(x) alone when none is. The scale keeps
    the sum's size the same for every k and is 1 at k = n.

    Args:
        gate: name of the module.
        in_channels: of the input.
        out_channels: of the output.
        n_components: components.
        component_channels: inner channels of each.
        stride: of the middle convolution.
        kernel: of the middle convolution.
        grouping: which inner channels the middle convolution combines: all of them (``dense``; it too reads what is on
            scaled by n / k), those of its component (``components``), or none (``depthwise``).
        activation: after the first two normalisations.
        activates_output: also after the sum.
        has_skip: False for a block that changes the shape and has no projection; it keeps a component on.
        pads_same: pad the middle convolution as TensorFlow does (`tnn_edge.nn.same_padding`).
        epsilon: of the normalisations.
    """

    def __init__(
        self,
        *,
        gate: str,
        in_channels: int,
        out_channels: int,
        n_components: int,
        component_channels: int,
        stride: int = 1,
        kernel: int = 3,
        grouping: Grouping = "components",
        activation: Callable[[Tensor], Tensor] = F.relu,
        activates_output: bool = True,
        has_skip: bool = True,
        pads_same: bool = False,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__(gate=gate, n_components=n_components)
        self.inner = GatedChannels(gate=gate, n_components=n_components, channels=component_channels)
        self.grouping: Grouping = grouping
        self.activation = activation
        self.activates_output = activates_output
        self.pads_same = pads_same
        width = self.inner.width
        groups = {"dense": 1, "components": n_components, "depthwise": width}[grouping]
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm1 = BatchNorm(width, eps=epsilon)
        self.conv2 = nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm2 = BatchNorm(width, eps=epsilon)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.norm3 = BatchNorm(out_channels, eps=epsilon)
        self.skip: Skip | None = None
        if has_skip:
            self.skip = Skip(in_channels=in_channels, out_channels=out_channels, stride=stride)
            self.branches = {"norm3": None}
            self.branch_norm = "norm3"

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        weights = None if masks is None else self.inner.weights(masks[self.gate])[:, :, None, None]
        h = self.activation(self.norm1(self.conv1(x)))
        if weights is not None and self.grouping == "dense":
            h = h * weights
        h = self.activation(self.norm2(self._middle(h, self.conv2.weight, self.conv2.groups)))
        if weights is not None:
            h = h * weights
        branch = self.norm3(self.conv3(h))
        if masks is not None:  # norm3 turns an empty sum into a constant: absent is absent
            is_on = masks[self.gate].sum(dim=1).clamp(max=1.0).to(branch.dtype)  # rises with a gate that is relaxed
            branch = branch * is_on[:, None, None, None]
        return self._joined(branch, x)

    def sliced(self, x: Tensor, active: Mapping[str, Active]) -> Tensor:
        own = active[self.gate]
        if len(own) == self.n_components:
            return self.forward(x)
        if len(own) == 0:
            return self._joined(None, x)
        kept = self.inner.kept(own)
        scale = self.inner.scale(own).to(x.device)
        h = self.activation(self.norm1(F.conv2d(x, self.conv1.weight[kept]), kept))
        weight = self.conv2.weight[kept]
        if self.grouping == "dense":
            weight = weight[:, kept] * scale[:, None, None]
        groups = {"dense": 1, "components": len(own), "depthwise": len(kept)}[self.grouping]
        h = self.activation(self.norm2(self._middle(h, weight, groups), kept))
        branch = F.conv2d(h, self.conv3.weight[:, kept] * scale[:, None, None])
        return self._joined(self.norm3(branch), x)

    def _middle(self, h: Tensor, weight: Tensor, groups: int) -> Tensor:
        if self.pads_same:
            return same_conv(self.conv2, h, weight, groups)
        return F.conv2d(h, weight, None, self.conv2.stride, self.conv2.padding, groups=groups)

    def _joined(self, branch: Tensor | None, x: Tensor) -> Tensor:
        if self.skip is None:
            if branch is None:
                raise ValueError(f"{self.gate} has no skip connection, so it needs a component that is on")
            y = branch
        else:
            y = self.skip(x) if branch is None else branch + self.skip(x)
        return self.activation(y) if self.activates_output else y

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        out_size = conv_size(self.conv2, size)
        width = self.inner.n_kept(gates[self.gate])
        branch = (
            conv_macs(self.conv1, size, outputs=width)
            + conv_macs(self.conv2, out_size, outputs=width, inputs=width if self.grouping == "dense" else None)
            + conv_macs(self.conv3, out_size, inputs=width)
        )
        return branch + (0 if self.skip is None else self.skip.macs(out_size)), out_size

    def sliced_tensors(self) -> dict[str, SlicedTensor]:
        out = SlicedTensor(slices=(self.inner.on_axis(0),))
        read = self.inner.on_axis(1, scaled=True)
        conv2 = SlicedTensor(slices=(self.inner.on_axis(0),), group_of=self.gate)
        if self.grouping == "dense":
            conv2 = SlicedTensor(slices=(self.inner.on_axis(0), read))
        norms = {
            f"{norm}.{tensor}": out
            for norm in ("norm1", "norm2")
            for tensor in ("weight", "bias", "running_mean", "running_var")
        }
        return {"conv1.weight": out, "conv2.weight": conv2, "conv3.weight": SlicedTensor(slices=(read,)), **norms}
