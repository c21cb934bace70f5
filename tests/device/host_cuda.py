"""CUDA as the runtime sees it, on a machine without: its memory is the CPU's, and its provider is the one for the CPU.

What is real: the install, the plans, the sessions, the arithmetic. Memory of the "GPU" is apart from the CPU's, so a
copy that is forgotten shows in the answers.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.in_process import build_in_this_process
from tnn_edge.errors import ProviderError
from tnn_edge.runtime import device_choice, providers
from tnn_edge.runtime.cuda.driver import CudaBuffer


class HostDriver:
    """Stands in for `CudaDriver`."""

    kind = "cpu"
    dlpack_kind = 1
    capability = "0.0"
    stream = 7

    def __init__(self, name: str = "memory of the CPU") -> None:
        self.name = name
        self.allocated: dict[int, Any] = {}
        self.uploads = self.downloads = self.waits = 0
        self.failure: str | None = None
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._lock:
            yield

    def allocate_device(self, n_bytes: int) -> int:
        memory = ctypes.create_string_buffer(n_bytes)
        self.allocated[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    allocate_host = allocate_device

    def release_device(self, address: int) -> None:
        del self.allocated[address]

    release_host = release_device

    def fill(self, address: int, content: npt.NDArray[np.uint8]) -> None:
        ctypes.memmove(address, content.ctypes.data, content.nbytes)

    def upload(self, buffer: CudaBuffer) -> None:
        if self.failure is not None:
            raise ProviderError(self.failure)
        assert self._lock.locked()
        self.uploads += 1
        ctypes.memmove(buffer.device, buffer.host.ctypes.data, buffer.host.nbytes)

    def download(self, buffer: CudaBuffer) -> None:
        assert self._lock.locked()
        self.downloads += 1
        ctypes.memmove(buffer.host.ctypes.data, buffer.device, buffer.host.nbytes)

    def wait(self) -> None:
        self.waits += 1

    def used_bytes(self) -> int:
        return sum(map(ctypes.sizeof, self.allocated.values()))


def put_in(patch: pytest.MonkeyPatch, driver: HostDriver) -> None:
    """Let the runtime find this driver, and the CPU's provider under CUDA's name."""
    users = ("cuda.session", "cuda.device_weights", "lane", "device_choice", "installing.plan_key", "measuring.timing")
    for module in users:
        patch.setattr(f"tnn_edge.runtime.{module}.cuda_driver", lambda: driver)
    patch.setitem(providers.PROVIDERS, "cuda", providers.PROVIDERS["cpu"])
    patch.setattr(device_choice, "_cuda_fault", lambda: None)
    build_in_this_process(patch)  # a child would know nothing of what a test has replaced
