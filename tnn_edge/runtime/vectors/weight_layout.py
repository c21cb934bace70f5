"""How ONNX Runtime lays out the weights of a graph that it has optimised.

On CPUs where it can it runs convolutions on channels in blocks of a vector register's width, and stores their weights
to match: output channels in blocks alone (O I H W o), or input channels too (O I H W i o). Which tensor it stores how
is not asked of it but recognised: a graph with weights that no two tensors share goes in, and what comes out must be
one of them in one of these layouts, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "Layout", "aligned", "fitted", "recognised"]

FloatArray = npt.NDArray[np.float32]

_BLOCKS = (8, 16, 4, 32)
_ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class Layout:
    """Channels of a tensor in blocks; 1 is an axis that is not blocked.

    Attributes:
        outputs: output channels in a block.
        inputs: input channels in a block.
    """

    outputs: int = 1
    inputs: int = 1

    @property
    def blocks(self) -> tuple[int, int]:
        """Entries in a block of axis 0 and of axis 1."""
        return self.outputs, self.inputs

    def lay_out(self, array: FloatArray) -> FloatArray:
        """Blocks first: [O / o, I / i, H, W, i, o] of four dimensions, which zeros fill up; others stay as they are."""
        if self.outputs == 1:
            return np.ascontiguousarray(array)
        outputs, inputs, *window = array.shape
        full = [-(-outputs // self.outputs) * self.outputs, -(-inputs // self.inputs) * self.inputs]
        if full != [outputs, inputs]:
            padded = np.zeros((*full, *window), dtype=np.float32)
            padded[:outputs, :inputs] = array
            array = padded
        split = array.reshape(full[0] // self.outputs, self.outputs, full[1] // self.inputs, self.inputs, *window)
        return np.ascontiguousarray(split.transpose(0, 2, 4, 5, 3, 1))


def aligned(shape: Sequence[int]) -> FloatArray:
    """Memory that is not set, where a vector register never reads across two cache lines."""
    n_bytes = math.prod(shape) * 4
    memory = np.empty(n_bytes + _ALIGNMENT_BYTES, dtype=np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT_BYTES
    return memory[start : start + n_bytes].view(np.float32).reshape(shape)


def fitted(array: FloatArray, shape: Sequence[int]) -> FloatArray:
    """The array with as many zeros behind it as `shape` has room for."""
    if array.size == math.prod(shape):
        return array.reshape(shape)
    padded = np.zeros(math.prod(shape), dtype=np.float32)
    padded[: array.size] = array.ravel()
    return padded.reshape(shape)


def recognised(stored: FloatArray, weights: Sequence[FloatArray]) -> tuple[int, Layout] | None:
    """Which of `weights` a stored tensor is and how it is laid out, None where it is none of them.

    A vector may have zeros behind it.
    """
    for i, weight in enumerate(weights):
        for layout in _layouts(weight, stored):
            if np.array_equal(fitted(layout.lay_out(weight), stored.shape), stored):
                return i, layout
    return None


def _layouts(weight: FloatArray, stored: FloatArray) -> Iterator[Layout]:
    """Those in which `weight` could have the size of `stored`."""
    if weight.size == stored.size or (weight.ndim == 1 and weight.size < stored.size):
        yield Layout()
    if weight.ndim != 4 or weight.size > stored.size:
        return
    outputs, inputs, *window = weight.shape
    for block in _BLOCKS:
        for inner in (block, 1):
            blocks = -(-outputs // block) * block, -(-inputs // inner) * inner
            if math.prod(blocks) * math.prod(window) == stored.size:
                yield Layout(block, inner)
