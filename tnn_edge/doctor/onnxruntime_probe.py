"""What runs in a child process to try ONNX Runtime: import it, and open a session on each provider it lists.

It imports nothing else, so that what fails is ONNX Runtime or what ONNX Runtime needs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["MODEL", "probe"]

MODEL = (
    b'\x08\x08:5\n\x0e\n\x01x\x12\x01y"\x04Relu:\x00\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x04'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x04B\x04\n\x00\x10\r"
)
"""``g (float[4] x) => (float[4] y) { y = Relu(x) }``, as onnx writes it."""


def probe() -> dict[str, Any]:
    """Version and file of the package; what each provider answered, None where a session ran on it."""
    import onnxruntime

    listed = onnxruntime.get_available_providers()
    return {
        "version": onnxruntime.__version__,
        "file": onnxruntime.__file__,
        "providers": {name: _refusal(name) for name in listed},
    }


def _refusal(provider: str) -> str | None:
    """Why no session runs on a provider, as ONNX Runtime says it; None where one does."""
    import numpy as np
    import onnxruntime

    with tempfile.TemporaryFile() as log:
        try:
            with _both_outputs_to(log.fileno()):
                session = onnxruntime.InferenceSession(MODEL, providers=[provider])
                active = session.get_providers()[0]
                (y,) = session.run(None, {"x": np.array([-1.0, 0.0, 1.0, 2.0], np.float32)})
        except Exception as err:  # noqa: BLE001 -- ONNX Runtime's errors share no other base
            return f"{type(err).__name__}: {err}"
        log.seek(0)
        said = log.read().decode(errors="replace")
    if active != provider:
        return said or f"the session runs on {active}"
    return None if y.tolist() == [0.0, 0.0, 1.0, 2.0] else f"it computes Relu as {y.tolist()}"


@contextmanager
def _both_outputs_to(descriptor: int) -> Iterator[None]:
    """ONNX Runtime says why a provider does not start on stderr, and Python's half of it on stdout."""
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        for number in kept:
            os.dup2(descriptor, number)
        yield
    finally:
        sys.stdout.flush()
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)
