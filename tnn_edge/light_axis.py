"""The axis of light in pictures: logarithmic, with landmarks from the moon to the sun."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["set_light_axis"]

_LANDMARKS = {
    0.1: "0.1\nfull moon",
    1.0: "1",
    10.0: "10\nstreet light",
    100.0: "100",
    1_000.0: "1 000\novercast",
    10_000.0: "10 000\ndaylight",
    100_000.0: "100 000\nsun",
}


def set_light_axis(axes: Axes, darkest: float, brightest: float) -> None:
    """Make the x axis one of light, with the landmarks between two illuminances in lux."""
    axes.set_xscale("log")
    landmarks = {lux: text for lux, text in _LANDMARKS.items() if darkest <= lux <= brightest}
    axes.set_xticks(list(landmarks), list(landmarks.values()))
    axes.set_xlabel("light on the scene [lux]")
