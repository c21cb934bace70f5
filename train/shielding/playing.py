"""Policies without and with the shield, beside a twin that always keeps to the floor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d

from tnn_edge.control import (
    ConstantPolicy,
    Decision,
    Governed,
    GovernorSettings,
    Observation,
    Policy,
    Reserve,
    ReserveShield,
)
from tnn_edge.sim.envelope import declare_reserve, known_years
from tnn_edge.sim.playing import Outcome, play
from train.setting import PolicyFile, Setting, policy_files
from train.setting_record import setting_fields
from train.shielding.record import Played, Shielded, Twice

__all__ = ["NEAR_H", "RandomPolicy", "avoidable", "played_policies", "protect", "reserve_of"]

Bools = npt.NDArray[np.bool_]

NEAR_H = 24.0
"""So long before and after a brown-out the floor must have had power, for it to have been avoidable."""


@dataclass(frozen=True)
class RandomPolicy:
    """Asks for any u at any time. Attributes: seed."""

    seed: int

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it decides as it does: for no reason."""
        return ("random",)

    @property
    def signals(self) -> frozenset[str]:
        """What it reads: nothing."""
        return frozenset()

    def initial_state(self, _n: int) -> int:
        """How often it has decided."""
        return 0

    def decide(self, observation: Observation, state: int) -> tuple[Decision, int]:
        """Any u in [0, 1], shape [n]."""
        n = len(observation)
        rng = np.random.Generator(np.random.Philox(key=[self.seed, state]))
        return Decision(rng.random(n), np.zeros(n, np.intp)), state + 1


def avoidable(is_brown_out: Bools, floor_has_power: Bools, *, step_s: float) -> Bools:
    """Which brown-outs the floor would have avoided.

    Args:
        is_brown_out: of a policy, shape [n_steps, n].
        floor_has_power: whether the same device had power all through the step at the floor, shape [n_steps, n].
        step_s: length of a step.

    Returns:
        Whether the floor had power from `NEAR_H` before a brown-out to as long after it, shape [n_steps, n].
    """
    reach = round(NEAR_H * 3600.0 / step_s)
    is_near: Bools = maximum_filter1d((~floor_has_power).astype(np.uint8), 2 * reach + 1, axis=0, mode="nearest") > 0
    return is_brown_out & ~is_near


def reserve_of(setting: Setting, n_years: int) -> Reserve:
    """The reserve of a setting's device, as ``tnn-edge reserve`` makes it."""
    simulation = setting.simulation
    years = known_years(
        simulation.site(),
        n_years,
        step_s=simulation.period_s,
        surroundings=simulation.surroundings,
    )
    return declare_reserve(setting.device, years)


def played_policies(folder: Path, setting: Setting) -> dict[str, PolicyFile]:
    """The worst that there is, chance, and every policy of a folder."""
    plain = GovernorSettings(unknown_u=0.0)
    made: dict[str, Policy[Any]] = {"always 1": ConstantPolicy(1.0), "random": RandomPolicy(0)}
    files = {name: PolicyFile(name=name, sha256="", policy=Governed(policy, plain)) for name, policy in made.items()}
    return files | dict(policy_files(folder, setting))


def protect(
    setting: Setting, folder: Path, *, n_years: int, n_reserve_years: int, known: Mapping[str, Twice]
) -> Shielded:
    """Play every policy twice, without and with the shield.

    Args:
        setting: where.
        folder: of policy files.
        n_years: years of weather and work, of the days for tests.
        n_reserve_years: that the reserve is worked out from.
        known: what was played already, by the names of policies, and is not again.
    """
    files = played_policies(folder, setting)
    traces = setting.simulation.traces(n_days=None, n_years=n_years)
    reserve = reserve_of(setting, n_reserve_years)
    soc = setting.simulation.start_soc
    outcome, course = play(setting.device, traces, ConstantPolicy(0.0), start_soc=soc, n_courses=n_years)
    has_power = course.on_share >= 1.0

    def played(policy: Policy[Any]) -> Played:
        outcome, course = play(setting.device, traces, policy, start_soc=soc, n_courses=n_years)
        return _told(outcome, avoidable(course.is_brown_out, has_power, step_s=traces.step_s))

    def twice(file: PolicyFile) -> Twice:
        if file.name in known and known[file.name].sha256 == file.sha256:
            return known[file.name]
        policy, bounds = file.policy.policy, file.policy.settings
        bare, shielded = Governed(policy, bounds), Governed(policy, bounds, ReserveShield(reserve))
        return Twice(sha256=file.sha256, bare=played(bare), shielded=played(shielded))

    return Shielded(
        **setting_fields(setting, traces),
        events=float(outcome.events.sum()),
        period_s=traces.step_s,
        n_reserve_years=n_reserve_years,
        is_sufficient=reserve.is_sufficient,
        reserve_wh=max(max(row) for row in reserve.reserve_wh),
        floor=_told(outcome, np.zeros_like(has_power)),
        policies={name: twice(file) for name, file in files.items()},
    )


def _told(outcome: Outcome, is_avoidable: Bools) -> Played:
    return Played(
        utility=float(outcome.utility.sum()),
        brown_outs=float(outcome.brown_outs.sum()),
        avoidable=float(is_avoidable.sum()),
        hours_down=float(outcome.hours_down.sum()),
    )
