"""The environment in its three forms: one specification, one core, the same bits."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3
from stable_baselines3.common.evaluation import evaluate_policy

import tnn_edge.sim
from tnn_edge.control import Observation, PricePolicy, ReserveShield
from tnn_edge.errors import InputError
from tnn_edge.sim import core
from tnn_edge.sim.climate import read_climate
from tnn_edge.sim.drawing import draw_traces
from tnn_edge.sim.env import CameraDeviceEnv
from tnn_edge.sim.env_core import FEATURES
from tnn_edge.sim.forcing import WORKLOAD
from tnn_edge.sim.sb3_vec_env import CameraDeviceVecEnv
from tnn_edge.sim.vector_env import CameraDeviceVectorEnv

SMALL: dict[str, Any] = {"sites": ("miami",), "n_traces": 2, "horizon_days": 2}
N_STEPS = 2 * 96


def random_actions(n_steps: int, n: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1.0, 1.0, (n_steps, n, 1)).astype(np.float32)


def test_both_checkers_have_nothing_to_say() -> None:
    env = gymnasium.make(tnn_edge.sim.ENV_ID, **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
        check_env_of_sb3(env.unwrapped)


@pytest.mark.parametrize(("action", "shield_years"), [("log_price", 0), ("direct", 2)])
def test_one_device_goes_its_way_in_a_batch_bit_for_bit(action: str, shield_years: int) -> None:
    n, n_steps = 64, 1000  # over several episodes
    batch = CameraDeviceVectorEnv(n, **SMALL, action=action, shield_years=shield_years)
    actions = random_actions(n_steps, n)
    seen, _ = batch.reset(seed=100)
    courses: list[tuple[Any, Any, Any, dict[str, Any]]] = [(seen, None, None, {})]
    for t in range(n_steps):
        seen, rewards, _, truncated, infos = batch.step(actions[t])
        courses.append((seen, rewards, truncated, infos))
    for i in range(0, n, 9):
        env = CameraDeviceEnv(**SMALL, action=action, shield_years=shield_years)
        alone, _ = env.reset(seed=100 + i)
        assert alone.tobytes() == courses[0][0][i].tobytes()
        for t in range(n_steps):
            alone, reward, terminated, is_over, info = env.step(actions[t, i])
            seen, rewards, truncated, infos = courses[t + 1]
            assert (reward, is_over) == (rewards[i], truncated[i])
            assert not terminated
            for name in ("utility", "energy_wh", "brown_outs", "spilled_wh", "u", "hours_down", "overrides"):
                assert info[name] == infos[name][i]
            if is_over:
                assert alone.tobytes() == infos["final_obs"][i].tobytes()
                alone, _ = env.reset()
            assert alone.tobytes() == seen[i].tobytes()


def test_stable_baselines_sees_the_same_and_is_told_that_the_horizon_is_no_end() -> None:
    n = 8
    of_sb3, of_gymnasium = CameraDeviceVecEnv(n, **SMALL), CameraDeviceVectorEnv(n, **SMALL)
    of_sb3.seed(7)
    first = of_sb3.reset()
    assert isinstance(first, np.ndarray)
    assert first.tobytes() == of_gymnasium.reset(seed=7)[0].tobytes()
    n_ends, utility = 0, np.zeros(n)
    for actions in random_actions(3 * N_STEPS, n):
        seen, rewards, done, infos = of_sb3.step(actions)
        expected, expected_rewards, _, truncated, more = of_gymnasium.step(actions)
        assert isinstance(seen, np.ndarray)
        assert seen.tobytes() == expected.tobytes()
        np.testing.assert_array_equal(rewards, expected_rewards.astype(np.float32))
        np.testing.assert_array_equal(done, truncated)
        utility += more["utility"]
        for i in range(n):
            assert ("terminal_observation" in infos[i]) == done[i]
            if done[i]:
                assert infos[i]["TimeLimit.truncated"] is True
                assert infos[i]["terminal_observation"].tobytes() == more["final_obs"][i].tobytes()
                assert infos[i]["episode"]["l"] == N_STEPS
                assert infos[i]["episode"]["utility"] == pytest.approx(utility[i], rel=1e-12)
                utility[i] = 0.0
                n_ends += 1
    assert n_ends == 3 * n


def test_the_same_seed_gives_the_same_trajectory_and_another_another() -> None:
    actions = random_actions(300, 1)
    courses = []
    for seed in (5, 5, 6):
        env = CameraDeviceEnv(**SMALL)
        courses.append([env.reset(seed=seed)[0].tobytes()] + [env.step(a[0])[0].tobytes() for a in actions])
    assert courses[0] == courses[1]
    assert courses[0] != courses[2]


@pytest.mark.parametrize("shield_years", [0, 2])
def test_an_action_of_zero_is_the_price_rule_itself_under_its_shield(shield_years: int) -> None:
    env = CameraDeviceEnv(**{**SMALL, "horizon_days": 5}, shield_years=shield_years)
    episodes = env._episodes
    env.reset(seed=3)
    reserve = env.settings.reserve(read_climate("miami"))
    shield = None if reserve is None else ReserveShield(reserve)
    year = draw_traces(read_climate("miami"), "train", [0])
    rule = env.settings.price_rule()
    assert isinstance(rule, PricePolicy)
    memory = rule.initial_state(1)
    throttles = []
    for t in range(5 * 96):
        state, trace, step = episodes.state[0], int(episodes.state[0, core.TRACE]), int(episodes.state[0, core.STEP])
        level = episodes.signals[trace, step, 0]
        lux = 10.0 ** np.interp(level, np.arange(rule.profile.lux.size), np.log10(rule.profile.lux))
        observation = Observation.of(
            time_s=900.0 * t,
            soc=state[core.CHARGE_WH] / 120.0,
            power_in_w=state[core.POWER_IN_W],
            lux=lux,
            workload=episodes.rows[trace, step, WORKLOAD],
            hour=year.start_hour[step],
            day_of_year=year.day_of_year[step],
        )
        decision, memory = rule.decide(observation, memory)
        expected = decision.u if shield is None else shield.limited(decision.u, observation)
        info = env.step(np.zeros(1, np.float32))[4]
        assert episodes.u[0] == expected[0]
        assert info["overrides"] == int(expected[0] < decision.u[0])
        throttles.append(decision.u[0])
    assert len(set(throttles)) > 5


def test_with_a_shield_no_action_uses_the_reserve_up() -> None:
    found = []
    for shield_years in (0, 4):
        settings: dict[str, Any] = {**SMALL, "horizon_days": 20, "action": "direct", "shield_years": shield_years}
        env = CameraDeviceVecEnv(16, **settings, start_soc=(0.8, 0.8))
        env.seed(0)
        env.reset()
        infos: list[dict[str, Any]] = []
        for _ in range(20 * 96):
            *_, infos = env.step(np.ones((16, 1), np.float32))
        found.append([sum(info["episode"][name] for info in infos) for name in ("brown_outs", "overrides", "utility")])
    (bare, shielded) = found
    assert bare[0] > 0.0
    assert bare[1] == 0.0
    assert shielded[0] == 0.0
    assert shielded[1] > 0.0
    assert shielded[2] > bare[2]


def test_a_dearer_price_never_means_more_throttle() -> None:
    batch = CameraDeviceVectorEnv(9, **SMALL)
    batch.reset(seed=0)
    episodes = batch._episodes
    for array in (episodes.state, episodes.memory):
        array[:] = array[0]
    _, _, _, _, infos = batch.step(np.linspace(-1, 1, 9, dtype=np.float32)[:, None])
    assert (np.diff(infos["u"]) <= 0.0).all()
    assert infos["u"][0] > infos["u"][-1]


@pytest.mark.parametrize("action", ["log_price", "direct"])
def test_observations_stay_within_their_bounds(action: str) -> None:
    batch = CameraDeviceVectorEnv(32, **SMALL, action=action)
    seen, _ = batch.reset(seed=0)
    for actions in random_actions(500, 32):
        assert seen.dtype == np.float32
        assert seen.shape == (32, len(FEATURES))
        assert ((seen >= -1.0) & (seen <= 1.0)).all()
        seen = batch.step(actions)[0]


def test_gymnasium_makes_the_batch_by_name() -> None:
    batch = gymnasium.make_vec(tnn_edge.sim.ENV_ID, num_envs=3, vectorization_mode="vector_entry_point", **SMALL)
    assert isinstance(batch.unwrapped, VectorEnv)
    assert batch.reset(seed=0)[0].shape == (3, len(FEATURES))
    batch.close()


def test_some_devices_can_be_begun_anew() -> None:
    batch = CameraDeviceVectorEnv(4, **SMALL)
    batch.reset(seed=0)
    before = batch.step(np.zeros((4, 1), np.float32))[0]
    after, _ = batch.reset(options={"reset_mask": np.array([True, False, False, True])})
    np.testing.assert_array_equal(before[1:3], after[1:3])
    assert (before[[0, 3]] != after[[0, 3]]).any()


def test_training_with_one_seed_gives_one_policy() -> None:
    sums = []
    for _ in range(2):
        env = CameraDeviceVecEnv(4, **SMALL)
        model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=2, seed=0, device="cpu")
        model.learn(512)
        rewards, _ = evaluate_policy(model, CameraDeviceVecEnv(1, **SMALL), n_eval_episodes=1)
        assert np.isfinite(rewards)
        sums.append(sum(p.detach().sum().item() for p in model.policy.parameters()))
    assert sums[0] == sums[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"action": "price"}, r"action must be one of log_price, direct, got 'price'"),
        ({"sites": ()}, "sites must name at least one site, got none"),
        ({"sites": ("oslo",)}, "no site is called 'oslo'"),
        ({"sites": ("sand_point",)}, "sand_point is kept for tests"),
        ({"n_traces": 0}, "n_traces must be at least 1, got 0"),
        ({"horizon_days": 365}, r"horizon_days must lie in \[1, 364\], got 365"),
        ({"start_soc": (0.5, 0.2)}, r"start_soc must be two rising numbers in \[0, 1\], got \(0\.5, 0\.2\)"),
        ({"shield_years": -1}, "shield_years must not be negative, got -1"),
        ({"step_s": 7.0}, "step_s must divide an hour of 3600 s, got 7"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CameraDeviceEnv(**{**SMALL, **settings})


def test_nothing_of_one_device_can_be_set_in_a_batch_for_stable_baselines() -> None:
    env = CameraDeviceVecEnv(2, **SMALL)
    with pytest.raises(AttributeError, match="settings cannot be set: the devices share their settings"):
        env.set_attr("settings", None)
    with pytest.raises(AttributeError, match="step cannot be called: the devices are no environments"):
        env.env_method("step")
