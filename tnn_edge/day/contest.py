"""Several policies and every constant, through the same weather and the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tnn_edge.control import ConstantPolicy, Governed, GovernorSettings
from tnn_edge.day.answers import Answers
from tnn_edge.day.life import Life, live_through
from tnn_edge.day.scenario_tables import ALWAYS_FULL, BEST_CONSTANT
from tnn_edge.day.scenes import Scenes
from tnn_edge.day.score import Score

if TYPE_CHECKING:
    from tnn_edge.day.scenario import Scenario
    from tnn_edge.runtime import Engine

__all__ = ["Contest", "Entry", "hold_contest"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Entry:
    """A run with its score. Attributes: u: of a constant; None for a policy."""

    life: Life
    score: Score
    u: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Contest:
    """What one seed's weather and pictures did to everybody.

    Attributes:
        seed: of weather, order and noise.
        scenes: the weather.
        policies: name -> run, as the scenario names them; the first is the one that was shown.
        constants: the runs of a constant u at every operating point, rising, the last at u = 1.
        mean_ms: mean time in the engine for one image at each operating point, measured on this machine.
        right_share: share of each period's images that each operating point gets right, whether the board had power or
            not; shape [n_periods, operating points].
        n_labels: classes that the network knows.
    """

    seed: int
    scenes: Scenes
    policies: Mapping[str, Entry]
    constants: tuple[Entry, ...]
    mean_ms: tuple[float, ...]
    right_share: npt.NDArray[np.float64]
    n_labels: int

    @property
    def best_constant(self) -> Entry | None:
        """Of the constants that never went dark the one with the most right answers; None where all went dark.

        It is chosen in hindsight, on the very day it is compared on, which flatters it.
        """
        survivors = [entry for entry in self.constants if entry.score.survives]
        return max(survivors, key=lambda entry: entry.score.seen_and_right, default=None)

    @property
    def rows(self) -> dict[str, Entry | None]:
        """What tables and pictures show: first policy, full throttle, best constant, the other policies."""
        (first, shown), *others = self.policies.items()
        ours = {ALWAYS_FULL: self.constants[-1], BEST_CONSTANT: self.best_constant}
        return {first: shown, **ours, **dict(others)}


def hold_contest(
    scenario: Scenario,
    engine: Engine,
    *,
    seed: int,
    on_period: Callable[[Life, Scenes], None] = lambda life, scenes: None,
) -> Contest:
    """Run every policy and every constant.

    Args:
        scenario: device, place, weather and policies.
        engine: loaded engine.
        seed: of weather, order and noise.
        on_period: called after each period of the first policy's run, which takes nearly all of the time: all
            operating points answer each picture then, and the others' runs are replayed on these answers.

    Raises:
        SourceError: the images cannot be used.
    """
    scenes = Scenes(scenario, engine.manifest, seed)
    answers = Answers(engine, scenes, scenario.images_per_period)

    def run(
        policy: Governed[Any], *, u: float | None = None, watch: Callable[[Life], None] = lambda life: None
    ) -> Entry:
        life = live_through(policy, scenario, scenes, answers, on_period=watch)
        return Entry(life=life, score=Score.of(life, scenario), u=u)

    (first, shown), *others = scenario.policies.items()
    policies = {first: run(shown, watch=lambda life: on_period(life, scenes))}
    policies |= {name: run(policy) for name, policy in others}
    constants = tuple(run(_held(u), u=u) for u in (*answers.points_u[:-1], 1.0))
    answered = [answers.of(i) for i in range(scenario.n_periods)]
    ms = np.mean([each.ms.mean(axis=0) for each in answered], axis=0)
    return Contest(
        seed=seed,
        scenes=scenes,
        policies=policies,
        constants=constants,
        mean_ms=tuple(float(each) for each in ms),
        right_share=np.stack([each.is_right.mean(axis=0) for each in answered]),
        n_labels=len(engine.manifest.labels),
    )


def _held(u: float) -> Governed[None]:
    return Governed(ConstantPolicy(u=u), GovernorSettings(unknown_u=u))  # a constant knows its u whatever is unknown
