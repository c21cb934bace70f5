"""What a policy may know: one table of signals, and an observation of n devices over it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import InputError

__all__ = ["SIGNALS", "Observation", "Signal", "check_value", "table_hash"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One row of the table.

    Attributes:
        unit: in words; a share is 0 to 1, never percent.
        low: smallest value that is taken for true.
        high: largest value that is taken for true.
        meaning: what is measured.
    """

    unit: str
    low: float
    high: float
    meaning: str


SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {
        "soc": Signal(unit="share", low=0, high=1, meaning="state of charge of the battery"),
        "on_mains": Signal(unit="0 or 1", low=0, high=1, meaning="whether mains power feeds the device"),
        "power_in_w": Signal(unit="W", low=0, high=10_000, meaning="power that the panel or charger delivers"),
        "lux": Signal(unit="lux", low=0, high=200_000, meaning="illuminance of the scene"),
        "confidence": Signal(unit="share", low=0, high=1, meaning="softmax probability of the network's last answers"),
        "temperature_c": Signal(unit="degrees C", low=-60, high=150, meaning="temperature of the board"),
        "hour": Signal(unit="h", low=0, high=24, meaning="local time of day"),
        "day_of_year": Signal(unit="day", low=1, high=367, meaning="local date, 1 on January 1"),
        "workload": Signal(unit="share", low=0, high=1, meaning="frames waiting to be seen, 1 for the full frame rate"),
        "last_u": Signal(unit="share", low=0, high=1, meaning="throttle of the last decision"),
    }
)
"""Every signal that a policy, a rule or a learned controller may read. `None`, in arrays NaN, is unknown."""

_LOW = np.array([[signal.low] for signal in SIGNALS.values()], np.float64)
_HIGH = np.array([[signal.high] for signal in SIGNALS.values()], np.float64)


def table_hash() -> str:
    """SHA-256 of the table's names, units and bounds: what a stored controller was made for."""
    rows = [[name, signal.unit, signal.low, signal.high] for name, signal in SIGNALS.items()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def check_value(setting: str, signal: str, value: float) -> None:
    """Raise a ValueError that names the setting, unless its value is one that the signal can have."""
    row = SIGNALS[signal]
    if row.low <= value <= row.high:
        return
    hint = f"; for {value:g} % write {value / 100:g}" if row.unit == "share" and 1.0 < value <= 100.0 else ""
    bounds = f"[{row.low:g}, {row.high:g}] ({signal} in {row.unit})"
    raise ValueError(f"{setting} must lie in {bounds}, got {value:g}{hint}")


@dataclass(frozen=True, eq=False)
class Observation:
    """The signals of n devices at one moment.

    Attributes:
        time_s: monotonic clock in seconds; only differences count. Wall time is in the signals `hour` and
            `day_of_year`.
        values: signal -> float64, shape [n]; NaN is unknown. Every signal of the table is there.
    """

    time_s: float
    values: Mapping[str, Floats]

    @classmethod
    def of(cls, *, time_s: float, n: int | None = None, **signals: npt.ArrayLike | None) -> Observation:
        """Build an observation; what is not named is unknown, and so is a value outside its signal's bounds.

        Args:
            time_s: monotonic seconds.
            n: devices, where no array says it; 1 by default.
            signals: a number, an array of shape [n], or None.

        Raises:
            InputError: a signal that the table does not have, or arrays of different lengths.
        """
        if strangers := signals.keys() - SIGNALS.keys():
            raise InputError(f"no signal is called {', '.join(sorted(strangers))}; there are {', '.join(SIGNALS)}")
        arrays = {name: np.asarray(np.nan if value is None else value, np.float64) for name, value in signals.items()}
        lengths = {a.size for a in arrays.values() if a.size != 1} | ({n} if n is not None else set())
        if len(lengths) > 1 or any(a.ndim > 1 for a in arrays.values()):
            shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
            raise InputError(f"signals must be numbers or arrays of one length, got {shapes}")
        table = np.full((len(SIGNALS), lengths.pop() if lengths else 1), np.nan)
        for row, name in enumerate(SIGNALS):
            if name in arrays:
                table[row] = arrays[name]
        table[~((table >= _LOW) & (table <= _HIGH))] = np.nan  # NaN fails both
        return cls(time_s, MappingProxyType(dict(zip(SIGNALS, table, strict=True))))

    def __getitem__(self, name: str) -> Floats:
        return self.values[name]

    def __len__(self) -> int:
        return len(self.values["soc"])
