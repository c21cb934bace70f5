"""The axis of light: its landmarks lie between the two ends and nowhere else."""

from __future__ import annotations

import pytest

from tnn_edge.light_axis import set_light_axis
from tnn_edge.picture_file import new_figure

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def test_landmarks_stand_at_their_light_between_the_ends() -> None:
    axes = new_figure(4.0, 3.0).subplots()
    axes.set_xlim(0.5, 2000.0)
    set_light_axis(axes, 0.5, 2000.0)
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "light on the scene [lux]"
    labels = {tick: label.get_text() for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    assert labels == {1.0: "1", 10.0: "10\nstreet light", 100.0: "100", 1000.0: "1 000\novercast"}
