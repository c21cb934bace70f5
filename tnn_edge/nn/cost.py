"""Counting the cost of the sliced network.

Convention: one multiply-add is one MAC. Convolutions and fully connected layers count; bias, normalisation,
activation, addition and pooling do not.
"""

from __future__ import annotations

from torch import nn

__all__ = ["conv_macs", "conv_size"]


def conv_size(conv: nn.Conv2d | nn.MaxPool2d, size: int) -> int:
    """Height (or width) of a square map after `conv`."""

    def square(value: object) -> int:
        first = value[0] if isinstance(value, tuple) else value
        assert isinstance(first, int)
        return first

    kernel, stride, padding = square(conv.kernel_size), square(conv.stride), square(conv.padding)
    return (size + 2 * padding - kernel) // stride + 1


def conv_macs(conv: nn.Conv2d, size: int, *, inputs: int | None = None, outputs: int | None = None) -> int:
    """MACs of one example through a convolution.

    Args:
        conv: the full-width layer.
        size: height and width of its output.
        inputs: input channels that *one group* reads, where slicing changed them.
        outputs: output channels, where slicing changed them.
    """
    per_output = (conv.in_channels // conv.groups if inputs is None else inputs) * conv.kernel_size[0] ** 2
    return per_output * (conv.out_channels if outputs is None else outputs) * size * size
