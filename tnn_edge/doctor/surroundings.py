"""Where the doctor looks: everything of this machine and this process that a check may ask, in one place."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["Surroundings"]


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the checks look at.

    Attributes:
        device: where networks are to run. With `cuda` its absence is a fault, with `cpu` nothing about CUDA is one,
            with `auto` it is a fault of an ONNX Runtime that is made for CUDA.
        root: of the tree that holds `proc`, `sys`, `dev`, `etc` and `run`.
        path: where packages are looked for, as `sys.path`.
        cache: folder of the plans; None for the one that `tnn_edge.load` takes.
        clock: seconds since the epoch.
        program_s: seconds that a child process may take, which imports a package and runs it.
        patience_s: seconds that all checks together may take.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    root: Path = Path("/")
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    cache: Path | None = None
    clock: Callable[[], float] = time.time
    program_s: float = 20.0
    patience_s: float = 30.0

    def text(self, name: str) -> str | None:
        """A file's text without white space at its ends; None where there is none that can be read."""
        try:
            return (self.root / name).read_text(errors="replace").strip()
        except OSError:
            return None
