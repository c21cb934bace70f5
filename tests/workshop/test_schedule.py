"""Schedules along both axes, the paper's depthwise rule, and how many operating points a dial gets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.nn import GateSchedule, Schedule, active_components, paper_dn
from tnn_edge.nn.schedule import PaperDepthSchedule

DIAL = st.floats(0.0, 1.0)
BOTH = GateSchedule.widthwise({"a": 4, "b": 4, "c": 4}, at_least=1, depth=("c", "b"))
PAPER = PaperDepthSchedule([["a1", "a2", "a3"], ["b1", "b2", "b3", "b4", "b5"]])


@given(u=DIAL)
def test_a_module_with_depth_is_off_until_its_turn_and_then_as_wide_as_the_others(u: float) -> None:
    gates = BOTH.vector(u)
    turn = active_components(u, 2)
    assert [any(gates[name]) for name in ("c", "b")] == [turn >= 1, turn >= 2]
    assert sum(gates["a"]) == active_components(u, 4, at_least=1)
    assert all(gates[name] == gates["a"] for name in ("b", "c") if any(gates[name]))


def test_only_a_module_without_depth_is_always_on() -> None:
    assert [BOTH.always_on(name) for name in ("a", "b", "c")] == [1, 0, 0]
    assert GateSchedule.depthwise(["x", "y"]).always_on("x") == 0


@given(us=st.tuples(DIAL, DIAL).map(sorted))
def test_nested_along_both_axes_nothing_goes_off_as_throttle_rises(us: list[float]) -> None:
    low, high = map(BOTH.vector, us)
    assert all(bit <= above for name in low for bit, above in zip(low[name], high[name], strict=True))


def test_independent_along_both_axes_draws_which_modules_are_on() -> None:
    schedule = GateSchedule.widthwise({"a": 2, "b": 2, "c": 2}, "independent", at_least=1, depth=("a", "b", "c"))
    masks = schedule.masks(torch.full((400,), 0.5), torch.Generator().manual_seed(0))
    on = torch.stack([masks[name].any(dim=1) for name in "abc"], dim=1)
    assert set(on.sum(dim=1).tolist()) == {active_components(0.5, 3)}
    assert bool((on.float().mean(dim=0) > 0.5).all())


def test_depth_lists_gated_modules() -> None:
    with pytest.raises(ValueError, match="depth must list gated modules"):
        GateSchedule.widthwise({"a": 2}, depth=("z",))


@given(u=DIAL)
def test_the_papers_depthwise_rule_turns_on_the_first_blocks_of_each_stage(u: float) -> None:
    gates = PAPER.vector(u)
    first, second = paper_dn(u, [3, 5])
    assert "".join(str(gates[f"a{i}"][0]) for i in (1, 2, 3)) == ("1" * first).ljust(3, "0")
    assert "".join(str(gates[f"b{i}"][0]) for i in range(1, 6)) == ("1" * second).ljust(5, "0")


@pytest.mark.parametrize("schedule", [BOTH, PAPER, GateSchedule.widthwise({"a": 6, "b": 12})])
@given(u=DIAL)
def test_the_operating_points_are_every_vector_of_the_dial(schedule: Schedule, u: float) -> None:
    points = schedule.operating_points()
    (*_, selected) = (gates for lowest, gates in points if lowest <= u)
    assert selected == schedule.vector(u)


@pytest.mark.parametrize("schedule", [GateSchedule.widthwise({"a": 6, "b": 12}), PAPER])
def test_a_dial_of_n_points_has_their_settings(schedule: Schedule) -> None:
    points = schedule.operating_points(n_points=5)
    assert [u for u, _ in points] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert all(gates == schedule.vector(u) for u, gates in points)


def test_settings_that_select_the_same_vector_are_one_point() -> None:
    points = GateSchedule.widthwise({"a": 1}).operating_points(n_points=9)
    assert [u for u, _ in points] == [0.0, 0.5]
