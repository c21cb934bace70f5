"""TensorFlow's SAME padding: n pixels become ceil(n / stride), with as many zeros after as before them, or one more.

PyTorch's own padding is symmetric. At stride 2 and an even size the two see the image shifted by a pixel, and weights
that were trained with one answer worse with the other.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["same_conv", "same_padding"]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of `size` pixels."""
    outputs = -(-size // stride)
    total = max(0, (outputs - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def same_conv(conv: nn.Conv2d, x: Tensor, weight: Tensor | None = None, groups: int | None = None) -> Tensor:
    """Run a convolution without bias under SAME padding.

    Args:
        conv: its own padding, half of an odd kernel, gives maps of the same size and is not used.
        x: shape [B, C, H, W].
        weight: where slicing changed it.
        groups: likewise.
    """
    weight = conv.weight if weight is None else weight
    groups = conv.groups if groups is None else groups
    (top, bottom), (left, right) = (
        same_padding(size, kernel, stride)
        for size, kernel, stride in zip(x.shape[2:], conv.kernel_size, conv.stride, strict=True)
    )
    if (top, left) == (bottom, right):
        return F.conv2d(x, weight, None, conv.stride, (top, left), groups=groups)
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, None, conv.stride, groups=groups)
