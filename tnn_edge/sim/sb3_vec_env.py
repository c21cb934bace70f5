"""Many `tnn_edge/CameraDevice-v0` in one, for Stable-Baselines3, which does not take Gymnasium's own vector form."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils.seeding import np_random
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from tnn_edge.sim import core
from tnn_edge.sim.env import action_space, observation_space
from tnn_edge.sim.env_settings import EnvSettings
from tnn_edge.sim.episodes import Episodes

__all__ = ["CameraDeviceVecEnv"]


class CameraDeviceVecEnv(VecEnv):
    """n devices on one compiled core. Spaces, dynamics and settings are those of `CameraDeviceEnv`.

    An episode that ends is followed by the next in the same step; its last observation is in
    `infos[i]["terminal_observation"]`, and `infos[i]["TimeLimit.truncated"]` is true, so that a learner bootstraps.
    `infos[i]["episode"]` then holds what `Monitor` would say of it, and the sums of what `info` says of a step. In all
    other steps `infos` is one list of empty dictionaries, the same every time: making n of them would cost more than
    the simulation.

    Args:
        n_envs: n.
        settings: fields of `EnvSettings`.
    """

    render_mode: str | None = None  # VecEnv asks for it before it sets it

    def __init__(self, n_envs: int, **settings: Any) -> None:
        self.settings = EnvSettings(**settings)
        super().__init__(n_envs, observation_space(), action_space())
        self._episodes = Episodes(self.settings, n_envs)
        self._rngs = [np_random(None)[0] for _ in range(n_envs)]
        self._no_infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]
        self._none_done = np.zeros(n_envs, np.bool_)
        self._totals = np.zeros((n_envs, core.N_FLOWS))
        self._overrides = np.zeros(n_envs)
        self._actions = np.zeros(n_envs)

    def reset(self) -> npt.NDArray[np.float32]:
        """Begin all episodes; a seed of `seed` counts once."""
        for i, seed in enumerate(self._seeds):
            if seed is not None:
                self._rngs[i] = np_random(seed)[0]
        self._reset_seeds()
        self._reset_options()
        self._totals[:] = 0.0
        self._overrides[:] = 0.0
        self._episodes.begin(range(self.num_envs), self._rngs)
        return self._episodes.observation.copy()

    def step_async(self, actions: npt.NDArray[np.float32]) -> None:
        """Keep the actions of the next step."""
        self._actions = np.ascontiguousarray(np.asarray(actions, np.float64)[:, 0])

    def step_wait(self) -> VecEnvStepReturn:
        """One step of all devices."""
        episodes = self._episodes
        episodes.step(self._actions)
        self._totals += episodes.flows
        self._overrides += episodes.overrides
        rewards = (episodes.flows[:, core.UTILITY] * episodes.reward_per_event).astype(np.float32)
        done = episodes.n_left <= 0
        if not done.any():
            return episodes.observation.copy(), rewards, self._none_done.copy(), self._no_infos
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = np.flatnonzero(done).tolist()
        for i in ended:
            infos[i] = {
                "terminal_observation": episodes.observation[i].copy(),
                "TimeLimit.truncated": True,
                "episode": self._account(i),
            }
        self._totals[ended] = 0.0
        self._overrides[ended] = 0.0
        episodes.begin(ended, [self._rngs[i] for i in ended])
        return episodes.observation.copy(), rewards, done, infos

    def _account(self, i: int) -> dict[str, float]:
        total, n_steps = self._totals[i], self.settings.n_steps
        return {
            "r": float(total[core.UTILITY] * self._episodes.reward_per_event),
            "l": n_steps,
            "utility": float(total[core.UTILITY]),
            "energy_wh": float(total[core.LOAD_WH]),
            "brown_outs": float(total[core.BROWN_OUT]),
            "hours_down": float((n_steps - total[core.ON_SHARE]) * self.settings.step_s / 3600.0),
            "spilled_wh": float(total[core.SPILLED_WH]),
            "overrides": float(self._overrides[i]),
        }

    def close(self) -> None:
        """Nothing is held."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute, once for each device: they share it."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:  # noqa: ARG002 -- theirs
        """Refused: settings hold for all devices, from the start."""
        raise AttributeError(f"{attr_name} cannot be set: the devices share their settings; make another environment")

    def env_method(self, method_name: str, *_arguments: Any, **_options: Any) -> list[Any]:
        """Refused: there are no environments of their own behind this one."""
        raise AttributeError(f"{method_name} cannot be called: the devices are no environments of their own")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """No device is wrapped, but episodes are told of as by `Monitor`."""
        from stable_baselines3.common.monitor import Monitor

        return [wrapper_class is Monitor for _ in self._get_indices(indices)]
