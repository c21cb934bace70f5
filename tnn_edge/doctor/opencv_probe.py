"""What runs in a child process to try OpenCV."""

from __future__ import annotations

__all__ = ["probe"]


def probe() -> dict[str, str]:
    """Its version."""
    import cv2

    return {"version": cv2.__version__}
