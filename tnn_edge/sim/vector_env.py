"""Many `tnn_edge/CameraDevice-v0` in one, for Gymnasium."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from tnn_edge.sim import core
from tnn_edge.sim.env import action_space, observation_space
from tnn_edge.sim.env_settings import EnvSettings
from tnn_edge.sim.episodes import Episodes

__all__ = ["CameraDeviceVectorEnv"]

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class CameraDeviceVectorEnv(VectorEnv[Floats32, Floats32, Any]):
    """n devices on one compiled core: `gymnasium.make_vec(..., vectorization_mode="vector_entry_point")`.

    Spaces, dynamics and settings are those of `CameraDeviceEnv`; device i seeded with `seed + i` goes its way to the
    last bit. An episode that ends is followed by the next in the same step; `infos["final_obs"]` then holds its last
    observations, where `infos["_final_obs"]` is true.

    Args:
        num_envs: n.
        render_mode: None; there is nothing to look at.
        settings: fields of `EnvSettings`.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None, **settings: Any) -> None:
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.settings = EnvSettings(**settings)
        self.single_observation_space, self.single_action_space = observation_space(), action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episodes = Episodes(self.settings, num_envs)
        self._rngs = [np_random(None)[0] for _ in range(num_envs)]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats32, dict[str, Any]]:
        """Begin all episodes, or those that `options["reset_mask"]` marks.

        Args:
            seed: of device 0, the others follow it; or one for each; None goes on with the present generators.
            options: None, or `reset_mask` of shape [n].
        """
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_)))
        if seed is None or isinstance(seed, list):
            seeds = seed or [None] * self.num_envs
        else:
            seeds = [int(seed) + i for i in range(self.num_envs)]
        which = np.flatnonzero(mask)
        for i in which:
            if (one := seeds[i]) is not None:
                self._rngs[i] = np_random(one)[0]
        self._begin(which)
        return self._episodes.observation.copy(), {}

    def step(self, actions: Floats32) -> tuple[Floats32, Floats, Bools, Bools, dict[str, Any]]:
        """One step of all devices; see `CameraDeviceEnv`."""
        episodes = self._episodes
        episodes.step(np.asarray(actions, np.float64)[:, 0])
        rewards = episodes.flows[:, core.UTILITY] * episodes.reward_per_event
        truncated = episodes.n_left <= 0
        infos = episodes.infos()
        if truncated.any():
            infos["final_obs"] = episodes.observation.copy()
            infos["_final_obs"] = truncated
            self._begin(np.flatnonzero(truncated))
        return episodes.observation.copy(), rewards, np.zeros(self.num_envs, np.bool_), truncated, infos

    def _begin(self, which: npt.NDArray[np.intp]) -> None:
        self._episodes.begin(which.tolist(), [self._rngs[i] for i in which])
