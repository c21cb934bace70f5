"""What the ways are made from and where it lies: the run, its bundle, a static file and the blocks of each point."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Work", "files_below", "read_work", "write_work"]

_FILE = "work.json"


@dataclass(frozen=True, kw_only=True)
class Work:
    """A folder that the processes of all ways read.

    Attributes:
        folder: absolute.
        run: the training run, absolute.
        dial: throttle settings, falling.
        points: index of the operating point that each setting selects.
    """

    folder: Path
    run: Path
    dial: tuple[float, ...]
    points: tuple[int, ...]

    @property
    def bundle(self) -> Path:
        """The run, exported."""
        return self.folder / "bundle"

    @property
    def plans(self) -> Path:
        """The plan cache."""
        return self.folder / "plans"

    @property
    def blocks(self) -> Path:
        """The ONNX files of single blocks."""
        return self.folder / "blocks"

    @property
    def images(self) -> Path:
        """The images, preprocessed: float32, shape [N, 3, H, W]."""
        return self.folder / "images.npy"

    @property
    def distinct_points(self) -> tuple[int, ...]:
        """The operating points that the dial selects, falling."""
        return tuple(sorted(set(self.points), reverse=True))

    def point_at(self, u: float) -> int:
        """The operating point of a setting of the dial."""
        return self.points[self.dial.index(u)]

    def static(self, point: int) -> Path:
        """The static export of an operating point."""
        return self.folder / "static" / f"{point:02d}.onnx"

    def block_files(self) -> list[dict[str, str | None]]:
        """For each of `distinct_points`: block -> name of its file in `blocks`, in the order in which they run.

        None for a block of which nothing is left.
        """
        chains: list[dict[str, str | None]] = json.loads((self.folder / "blocks.json").read_text())
        return chains

    def write_block_files(self, chains: Sequence[dict[str, str | None]]) -> None:
        """Store what `block_files` reads."""
        (self.folder / "blocks.json").write_text(json.dumps(chains))


def write_work(work: Work) -> None:
    """Store a description for the processes of the ways."""
    (work.folder / _FILE).write_text(json.dumps(asdict(work), default=str))


def read_work(folder: Path) -> Work:
    """The description that `write_work` stored."""
    fields: dict[str, Any] = json.loads((folder / _FILE).read_text())
    return Work(
        folder=Path(fields["folder"]),
        run=Path(fields["run"]),
        dial=tuple(fields["dial"]),
        points=tuple(fields["points"]),
    )


def files_below(folder: Path) -> list[Path]:
    """Every file of a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]
