"""The picture of a profile: what accuracy costs, in energy and in time, as the dial turns."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tnn_edge.bundle import OperatingPoint
from tnn_edge.errors import BundleError
from tnn_edge.picture_file import new_figure
from tnn_edge.runtime.cost_profile import Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_accuracies", "draw_profile_png"]

_NAMED_POINTS = 12
"""As many fit beside a curve."""


def check_accuracies(points: Sequence[OperatingPoint]) -> None:
    """Find out before a long measurement whether its picture could be drawn.

    Raises:
        BundleError: the accuracy of a point is unknown.
    """
    if any(point.accuracy is None for point in points):
        raise BundleError(
            "the bundle holds no accuracies to draw; export it again with held-out images: "
            "python -m export RUN --out BUNDLE --data DIR"
        )


def draw_profile_png(profile: Profile, points: Sequence[OperatingPoint]) -> bytes:
    """Draw accuracy against energy, where it is known, and against latency: figure 1a of the paper for one network.

    Args:
        profile: what was measured.
        points: the bundle's operating points, with their accuracies.

    Raises:
        BundleError: the accuracy of a point is unknown.
        MissingExtraError: matplotlib is not installed.
    """
    check_accuracies(points)
    percent = [100.0 * (point.accuracy or 0.0) for point in points]
    energy_mj = [cost.energy_mj for cost in profile.points]
    known_mj = [mj for mj in energy_mj if mj is not None]
    has_energy = len(known_mj) == len(points)
    figure = new_figure(11.0 if has_energy else 6.5, 4.8)
    panels = figure.subplots(1, 2 if has_energy else 1, sharey=True, squeeze=False)[0]
    if has_energy:
        _draw_curve(panels[0], known_mj, percent, points, "tab:green")
        panels[0].set_xlabel(_energy_label(profile), parse_math=False)
    latency = panels[-1]
    p95_ms = [cost.latency_p95_ms for cost in profile.points]
    p50_ms = [cost.latency_p50_ms for cost in profile.points]
    _draw_curve(latency, p50_ms, percent, points, "tab:blue")
    latency.hlines(percent, p50_ms, p95_ms, color="tab:blue", alpha=0.5, label="up to the 95th percentile")
    latency.set_xlabel("median latency per inference [ms]")
    latency.legend(loc="lower right", frameon=False)
    for axes in panels:
        axes.set_xlim(left=0.0)  # once all is drawn, or what comes later is cut off
    panels[0].set_ylabel("accuracy on held-out images [%]")
    settings = profile.key.settings
    processor = profile.machine.get("processor", profile.key.cpu)
    where = f"{processor}, device {profile.key.device}, threads {settings.get('threads')}"
    figure.suptitle(
        f"{profile.name}: what accuracy costs; at each point the throttle u from which it runs\n{where}",
        fontsize=10,
        parse_math=False,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _energy_label(profile: Profile) -> str:
    assert profile.meter is not None  # the energies are known
    how = "MODELLED, not measured" if profile.meter.is_modelled else "measured, what the machine takes at rest included"
    return f"energy per inference [mJ], {profile.meter.scope}\n{how}: {profile.meter.name}"


def _draw_curve(
    axes: Axes, costs: Sequence[float], percent: Sequence[float], points: Sequence[OperatingPoint], colour: str
) -> None:
    axes.plot(costs, percent, marker="o", markersize=5.0, linewidth=1.8, color=colour)
    step = -(-len(points) // _NAMED_POINTS)
    for i, point in enumerate(points):
        if i % step and i != len(points) - 1:
            continue
        offset = (-7, 7) if i // step % 2 else (9, -14)  # off the rising curve, above and below in turn
        place = (costs[i], percent[i])
        text = f"{point.u:.2f}" if i else f"u={point.u:.2f}"
        axes.annotate(text, place, offset, textcoords="offset points", ha="center", fontsize=8)
    axes.margins(y=0.12)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
