"""Where in a shared weight file a tensor lies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["PAGE_BYTES", "StoredTensor", "pages"]

PAGE_BYTES = 4096


class StoredTensor(NamedTuple):
    """One tensor of a plan.

    Attributes:
        name: of the initializer in the plan.
        dtype: NumPy's name of it.
        shape: of the tensor.
        offset: bytes from the beginning of the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, name: str, dtype: str, shape: Sequence[int], offset: int) -> StoredTensor:
        """A tensor from JSON."""
        return cls(str(name), np.dtype(dtype).name, tuple(int(n) for n in shape), int(offset))

    @property
    def n_bytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def pages(tensors: Iterable[StoredTensor]) -> set[int]:
    """The pages of the file that tensors lie on."""
    touched: set[int] = set()
    for tensor in tensors:
        touched.update(range(tensor.offset // PAGE_BYTES, -(-(tensor.offset + tensor.n_bytes) // PAGE_BYTES)))
    return touched
