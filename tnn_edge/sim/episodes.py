"""Episodes of n devices on a bank of traces: what every form of the environment is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import InputError
from tnn_edge.sim import core, env_core
from tnn_edge.sim.climate import read_climate
from tnn_edge.sim.drawing import draw_traces
from tnn_edge.sim.env_settings import EnvSettings
from tnn_edge.sim.forcing import Forcing

__all__ = ["INFO", "Episodes"]

Floats = npt.NDArray[np.float64]

INFO: Mapping[str, int] = {
    "utility": core.UTILITY,
    "energy_wh": core.LOAD_WH,
    "brown_outs": core.BROWN_OUT,
    "spilled_wh": core.SPILLED_WH,
    "u": core.SERVED_U,
}
"""What `info` holds besides `hours_down` and `overrides`: the column of the core's flows for each name."""


class Episodes:
    """n devices, each in an episode of its own.

    Args:
        settings: of the environment.
        n: devices.
    """

    def __init__(self, settings: EnvSettings, n: int) -> None:
        if n < 1:
            raise InputError(f"the number of environments must be at least 1, got {n}")
        self.settings, self.n = settings, n
        device, profile, rule = settings.device, settings.device.profile, settings.price_rule()
        seeds = range(settings.trace_seed, settings.trace_seed + settings.n_traces)
        rows, signals = [], []
        self.shield_wh = np.zeros(len(profile.u))
        for site in settings.sites:
            climate = read_climate(site)
            traces = draw_traces(
                climate, settings.split, seeds, step_s=settings.step_s, surroundings=settings.surroundings
            )
            reserve = settings.reserve(climate)
            if reserve is not None:
                self.shield_wh = reserve.needed_wh()
            rows.append(Forcing.of(device, traces).rows)
            signals.append(env_core.signals_of(rule, traces, reserve))
        self.rows, self.signals = np.concatenate(rows), np.concatenate(signals)
        self.parameters = core.parameters_of(device, n, step_s=settings.step_s)
        self.rule = env_core.rule_numbers(rule, step_s=settings.step_s)
        self.tables = (profile.u, profile.power_w, profile.accuracy, profile.confidence)
        self.reward_per_event = 3600.0 / (settings.surroundings.events.mean_per_h * settings.step_s)
        self.is_direct = settings.action == "direct"
        self.state = np.zeros((n, core.N_STATES))
        self.memory = np.zeros((n, env_core.MEMORY))
        self.u = np.zeros(n)
        self.flows = np.zeros((n, core.N_FLOWS))
        self.observation = np.zeros((n, len(env_core.FEATURES)), np.float32)
        self.n_left = np.zeros(n, np.intp)

    def begin(self, which: Iterable[int], rngs: Iterable[np.random.Generator]) -> None:
        """Start anew, each device by its own generator: a trace, a first step in it, a state of charge.

        Args:
            which: devices.
            rngs: one for each of them.
        """
        low, high = self.settings.start_soc
        n_steps = self.settings.n_steps
        for i, rng in zip(which, rngs, strict=True):
            trace = rng.integers(self.rows.shape[0])
            step = rng.integers(self.rows.shape[1] - n_steps)
            soc = rng.uniform(low, high)
            one = slice(i, i + 1)
            self.state[one] = core.start(self.parameters[one], self.rows, soc=soc, trace=trace, step=step)
            env_core.begin(
                self.state[one],
                self.memory[one],
                self.rows,
                self.signals,
                self.parameters[one],
                self.rule,
                self.observation[one],
            )
            self.n_left[i] = n_steps

    def step(self, action: Floats) -> None:
        """One step of all devices; `observation`, `flows` and `n_left` are those after it.

        Args:
            action: shape [n].
        """
        env_core.step_all(
            action,
            self.is_direct,
            self.state,
            self.memory,
            self.u,
            self.rows,
            self.signals,
            self.parameters,
            self.rule,
            *self.tables,
            self.shield_wh,
            self.flows,
            self.observation,
        )
        self.n_left -= 1

    @property
    def overrides(self) -> Floats:
        """Whether the shield was stricter than the action of the last step, 0 or 1, shape [n]."""
        return self.memory[:, env_core.OVERRIDE]

    def infos(self) -> dict[str, Any]:
        """What the last step brought, arrays of shape [n]."""
        infos: dict[str, Any] = {name: self.flows[:, column].copy() for name, column in INFO.items()}
        infos["hours_down"] = (1.0 - self.flows[:, core.ON_SHARE]) * (self.settings.step_s / 3600.0)
        infos["overrides"] = self.overrides.copy()
        return infos
