"""The picture of a light table: accuracy and calibration error against light, a line for some of the points."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from tnn_edge.bundle.light import LightTable, spread_points
from tnn_edge.light_axis import set_light_axis
from tnn_edge.picture_file import new_figure

__all__ = ["draw_light_png"]


def draw_light_png(table: LightTable, dial: Sequence[float], *, name: str) -> bytes:
    """Draw accuracy and expected calibration error against light.

    Args:
        table: what was measured.
        dial: lowest u of each operating point.
        name: of the network.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(11.0, 4.5)
    import matplotlib as mpl

    accuracy, error = figure.subplots(1, 2)
    shown = spread_points(len(dial))
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.92, len(shown)))  # yellow is hard to see on white
    for index, colour in zip(shown, colours, strict=True):
        look = {
            "color": colour,
            "marker": "o",
            "markersize": 4.0,
            "linewidth": 1.8,
            "label": f"u from {dial[index]:.2f}",
        }
        accuracy.plot(table.lux, [100.0 * share for share in table.accuracy[index]], **look)
        error.plot(table.lux, [100.0 * share for share in table.calibration_error[index]], **look)
    accuracy.set(title="accuracy", ylabel="right answers [%]", ylim=(0.0, 100.0))
    error.set(title="expected calibration error", ylabel="confidence apart from accuracy [%]")
    error.set_ylim(bottom=0.0)
    for axes in (accuracy, error):
        set_light_axis(axes, table.lux[0], table.lux[-1])
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=len(shown), frameon=False)
    title = f"{name} by light, {table.n_images} held-out images"
    figure.suptitle(title, fontweight="bold", parse_math=False)  # a name is a name, whatever its signs
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
