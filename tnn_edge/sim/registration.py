"""The name by which Gymnasium finds the environment."""

from __future__ import annotations

import gymnasium

__all__ = ["ENV_ID", "register_envs"]

ENV_ID = "tnn_edge/CameraDevice-v0"


def register_envs() -> None:
    """Tell Gymnasium of the environment, once."""
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            id=ENV_ID,
            entry_point="tnn_edge.sim.env:CameraDeviceEnv",
            vector_entry_point="tnn_edge.sim.vector_env:CameraDeviceVectorEnv",
        )
