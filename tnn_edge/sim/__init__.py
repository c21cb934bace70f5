"""The simulated device: weather and work, the compiled core, the environment, the optimum in hindsight.

Importing it makes `gymnasium.make("tnn_edge/CameraDevice-v0")` find the environment;
`gymnasium.make("tnn_edge.sim:tnn_edge/CameraDevice-v0")` does both.
"""

from tnn_edge.sim.registration import ENV_ID, register_envs

__all__ = ["ENV_ID"]

register_envs()
