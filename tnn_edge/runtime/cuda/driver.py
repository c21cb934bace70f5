"""What ONNX Runtime's Python has no call for: one CUDA stream, page-locked memory, copies in the order of the stream.

CUDA's driver library is on every machine that has a GPU, under one name whatever the release, and ONNX Runtime works in
the same context. So no binding of CUDA need be installed.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import ProviderError

__all__ = ["CudaBuffer", "CudaDriver", "cuda_driver"]

FloatArray = npt.NDArray[np.float32]

_LIBRARY: Final = "libcuda.so.1"
_NON_BLOCKING: Final = 1
"""The stream does not wait for CUDA's default stream, on which other libraries may work."""
_MAJOR, _MINOR = 75, 76
"""Attributes of a device: its compute capability."""

_out, _size, _address, _pointer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64, ctypes.c_void_p
_CALLS: Final[dict[str, tuple[Any, ...]]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDeviceGet": (_out, ctypes.c_int),
    "cuDeviceGetName": (_out, ctypes.c_int, ctypes.c_int),
    "cuDeviceGetAttribute": (_out, ctypes.c_int, ctypes.c_int),
    "cuDevicePrimaryCtxRetain": (_out, ctypes.c_int),
    "cuCtxSetCurrent": (_pointer,),
    "cuStreamCreate": (_out, ctypes.c_uint),
    "cuStreamSynchronize": (_pointer,),
    "cuMemGetInfo_v2": (_out, _out),
    "cuMemAlloc_v2": (_out, _size),
    "cuMemFree_v2": (_address,),
    "cuMemHostAlloc": (_out, _size, ctypes.c_uint),
    "cuMemFreeHost": (_pointer,),
    "cuMemcpyHtoDAsync_v2": (_address, _pointer, _size, _pointer),
    "cuMemcpyDtoHAsync_v2": (_pointer, _address, _size, _pointer),
    "cuGetErrorName": (ctypes.c_int, _out),
}


class CudaBuffer:
    """An array in page-locked memory of the CPU, and as much memory of the GPU. Freed with the object.

    Args:
        driver: that gives the memory.
        shape: of the float32 array.

    Attributes:
        host: the array, zeros at first.
        device: address on the GPU, which holds anything at first.
    """

    def __init__(self, driver: CudaDriver, shape: tuple[int, ...]) -> None:
        n_bytes = prod(shape) * 4
        self.device = driver.allocate_device(n_bytes)
        weakref.finalize(self, driver.release_device, self.device)
        host = driver.allocate_host(n_bytes)
        weakref.finalize(self, driver.release_host, host)
        memory = (ctypes.c_float * prod(shape)).from_address(host)
        self.host: FloatArray = np.ctypeslib.as_array(memory).reshape(shape)
        self.host.fill(0.0)


class CudaDriver:
    """The first GPU that this process may use, and one stream on it.

    Raises:
        ProviderError: there is no driver, or no GPU that it can use.

    Attributes:
        kind: what ONNX Runtime calls memory of this device.
        dlpack_kind: what DLPack calls it.
        name: of the GPU.
        capability: its compute capability, such as ``8.7``.
        stream: address of the stream.
    """

    kind = "cuda"
    dlpack_kind = 2

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as err:
            raise ProviderError(f"there is no NVIDIA driver here ({err})") from err
        for name, types in _CALLS.items():
            getattr(self._library, name).argtypes = types
        self._lock = threading.Lock()
        self.call("cuInit", 0)
        device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, len(text), device)
        self.name = text.value.decode(errors="replace")
        self.capability = f"{self._attribute(device, _MAJOR)}.{self._attribute(device, _MINOR)}"
        self._context, stream = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        with self.turn():
            self.call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        self.stream = stream.value or 0

    def call(self, name: str, *args: Any) -> None:
        """Call the driver.

        Raises:
            ProviderError: it answers with an error, which the message names.
        """
        code = getattr(self._library, name)(*args)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            raise ProviderError(f"{name}: {(text.value or b'error').decode()} ({code})")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One thread at a time: the stream works in order anyway, and a graph is captured while nobody else calls."""
        with self._lock:
            self.call("cuCtxSetCurrent", self._context)
            yield

    def allocate_device(self, n_bytes: int) -> int:
        """Memory of the GPU, as an address."""
        address = ctypes.c_uint64()
        with self.turn():
            self.call("cuMemAlloc_v2", ctypes.byref(address), n_bytes)
        return address.value

    def allocate_host(self, n_bytes: int) -> int:
        """Page-locked memory of the CPU, as an address."""
        address = ctypes.c_void_p()
        with self.turn():
            self.call("cuMemHostAlloc", ctypes.byref(address), n_bytes, 0)
        return address.value or 0

    def release_device(self, address: int) -> None:
        """Free memory of the GPU; one that has failed keeps it."""
        with suppress(ProviderError), self.turn():
            self.call("cuMemFree_v2", address)

    def release_host(self, address: int) -> None:
        """Free page-locked memory; a GPU that has failed keeps it."""
        with suppress(ProviderError), self.turn():
            self.call("cuMemFreeHost", address)

    def fill(self, address: int, content: npt.NDArray[np.uint8]) -> None:
        """Copy bytes to the GPU, and wait until they are there."""
        with self.turn():
            self.call("cuMemcpyHtoDAsync_v2", address, content.ctypes.data, content.nbytes, self.stream)
            self.wait()

    def upload(self, buffer: CudaBuffer) -> None:
        """Queue a copy to the GPU; for the one whose turn it is."""
        size = buffer.host.nbytes
        self.call("cuMemcpyHtoDAsync_v2", buffer.device, buffer.host.ctypes.data, size, self.stream)

    def download(self, buffer: CudaBuffer) -> None:
        """Queue a copy from the GPU; for the one whose turn it is."""
        size = buffer.host.nbytes
        self.call("cuMemcpyDtoHAsync_v2", buffer.host.ctypes.data, buffer.device, size, self.stream)

    def wait(self) -> None:
        """Wait until the stream has done all that was queued; for the one whose turn it is."""
        self.call("cuStreamSynchronize", self.stream)

    def used_bytes(self) -> int:
        """Memory of the GPU that is in use, by all processes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        with self.turn():
            self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return total.value - free.value

    def _attribute(self, device: ctypes.c_int, number: int) -> int:
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value


@cache
def cuda_driver() -> CudaDriver:
    """The driver, opened once in a process.

    Raises:
        ProviderError: there is no driver, or no GPU that it can use.
    """
    return CudaDriver()
