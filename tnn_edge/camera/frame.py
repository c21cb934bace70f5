"""What every source delivers, and what every source is."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tnn_edge.plant import Exposure

__all__ = ["Frame", "FrameSource", "Image"]

Image = npt.NDArray[np.uint8]
_Source = TypeVar("_Source", bound="FrameSource")


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One captured frame: a picture, or the reason why there is none.

    Attributes:
        index: 0 for the first frame of its source, without gaps.
        name: where it came from: the path below the folder, the video's file name, `camera 0`.
        captured_at: when it was captured (for files: read), seconds since the epoch.
        captured_s: the same on the monotonic clock, which ages are counted on.
        image: pixels, shape [H, W, 3], red-green-blue, perhaps read-only; None when `error` says why.
        error: why the frame could not be decoded; None when it could.
        label: its class, where the source knows one.
        exposure: how it was exposed, where the source knows.
    """

    index: int
    name: str
    captured_at: float
    captured_s: float = field(default_factory=time.monotonic)
    image: Image | None = None
    error: str | None = None
    label: str | None = None
    exposure: Exposure | None = None

    def __post_init__(self) -> None:
        if (self.image is None) == (self.error is None):
            raise ValueError("a frame has either an image or an error")


class FrameSource(ABC):
    """Frames in order, and a device or file that is released on every way out.

    Iterate once, inside `with`:

        with open_source("clip.mp4") as source:
            for frame in source: ...

    Attributes:
        n_frames: frames that the source announces; None when it has no end or does not say. A video's header may be
            wrong, so this number serves progress and ramps, never the accounting.
        description: the source in words, for messages.
        is_live: frames come at a pace of their own, and who does not take one in time has missed it.
    """

    is_live: bool = False
    n_frames: int | None
    description: str

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    @property
    def n_dropped(self) -> int:
        """Frames that were captured and not given out."""
        return 0

    def stop(self) -> None:
        """No more frames are wanted; one that was captured and not given out is dropped now."""
        return

    def close(self) -> None:
        """Release what the source holds; a second call does nothing."""
        return

    def __enter__(self: _Source) -> _Source:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
