"""One reading of a device's power: charge, mains, and where power flows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

__all__ = ["GAUGE_OVERSHOOT", "PowerReading", "PowerSource", "Unknown"]

T = TypeVar("T")

GAUGE_OVERSHOOT = 1.1
"""Fuel gauges count a little past full (MAX17040: 101 %), which is full; a share above this is no measurement."""


@dataclass(frozen=True)
class Unknown:
    """A value that could not be had, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class PowerReading:
    """What is known at one moment; `None` is unknown, never 0.

    Attributes:
        soc: state of charge of all batteries together, a share in [0, 1].
        on_mains: whether mains power feeds the device.
        power_in_w: power that chargers and panels deliver, >= 0.
        battery_w: power into the batteries, negative while they discharge.
        charge_wh: energy stored, >= 0.
        full_wh: energy stored when full, > 0; it shrinks as batteries age.
        reasons: why, for each field that is None.
        notes: what was left out or looked wrong, as `supply/attribute: reason`. Measured values stay out of both, so
            that a program may log them whenever they change.
    """

    soc: float | None
    on_mains: bool | None
    power_in_w: float | None
    battery_w: float | None
    charge_wh: float | None
    full_wh: float | None
    reasons: Mapping[str, str] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.soc is not None and not 0.0 <= self.soc <= 1.0:
            raise ValueError(f"soc must lie in [0, 1] or be None, got {self.soc:g}")
        for name in ("power_in_w", "charge_wh", "full_wh"):
            if (value := getattr(self, name)) is not None and not value >= 0.0:
                raise ValueError(f"{name} must not be negative, got {value:g}")

    @classmethod
    def of(
        cls,
        *,
        soc: float | Unknown,
        on_mains: bool | Unknown,
        power_in_w: float | Unknown,
        battery_w: float | Unknown,
        charge_wh: float | Unknown,
        full_wh: float | Unknown,
        notes: Iterable[str] = (),
    ) -> PowerReading:
        """A reading in which whatever is `Unknown` becomes None and leaves its reason."""
        fields = {
            "soc": soc,
            "on_mains": on_mains,
            "power_in_w": power_in_w,
            "battery_w": battery_w,
            "charge_wh": charge_wh,
            "full_wh": full_wh,
        }
        reasons = {name: value.reason for name, value in fields.items() if isinstance(value, Unknown)}
        return cls(
            soc=_known(soc),
            on_mains=_known(on_mains),
            power_in_w=_known(power_in_w),
            battery_w=_known(battery_w),
            charge_wh=_known(charge_wh),
            full_wh=_known(full_wh),
            reasons=reasons,
            notes=tuple(notes),
        )

    @classmethod
    def unknown(cls, reason: str) -> PowerReading:
        """A reading in which nothing is known, for one reason."""
        why = Unknown(reason)
        return cls.of(soc=why, on_mains=why, power_in_w=why, battery_w=why, charge_wh=why, full_wh=why)

    @property
    def is_known(self) -> bool:
        """Whether any field is known."""
        fields = (self.soc, self.on_mains, self.power_in_w, self.battery_w, self.charge_wh, self.full_wh)
        return any(value is not None for value in fields)


class PowerSource(Protocol):
    """Whatever can say how a device is powered."""

    def read(self) -> PowerReading:
        """The state of now; what cannot be read is None with a reason, and nothing is raised."""
        ...


def _known(value: T | Unknown) -> T | None:
    return None if isinstance(value, Unknown) else value
