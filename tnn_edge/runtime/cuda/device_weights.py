"""The weight file of a bundle's plans in the memory of a GPU, once in a process however many sessions read it.

ONNX Runtime takes weights that are there already in the form of DLPack (https://dmlc.github.io/dlpack/latest), the
exchange format of tensor libraries; it copies nothing.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tnn_edge.runtime.cuda.driver import cuda_driver
from tnn_edge.runtime.one_per_file import OnePerFile
from tnn_edge.runtime.stored_tensor import StoredTensor

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["DeviceWeights"]

_NAME: Final = b"dltensor"
"""Of a capsule, which keeps its address."""
_TYPE_CODES: Final = {"i": 0, "u": 1, "f": 2, "b": 6}
"""DLPack's code for each of NumPy's kinds of numbers."""


class _Tensor(ctypes.Structure):
    """DLPack's ``DLManagedTensor``."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


class DeviceWeights:
    """Gives each session its weights as views of one upload.

    Args:
        path: of the weight file.

    Raises:
        ProviderError: the GPU has no room for it.

    Attributes:
        n_bytes: memory of the GPU that the file takes.
    """

    def __init__(self, path: Path) -> None:
        driver = cuda_driver()
        self.n_bytes = path.stat().st_size
        self._kind = driver.dlpack_kind
        self._address = driver.allocate_device(max(1, self.n_bytes))
        weakref.finalize(self, driver.release_device, self._address)
        if self.n_bytes:
            driver.fill(self._address, np.memmap(path, np.uint8, "r"))
        self._values: dict[tuple[int, str, tuple[int, ...]], Any] = {}

    @staticmethod
    def are_possible() -> bool:
        """Whether this ONNX Runtime reads weights from where they are."""
        import onnxruntime

        return hasattr(onnxruntime.OrtValue, "from_dlpack")

    @staticmethod
    def of(path: Path) -> DeviceWeights:
        """The upload of a file that this process has, or a new one.

        Raises:
            ProviderError: the GPU has no room for it.
        """
        return _uploaded.of(path)

    def give(self, options: onnxruntime.SessionOptions, tensors: Iterable[StoredTensor]) -> None:
        """Let a session read its tensors here; this object must live as long as the session does."""
        for tensor in tensors:
            options.add_initializer(tensor.name, self._value(tensor))

    def _value(self, tensor: StoredTensor) -> Any:
        import onnxruntime

        key = (tensor.offset, tensor.dtype, tensor.shape)
        if key not in self._values:
            self._values[key] = onnxruntime.OrtValue.from_dlpack(self._capsule(tensor))
        return self._values[key]

    def _capsule(self, tensor: StoredTensor) -> Any:
        """A DLPack capsule of a tensor; C frees its description, so that an interpreter that ends need not be there."""
        c = ctypes.CDLL(None)
        c.calloc.restype, c.calloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_size_t)
        head = ctypes.sizeof(_Tensor)
        memory = c.calloc(1, head + 8 * len(tensor.shape))  # zeros: no strides, no offset
        shape = (ctypes.c_int64 * len(tensor.shape)).from_address(memory + head)
        shape[:] = list(tensor.shape)
        dtype = np.dtype(tensor.dtype)
        _Tensor.from_address(memory).__init__(  # type: ignore[misc]  # in place: C owns the memory
            data=self._address + tensor.offset,
            device_type=self._kind,
            ndim=len(tensor.shape),
            code=_TYPE_CODES[dtype.kind],
            bits=8 * dtype.itemsize,
            lanes=1,
            shape=memory + head,
            deleter=ctypes.cast(c.free, ctypes.c_void_p),
        )
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return new(memory, _NAME, None)


_uploaded = OnePerFile(DeviceWeights)
