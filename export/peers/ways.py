"""The ways of running a throttleable network, each a module of this package with the same functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from export.peers.work import Work

__all__ = ["LABELS", "OURS", "Answer", "FloatArray", "Way", "find_way"]

FloatArray = npt.NDArray[np.float32]
Answer = Callable[[FloatArray, float], FloatArray]
"""One image, shape [1, 3, H, W], and u -> logits, shape [1, classes]. It turns the dial itself where u is another."""

OURS: Final = "ours"

LABELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        OURS: "tnn_edge",
        "static_swapped": "static ONNX, file swapped",
        "static_resident": "static ONNX, all resident",
        "chained": "a session per block",
        "if_networks": "ONNX If over networks",
        "if_shared": "ONNX If, weights shared",
        "if_blocks": "ONNX If per block",
        "masked": "PyTorch, masked",
        "sliced": "PyTorch, sliced",
        "compiled": "torch.compile of sliced",
    }
)
"""Module -> what people call the way; ours first."""


class Way(Protocol):
    """What the module of a way holds.

    The process that measures it imports nothing else: what a way imports is part of the memory it takes.
    """

    @property
    def LIBRARIES(self) -> Sequence[str]:  # noqa: N802 (a constant of a module)
        """What is imported whatever the network is."""

    def prepare(self, work: Work) -> None:
        """Write files that only this way reads."""

    def files(self, work: Work) -> Sequence[Path]:
        """The files that a device would have to hold."""

    def load(self, work: Work, threads: int) -> Answer:
        """Make ready to answer at any u of the dial.

        Raises:
            TnnEdgeError: this machine lacks what the way needs.
        """


def find_way(name: str) -> Way:
    """A way by the name of its module."""
    return cast(Way, import_module(f"export.peers.{name}"))
