"""Which ONNX Runtimes pip has installed. They share one import name, and the last one installed owns its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["TAKEN", "Wheel", "installed_wheels"]

TAKEN = ("onnxruntime", "onnxruntime-gpu")
"""Those that tnn-edge runs on."""

_OTHERS = (
    "onnxruntime-azure",
    "onnxruntime-cann",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-training",
    "onnxruntime-webgpu",
    "ort-nightly",
    "ort-nightly-gpu",
)


@dataclass(frozen=True)
class Wheel:
    """An installed distribution that provides the package `onnxruntime`.

    Attributes:
        name: of the distribution.
        version: as pip knows it.
        folder: that it is installed in.
    """

    name: str
    version: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def installed_wheels(where: Surroundings) -> list[Wheel]:
    """All of them, those that tnn-edge runs on first; the same one in two folders counts once, as Python sees it."""
    return list(_wheels(list(where.path)))


def _wheels(path: list[str]) -> Iterator[Wheel]:
    for name in (*TAKEN, *_OTHERS):
        for found in metadata.distributions(name=name, path=path):
            yield Wheel(name, found.version, Path(str(found.locate_file(""))))
            break
