"""The weight file of a bundle's plans, mapped once in a process however many sessions and engines read it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tnn_edge.runtime.installing.plan_key import Precision
from tnn_edge.runtime.one_per_file import OnePerFile
from tnn_edge.runtime.providers import SessionSettings, session_options, share_arena
from tnn_edge.runtime.stored_tensor import StoredTensor

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["MappedWeights"]


class MappedWeights:
    """Gives each session its weights as views of one mapping.

    ONNX Runtime would map the file anew for each session: the same page would count, and fault, once for each.

    Args:
        path: of the weight file.
    """

    def __init__(self, path: Path) -> None:
        empty = path.stat().st_size == 0  # which cannot be mapped, and need not be
        self._bytes: npt.NDArray[np.uint8] = np.empty(0, np.uint8) if empty else np.memmap(path, np.uint8, "r")
        self._values: dict[tuple[int, str, tuple[int, ...]], Any] = {}

    @staticmethod
    def of(path: Path) -> MappedWeights:
        """The mapping of a file that this process has, or a new one."""
        return _mapped.of(path)

    def options(
        self, settings: SessionSettings, tensors: Iterable[StoredTensor], precision: Precision = "float32"
    ) -> onnxruntime.SessionOptions:
        """Options of a session that reads its tensors here, which this object must outlive, and shares the arena.

        Args:
            settings: threads and spinning.
            tensors: of the plan.
            precision: of its arithmetic.
        """
        options = session_options(settings, optimise=False)
        share_arena(options)
        if precision == "float32":
            # Packed, weights of fully connected layers would be copied for each session, and be no faster. Products of
            # 8-bit integers are.
            options.add_session_config_entry("session.disable_prepacking", "1")
        for tensor in tensors:
            options.add_initializer(tensor.name, self._value(tensor))
        return options

    def _value(self, tensor: StoredTensor) -> Any:
        import onnxruntime

        key = (tensor.offset, tensor.dtype, tensor.shape)
        if key not in self._values:
            view = self._bytes[tensor.offset : tensor.offset + tensor.n_bytes].view(tensor.dtype)
            self._values[key] = onnxruntime.OrtValue.ortvalue_from_numpy(view.reshape(tensor.shape))
        return self._values[key]


_mapped = OnePerFile(MappedWeights)
