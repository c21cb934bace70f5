"""The order in which a depthwise-gated network turns its blocks on."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.errors import ThrottleRangeError
from tnn_edge.nn import depth_order, paper_dn

STAGES = st.lists(st.integers(1, 8), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("stage_sizes", "stages"),
    [
        ((2,), [0, 0]),
        ((1, 1), [1, 0]),  # a tie goes to the output
        ((2, 2), [1, 0, 1, 0]),
        ((1, 3), [1, 0, 1, 1]),  # after one block each the shares are 1 and 1/3
        ((3, 1), [1, 0, 0, 0]),
        ((1, 2, 4), [2, 1, 0, 2, 2, 1, 2]),  # shares after three: 1, 1/2, 1/4; after four 1, 1/2, 1/2: output first
        ((3, 4, 6, 3), [3, 2, 1, 0, 2, 1, 3, 2, 0, 2, 1, 3, 2, 0, 1, 2]),  # ResNet-50
    ],
)
def test_orders_worked_by_hand(stage_sizes: tuple[int, ...], stages: list[int]) -> None:
    order = depth_order(stage_sizes)
    assert [stage for stage, _ in order] == stages
    assert order == [(stage, stages[:i].count(stage)) for i, stage in enumerate(stages)]


@given(stage_sizes=STAGES)
def test_every_block_opens_once_and_after_those_before_it_in_its_stage(stage_sizes: list[int]) -> None:
    order = depth_order(stage_sizes)
    for stage, size in enumerate(stage_sizes):
        assert [block for s, block in order if s == stage] == list(range(size))
    assert len(order) == sum(stage_sizes)


@given(stage_sizes=STAGES)
def test_each_step_opens_a_stage_with_the_smallest_share(stage_sizes: list[int]) -> None:
    on = [0] * len(stage_sizes)
    for stage, _ in depth_order(stage_sizes):
        shares = [Fraction(k, size) for k, size in zip(on, stage_sizes, strict=True)]
        assert shares[stage] == min(shares)
        assert all(share > shares[stage] for share in shares[stage + 1 :])
        on[stage] += 1


@given(stage_sizes=STAGES)
def test_shares_of_two_stages_differ_by_at_most_one_block(stage_sizes: list[int]) -> None:
    order = depth_order(stage_sizes)
    for k in range(len(order) + 1):
        stages = [stage for stage, _ in order[:k]]
        shares = [Fraction(stages.count(s), size) for s, size in enumerate(stage_sizes)]
        assert max(shares) - min(shares) <= Fraction(1, min(stage_sizes))


@given(stage_sizes=STAGES, u=st.floats(0.0, 1.0))
def test_paper_rule_exceeds_the_throttle_by_at_most_one_block(stage_sizes: list[int], u: float) -> None:
    on = paper_dn(u, stage_sizes)
    total = sum(stage_sizes)
    assert all(0 <= k <= size for k, size in zip(on, stage_sizes, strict=True))
    assert (sum(on) - 1) / total <= u  # without its last block it is within u
    assert sum(on) / total > u or on == stage_sizes  # it stops only beyond u


def test_paper_rule_is_not_nested() -> None:
    """Two stages of 2 and 5 blocks, swept output first.

    Both settings begin 5:1, 2:1, 5:2 (3 of 7 on). At u = 1/2 the first stage's share, 1/2, does not exceed u, so it
    gets its second block and 4/7 > u ends it. Just below, 1/2 exceeds u, so the second stage gets a third block.
    """
    half, below = 1 / 2, math.nextafter(1 / 2, 0.0)
    assert paper_dn(below, (2, 5)) == [1, 3]
    assert paper_dn(half, (2, 5)) == [2, 2]  # the third block of the second stage was on, and is off


@pytest.mark.parametrize("u", [-0.5, 1.01, math.nan])
def test_paper_rule_refuses_a_throttle_outside_the_dial(u: float) -> None:
    with pytest.raises(ThrottleRangeError, match=rf"throttle u must lie in \[0, 1\], got {u:g}"):
        paper_dn(u, (2, 5))
