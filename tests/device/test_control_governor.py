"""The governor: bounds that hold whatever the policy says, and a reason for every decision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.deciding import answers_of
from tnn_edge.control import (
    ConstantPolicy,
    Decision,
    Governed,
    GovernorSettings,
    Observation,
    SocRampPolicy,
    ThermalCap,
)

INF = math.inf


@dataclass(frozen=True)
class Passing:
    """A policy that says what the signal `workload` says, but in any range."""

    scale: float = 1.0

    @property
    def reasons(self) -> tuple[str, ...]:
        return ("passed", "unknown_workload")

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"workload"})

    def initial_state(self, n: int) -> None:
        return None

    def decide(self, observation: Observation, state: None) -> tuple[Decision, None]:
        u = observation["workload"] * self.scale
        return Decision(u, np.isnan(u).astype(np.intp)), None


def wanted(*u: float | None, step_s: float = 1.0, **others: Any) -> list[tuple[float, dict[str, Any]]]:
    return [(i * step_s, {"workload": each, **others}) for i, each in enumerate(u)]


def test_the_unknown_gets_its_declared_answer_with_the_reason_of_the_policy() -> None:
    governed = Governed(Passing(), GovernorSettings(unknown_u=0.25))
    assert answers_of(governed, wanted(0.5, None, math.nan)) == [
        (0.5, "passed"), (0.25, "unknown_workload"), (0.25, "unknown_workload"),
    ]  # fmt: skip


def test_floor_and_ceiling_hold() -> None:
    governed = Governed(Passing(), GovernorSettings(unknown_u=0.3, floor=0.2, ceiling=0.6))
    assert answers_of(governed, wanted(0.0, 0.2, 0.6, 1.0)) == [
        (0.2, "governor_floor"), (0.2, "passed"), (0.6, "passed"), (0.6, "governor_ceiling"),
    ]  # fmt: skip


def test_a_policy_that_leaves_its_range_is_brought_back() -> None:
    settings = GovernorSettings(unknown_u=0.3)
    assert answers_of(Governed(Passing(scale=INF), settings), wanted(1.0)) == [(1.0, "governor_ceiling")]
    assert answers_of(Governed(Passing(scale=-3.0), settings), wanted(1.0)) == [(0.0, "governor_floor")]


@pytest.mark.parametrize("step_s", [0.25, 0.5, 1.0])
def test_slew_is_per_second_not_per_step(step_s: float) -> None:
    governed = Governed(Passing(), GovernorSettings(unknown_u=0.0, max_slew_per_s=0.125))
    times = np.arange(0.0, 9.0, step_s)
    state = governed.initial_state(1)
    for time_s in times:
        u = 0.0 if time_s == 0.0 else 1.0
        decision, state = governed.decide(Observation.of(time_s=time_s, workload=u), state)
        assert decision.u[0] == min(0.125 * time_s, 1.0)  # sums of powers of two are exact


def test_the_first_decision_is_free_and_the_slew_gives_its_reason() -> None:
    governed = Governed(Passing(), GovernorSettings(unknown_u=0.0, max_slew_per_s=0.25))
    assert answers_of(governed, wanted(1.0, 0.0, 0.5, 0.5)) == [
        (1.0, "passed"), (0.75, "governor_slew"), (0.5, "passed"), (0.5, "passed"),
    ]  # fmt: skip


def test_a_clock_that_is_set_back_allows_no_change_at_that_moment() -> None:
    governed = Governed(Passing(), GovernorSettings(unknown_u=0.0, max_slew_per_s=0.25))
    steps = [(1000.0, {"workload": 1.0}), (10.0, {"workload": 0.0}), (11.0, {"workload": 0.0})]
    assert answers_of(governed, steps) == [(1.0, "passed"), (1.0, "governor_slew"), (0.75, "governor_slew")]


def test_a_clock_that_jumps_ahead_allows_any_change() -> None:
    governed = Governed(Passing(), GovernorSettings(unknown_u=0.0, max_slew_per_s=0.25))
    assert answers_of(governed, [(0.0, {"workload": 1.0}), (1e9, {"workload": 0.0})]) == [
        (1.0, "passed"),
        (0.0, "passed"),
    ]


CAP = ThermalCap(above_c=80, until_c=70, u=0.25)


def test_the_thermal_cap_holds_from_its_start_until_the_board_has_cooled() -> None:
    governed = Governed(ConstantPolicy(1.0), GovernorSettings(unknown_u=0.0, thermal=CAP))
    temperatures = [79.9, 80.0, 70.0, 69.9, 75.0]
    answers = answers_of(governed, [(i, {"temperature_c": t}) for i, t in enumerate(temperatures)])
    assert answers == [
        (1.0, "constant"), (0.25, "governor_thermal"), (0.25, "governor_thermal"), (1.0, "constant"), (1.0, "constant"),
    ]  # fmt: skip


def test_an_unknown_temperature_counts_as_hot_until_it_is_known_to_be_cool() -> None:
    governed = Governed(ConstantPolicy(1.0), GovernorSettings(unknown_u=0.0, thermal=CAP))
    answers = answers_of(governed, [(i, {"temperature_c": t}) for i, t in enumerate([None, 75.0, 20.0, None, 20.0])])
    assert [u for u, _ in answers] == [0.25, 0.25, 1.0, 0.25, 1.0]


def test_the_cap_raises_nothing_and_acts_at_once_below_floor_and_slew() -> None:
    settings = GovernorSettings(unknown_u=0.5, floor=0.5, max_slew_per_s=0.125, thermal=CAP)
    governed = Governed(Passing(), settings)
    hot, cool = {"temperature_c": 90}, {"temperature_c": 20}
    steps = [(0.0, {"workload": 1.0, **cool}), (1.0, {"workload": 1.0, **hot}), (2.0, {"workload": 1.0, **cool})]
    assert answers_of(governed, steps) == [(1.0, "passed"), (0.25, "governor_thermal"), (0.375, "governor_slew")]
    low = Governed(Passing(), GovernorSettings(unknown_u=0.5, thermal=CAP))
    assert answers_of(low, [(0.0, {"workload": 0.1, **hot})]) == [(0.1, "passed")]


def test_it_reads_the_temperature_only_where_there_is_a_cap() -> None:
    assert Governed(SocRampPolicy(), GovernorSettings(unknown_u=0.0)).signals == {"soc"}
    assert Governed(SocRampPolicy(), GovernorSettings(unknown_u=0.0, thermal=CAP)).signals == {"soc", "temperature_c"}


shares = st.floats(0, 1) | st.just(math.nan)


@given(
    bounds=st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted),
    slew=st.sampled_from([0.01, 0.1, INF]),
    cap=st.sampled_from([None, CAP]),
    history=st.lists(
        st.tuples(
            st.floats(-5, 50), st.lists(shares, min_size=3, max_size=3), st.sampled_from([None, 20.0, 75.0, 90.0])
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_u_is_always_in_bounds_and_a_batch_equals_each_alone(
    bounds: list[float], slew: float, cap: ThermalCap | None, history: list[tuple[float, list[float], float | None]]
) -> None:
    floor, unknown_u, ceiling = bounds
    settings = GovernorSettings(unknown_u=unknown_u, floor=floor, ceiling=ceiling, max_slew_per_s=slew, thermal=cap)
    governed = Governed(SocRampPolicy(), settings)
    batch, alone = governed.initial_state(3), [governed.initial_state(1) for _ in range(3)]
    time_s, last = 0.0, None
    for seconds, soc, temperature_c in history:
        time_s += seconds
        seen = Observation.of(time_s=time_s, soc=soc, temperature_c=temperature_c)
        decision, batch = governed.decide(seen, batch)
        for i in range(3):
            own = Observation.of(time_s=time_s, soc=soc[i], temperature_c=temperature_c)
            single, alone[i] = governed.decide(own, alone[i])
            assert single.u.tobytes() == decision.u[i : i + 1].tobytes()
            assert single.reason[0] == decision.reason[i]
        assert (decision.u <= ceiling).all()
        if cap is None:
            assert (decision.u >= floor).all()
        elif temperature_c is None or temperature_c >= cap.above_c:
            assert (decision.u <= cap.u).all()
        if last is not None:  # up, nothing is faster than the slew; down, only the cap is
            assert (decision.u - last <= slew * max(seconds, 0.0) + 1e-12).all() or slew == INF
        last = decision.u


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GovernorSettings(unknown_u=1.2), r"^unknown_u must lie in \[0, 1\], got 1\.2$"),
        (lambda: GovernorSettings(unknown_u=math.nan), r"^unknown_u must lie in \[0, 1\], got nan$"),
        (lambda: GovernorSettings(unknown_u=0.5, floor=-0.1), r"^floor must lie in \[0, 1\], got -0\.1$"),
        (lambda: GovernorSettings(unknown_u=0.5, ceiling=1.1), r"^ceiling must lie in \[0, 1\], got 1\.1$"),
        (lambda: GovernorSettings(unknown_u=0.5, floor=0.6, ceiling=0.4), r"^floor 0\.6 is above ceiling 0\.4$"),
        (
            lambda: GovernorSettings(unknown_u=0.1, floor=0.2),
            r"^unknown_u must lie between floor 0\.2 and ceiling 1, got 0\.1$",
        ),
        (lambda: GovernorSettings(unknown_u=0.5, max_slew_per_s=0), r"^max_slew_per_s must be above 0, got 0$"),
        (lambda: ThermalCap(above_c=70, until_c=80, u=0.2), r"^until_c must not be above above_c 70, got 80$"),
        (lambda: ThermalCap(above_c=353, until_c=70, u=0.2), r"^above_c must lie in \[-60, 150\]"),
        (lambda: ThermalCap(above_c=80, until_c=70, u=20), r"^u must lie in \[0, 1\], got 20$"),
    ],
)
def test_a_setting_out_of_range_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
