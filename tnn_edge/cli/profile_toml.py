"""``tnn-edge profile --toml``: what was measured, as the profile that simulations and policies read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tnn_edge.errors import InputError

if TYPE_CHECKING:
    from tnn_edge.bundle import Manifest
    from tnn_edge.runtime.cost_profile import Profile

__all__ = ["write_toml"]


def write_toml(path: Path, found: Profile, manifest: Manifest, *, fps: float, idle_w: float | None) -> None:
    """Write the profile of a bundle on this machine.

    Args:
        path: file to write.
        found: what was measured.
        manifest: of the bundle, with its table of accuracy by light.
        fps: frames a second at full workload.
        idle_w: power with the network idle; None for what the meter saw at rest.

    Raises:
        InputError: no idle power, no energy of a point, or no table by light is known.
        TnnEdgeError: the file could not be written.
    """
    from tnn_edge.control import profile_of_network, write_profile

    is_modelled = found.meter is not None and found.meter.is_modelled
    rest_w = found.idle_w if idle_w is None else idle_w
    if rest_w is None:
        raise InputError("nothing here measures power at rest: give --idle-w, what the board draws with the camera on")
    above_mj = [cost.energy_mj if is_modelled else cost.energy_above_idle_mj for cost in found.points]
    how = "no meter" if found.meter is None else found.meter.name
    made = profile_of_network(
        u=[cost.u for cost in found.points],
        light=manifest.light,
        energy_mj=above_mj,
        frames_per_s=fps,
        idle_w=rest_w,
        source=f"{found.name} on {found.machine.get('processor', found.key.cpu)} at {fps:g} frames/s; energy by {how}",
        is_modelled=is_modelled,
    )
    write_profile(path, made)
