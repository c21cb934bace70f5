"""How fast the simulator is on this machine, on one core.

    OMP_NUM_THREADS=1 python -m train.simulator_speed

Steps a second of the compiled core, of the vector environment for Stable-Baselines3, and of one environment, alone and
under Gymnasium's own benchmark beside an environment that does nothing; medians of several rounds in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Annotated, Any

import gymnasium
import numpy as np
import typer
from gymnasium.utils.performance import benchmark_step

import tnn_edge.sim
from tnn_edge.cli.options import print_json, print_table
from tnn_edge.cli.program import program
from tnn_edge.sim import core
from tnn_edge.sim.camera_device import reference_device
from tnn_edge.sim.climate import read_climate
from tnn_edge.sim.drawing import draw_traces
from tnn_edge.sim.env import action_space, observation_space
from tnn_edge.sim.forcing import Forcing
from tnn_edge.sim.oracle import find_optimum
from tnn_edge.sim.sb3_vec_env import CameraDeviceVecEnv

__all__ = ["measure"]

_ROUND_S = 1.0


class Idle(gymnasium.Env[Any, Any]):
    """An environment that does nothing: what Gymnasium itself costs."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = observation_space(), action_space()
        self._seen = np.zeros(16, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        super().reset(seed=seed)
        return self._seen, {}

    def step(self, action: Any) -> Any:  # noqa: ARG002
        return self._seen, 0.0, False, False, {}


def measure(rounds: int) -> dict[str, float]:
    """Steps a second of each, and seconds of the optimum of a year."""
    env = gymnasium.make(tnn_edge.sim.ENV_ID, disable_env_checker=True).unwrapped
    ways: dict[str, Callable[[], float]] = {
        "core, 1024 devices": _core(1024),
        "VecEnv for Stable-Baselines3, 256 devices": _vec_env(256),
        "one environment, actions prepared": lambda: _alone(env),
        "one environment, benchmark_step": lambda: benchmark_step(env, target_duration=int(_ROUND_S), seed=0),
        "an idle environment, benchmark_step": lambda: benchmark_step(Idle(), target_duration=int(_ROUND_S), seed=0),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # compiles
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    result = {name: median(values) for name, values in found.items()}
    traces = draw_traces(read_climate("greensboro"), "test", [0])
    find_optimum(reference_device(), traces, 0, n_nodes=11)
    begin = time.perf_counter()
    find_optimum(reference_device(), traces, 0)
    return {**result, "optimum of a year at 15 minutes, s": time.perf_counter() - begin}


def _core(n: int) -> Callable[[], float]:
    device = reference_device()
    rows = Forcing.of(device, draw_traces(read_climate("miami"), "train", range(16))).rows
    parameters, profile = core.parameters_of(device, n, step_s=900.0), device.profile
    flows, u = np.empty((n, core.N_FLOWS)), np.random.default_rng(0).random(n)

    def run() -> float:
        first = np.random.default_rng(1).integers(rows.shape[1] // 2, size=n)
        state = core.start(parameters, rows, soc=0.5, trace=np.arange(n) % 16, step=first)
        begin, n_steps = time.perf_counter(), 0
        while time.perf_counter() - begin < _ROUND_S and n_steps < rows.shape[1] // 2:
            core.advance(
                state, u, rows, parameters, profile.u, profile.power_w, profile.accuracy, profile.confidence, flows
            )
            n_steps += 1
        return n * n_steps / (time.perf_counter() - begin)

    return run


def _vec_env(n: int) -> Callable[[], float]:
    env = CameraDeviceVecEnv(n)
    env.seed(0)
    env.reset()
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (n, 1)).astype(np.float32)

    def run() -> float:
        begin, n_steps = time.perf_counter(), 0
        while time.perf_counter() - begin < _ROUND_S:
            env.step(actions)
            n_steps += 1
        return n * n_steps / (time.perf_counter() - begin)

    return run


def _alone(env: gymnasium.Env[Any, Any]) -> float:
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (1000, 1)).astype(np.float32)
    begin, n_steps = time.perf_counter(), 0
    while time.perf_counter() - begin < _ROUND_S:
        for action in actions:
            if env.step(action)[3]:
                env.reset()
        n_steps += len(actions)
    return n_steps / (time.perf_counter() - begin)


def main(
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds of about a second each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How fast the simulator is on this machine, on one core."""
    found = measure(rounds)
    if as_json:
        print_json(found)
        return
    rows = [[name, f"{value:,.1f}" if name.endswith(", s") else f"{value:,.0f}"] for name, value in found.items()]
    ratio = found["one environment, benchmark_step"] / found["an idle environment, benchmark_step"]
    print_table(["", "steps a second"], [*rows, ["one environment over an idle one", f"{ratio:.2f}"]])


if __name__ == "__main__":
    program(main)
