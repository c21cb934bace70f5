"""The energy that a Jetson board or its module takes, from its power rails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tnn_edge.device.power import Unknown
from tnn_edge.device.power_rails import Rail, find_rails
from tnn_edge.device.power_samples import Stop
from tnn_edge.device.sampled_energy import SampledMeter
from tnn_edge.errors import DeviceError

__all__ = ["rail_meter"]

# Rails that hold all others, widest first; nothing is added to them (rbonghi/jetson_stats #51, #900).
_TOTALS = {"VIN": "board", "VDD_IN": "module", "POM_5V_IN": "module", "5V_IN": "module"}
# A rail that another one feeds is in it already: "Software-based power consumption modeling" of the Jetson Linux
# developer guide, Jetson AGX Orin series.
_FED_BY = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}


def rail_meter(
    root: Path = Path("/sys"),
    *,
    period_s: float = 0.02,
    clock: Callable[[], float] = time.monotonic,
    new_stop: Callable[[], Stop] = threading.Event,
) -> SampledMeter:
    """A meter of the rail that holds all others, or of the sum of rails where no rail does.

    The scope is `module` except for the rail `VIN`, which is the input of the carrier board: what a module's own rails
    say leaves out the carrier board with its camera, its ports and the loss of its regulators.

    Args:
        root: of the kernel's tree.
        period_s: time between two readings; a monitor that averages longer is read less often.
        clock: see `SampledMeter`.
        new_stop: see `SampledMeter`.

    Raises:
        DeviceError: there are no rails, or they cannot be read now.
    """
    rails, scope = _metered(find_rails(root))
    if not rails:
        raise DeviceError(f"no INA3221 or INA238 power monitor with a named rail below {root / 'class' / 'hwmon'}")
    places = ", ".join(dict.fromkeys(str(rail.path) for rail in rails))
    name = f"{rails[0].chip} {' + '.join(rail.label for rail in rails)} ({places})"
    meter = SampledMeter(
        lambda: _sum_w(rails),
        name=name,
        scope=scope,
        period_s=period_s,
        refresh_s=max(rail.refresh_s for rail in rails),
        clock=clock,
        new_stop=new_stop,
    )
    if isinstance(power_w := _sum_w(rails), Unknown):
        raise DeviceError(f"{name}: {power_w.reason}")
    return meter


def _metered(rails: Sequence[Rail]) -> tuple[tuple[Rail, ...], str]:
    """The rails whose sum is the whole, and of what."""
    for label, scope in _TOTALS.items():
        for rail in rails:
            if rail.label == label:
                return (rail,), scope
    labels = {rail.label for rail in rails}
    return tuple(rail for rail in rails if _FED_BY.get(rail.label) not in labels), "module"


def _sum_w(rails: Sequence[Rail]) -> float | Unknown:
    """Power of all rails; unknown where one of them is, or where it is none, for the board runs."""
    total_w = 0.0
    for rail in rails:
        power_w = rail.read_w()
        if isinstance(power_w, Unknown):
            return power_w
        total_w += power_w
    return total_w if total_w > 0.0 else Unknown("0 W or less, which no board that runs can take")
