"""The swing of a throttle over a source without an end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.camera import Dial

throttles = st.floats(min_value=0.0, max_value=1.0)


def test_a_swing_of_three_frames_touches_both_ends() -> None:
    dial = Dial(0.0, 1.0, period=3)
    assert [dial.at(i, None) for i in range(6)] == [0.0, 1.0, 0.5] * 2


def test_a_swing_of_five_frames_turns_at_a_frame() -> None:
    dial = Dial(1.0, 0.0, period=5)
    assert [dial.at(i, None) for i in range(5)] == pytest.approx([1.0, 0.5, 0.0, 1 / 3, 2 / 3])


@given(start=throttles, end=throttles, period=st.integers(min_value=2, max_value=99))
def test_a_swing_touches_both_ends_exactly_and_leaves_them_never(start: float, end: float, period: int) -> None:
    dial = Dial(start, end, period=period)
    swing = [dial.at(i, None) for i in range(period)]
    low, high = sorted([start, end])
    assert swing[0] == start
    assert end in swing
    assert all(low <= u <= high for u in swing)
    assert swing == [dial.at(i + period, None) for i in range(period)]
