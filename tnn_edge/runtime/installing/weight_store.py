"""One file for the weights of many plans: equal bytes once, a prefix as a view of the longer tensor.

Nested gating keeps the first output channels, and the blocked layout of ONNX Runtime's convolution weights puts output
channels first, so a smaller operating point's weights often are a byte prefix of a larger one's.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import onnx_ir as ir

from tnn_edge.runtime.stored_tensor import PAGE_BYTES, StoredTensor

__all__ = ["WeightStore"]

_KEY_BYTES = 64
_SMALL_ALIGNMENT_BYTES = 64
_LARGE_BYTES = 16 * PAGE_BYTES


class WeightStore:
    """Collects tensors in a file; a context manager.

    Add the models with the largest tensors first: a tensor is stored as a view only of one that is there already.

    Attributes:
        offered_bytes: total size of the tensors added.
    """

    min_bytes = 1024
    """Smaller tensors stay in their model: a view costs more than it saves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offered_bytes = 0
        self._file = path.open("w+b")
        self._stored: dict[bytes, list[tuple[int, int]]] = {}

    def __enter__(self) -> WeightStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def stored_bytes(self) -> int:
        """Size of the file."""
        return self._file.seek(0, 2)

    def add_model(self, model: ir.Model) -> list[StoredTensor]:
        """Move a model's tensors into the file; the model refers to them as external data.

        Returns:
            Where they lie.
        """
        stored = []
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < self.min_bytes:
                continue
            data = tensor.tobytes()
            self.offered_bytes += len(data)
            array, offset = tensor.numpy(), self._place(data)
            stored.append(StoredTensor(str(value.name), array.dtype.name, array.shape, offset))
            value.const_value = ir.ExternalTensor(
                self.path.name, offset, len(data), tensor.dtype,
                shape=ir.Shape(array.shape), name=str(value.name), base_dir=self.path.parent,
            )  # fmt: skip
        return stored

    def _place(self, data: bytes) -> int:
        candidates = self._stored.setdefault(data[:_KEY_BYTES], [])
        for offset, length in candidates:
            if length >= len(data):
                self._file.seek(offset)
                if self._file.read(len(data)) == data:
                    return offset
        end = self.stored_bytes
        alignment = PAGE_BYTES if len(data) >= _LARGE_BYTES else _SMALL_ALIGNMENT_BYTES  # mapped page-wise
        offset = -(-end // alignment) * alignment
        self._file.write(b"\0" * (offset - end))
        self._file.write(data)
        candidates.append((offset, len(data)))
        return offset
