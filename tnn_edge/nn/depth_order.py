"""The order in which a depthwise-gated network turns its blocks on."""

from __future__ import annotations

from collections.abc import Sequence

from tnn_edge.throttle import check_throttle

__all__ = ["depth_order", "paper_dn"]


def depth_order(stage_sizes: Sequence[int]) -> list[tuple[int, int]]:
    """One fixed order over all blocks; u runs the first k of it, so the gating is nested.

    Repeatedly the stage with the smallest share of its blocks on gets its next block; ties go to the stage nearest
    the output.

    Args:
        stage_sizes: gated blocks in each stage, input first.

    Returns:
        (stage, block) pairs, both counted from 0.
    """
    on = [0] * len(stage_sizes)
    order: list[tuple[int, int]] = []
    while len(order) < sum(stage_sizes):
        open_stages = [s for s, size in enumerate(stage_sizes) if on[s] < size]
        stage = min(open_stages, key=lambda s: (on[s] / stage_sizes[s], -s))
        order.append((stage, on[stage]))
        on[stage] += 1
    return order


def paper_dn(u: float, stage_sizes: Sequence[int]) -> list[int]:
    """The paper's literal depthwise rule (section 5.2): blocks on in each stage at u.

    Sweep the stages from output to input again and again; a stage gets one more block unless its share on already
    exceeds u; stop as soon as the share of all blocks on exceeds u. The rule may exceed u by one block, and a block
    that is on may be off at a larger u, so it is kept for comparison and not used for export.

    Args:
        u: throttle in [0, 1].
        stage_sizes: gated blocks in each stage, input first.

    Returns:
        Number of blocks on in each stage, input first.

    Raises:
        ThrottleRangeError: u lies outside [0, 1] or is NaN.
    """
    check_throttle(u)
    on = [0] * len(stage_sizes)
    total = sum(stage_sizes)
    while sum(on) < total and sum(on) / total <= u:
        before = sum(on)
        for stage in reversed(range(len(stage_sizes))):
            if sum(on) / total > u:
                break
            if on[stage] < stage_sizes[stage] and on[stage] / stage_sizes[stage] <= u:
                on[stage] += 1
        if sum(on) == before:
            break
    return on
