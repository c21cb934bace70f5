"""What a device would draw at a price of energy, looked up: a plan asks so for every hour and many prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.control.device_profile import DeviceProfile

__all__ = ["DemandTable"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

_PER_LEVEL = 16
_N_PRICES = 512


@dataclass(frozen=True, eq=False, kw_only=True)
class DemandTable:
    """Power at full workload of the operating point that is worth most, over light and price.

    The price is in accuracy for a watt, as its logarithm: log(price_per_wh workload / events_per_h). Between two rows
    the nearer is taken, between two columns the cheaper: what is bought at a price is never more than the table says.

    Attributes:
        power_w: shape [n_light, n_prices], not rising with the price.
        low: logarithm of the price of the first column, at which everything is bought that is worth anything.
        step: between two columns; in the last one nothing is bought.
    """

    power_w: Floats
    low: float
    step: float

    @classmethod
    def of(cls, profile: DeviceProfile) -> DemandTable:
        """Work it out."""
        n_levels = len(profile.lux)
        levels = np.linspace(0.0, n_levels - 1.0, _PER_LEVEL * (n_levels - 1) + 1)
        lux = 10.0 ** np.interp(levels, np.arange(n_levels), np.log10(profile.lux))
        accuracy = profile.accuracy_at(lux)  # [n_light, n_points]
        power_w = profile.power_w
        dearer, above = np.diff(power_w) > 0.0, power_w > power_w[0]
        slopes = np.concatenate(
            [
                (np.diff(accuracy, axis=1)[:, dearer] / np.diff(power_w)[dearer]).ravel(),
                ((accuracy - accuracy[:, :1])[:, above] / (power_w - power_w[0])[above]).ravel(),
            ]
        )  # among them the least and the largest price at which the choice changes
        slopes = np.log(slopes[slopes > 1e-12])
        low, high = (float(slopes.min()) - 0.1, float(slopes.max()) + 0.1) if slopes.size else (-1.0, 1.0)
        log_price = np.linspace(low, high, _N_PRICES)
        worth = accuracy[:, None, :] - np.exp(log_price)[None, :, None] * power_w
        return cls(power_w=power_w[worth.argmax(axis=2)], low=low, step=(high - low) / (_N_PRICES - 1))

    @property
    def high(self) -> float:
        """Logarithm of the price of the last column."""
        return self.low + self.step * (_N_PRICES - 1)

    def rows_at(self, level: Floats) -> Ints:
        """Rows of the table for positions on the profile's axis of light, of the same shape."""
        return np.asarray(np.rint(_PER_LEVEL * level), np.intp)

    def power_at(self, rows: Ints, log_price: Floats) -> Floats:
        """Power at full workload, shapes that are equal.

        Args:
            rows: of `rows_at`.
            log_price: as in the table; +inf where nothing is worth anything.
        """
        column = np.clip((log_price - self.low) / self.step, 0.0, _N_PRICES - 1.0)
        index = rows * _N_PRICES + column.astype(np.intp)
        return np.asarray(self.power_w.ravel().take(index))
