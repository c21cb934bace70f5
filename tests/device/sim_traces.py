"""Traces made of plain random numbers, for tests that need extremes and not weather."""

import numpy as np

from tnn_edge.sim.traces import Traces


def random_traces(n: int, n_steps: int, *, seed: int = 0, step_s: float = 900.0, coldest_c: float = -30.0) -> Traces:
    """Sun at random in random hours, from frost to heat, from moonlight to sunshine."""
    rng = np.random.default_rng(seed)
    shape = (n, n_steps)
    hours = np.arange(0.5, n_steps, dtype=np.float64) * (step_s / 3600.0)
    sun = np.where(rng.random(shape) < 0.5, 0.0, 1200.0 * rng.random(shape))
    lux = 10.0 ** rng.uniform(-2.0, 6.0, shape)
    return Traces(
        site="nowhere",
        step_s=step_s,
        hour=hours % 24.0,
        day_of_year=1.0 + np.floor(hours / 24.0) % 365.0,
        irradiance_w_m2=sun,
        air_c=rng.uniform(coldest_c, 45.0, shape),
        lux=lux,
        scene_lux=lux * rng.random(shape),
        events_per_h=rng.gamma(1.0, 100.0, shape),
        confidence_z=rng.standard_normal(shape),
    )
