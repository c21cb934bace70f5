"""The plan of somebody who knows the future: the best operating point for every charge in every step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["plan"]

Floats = npt.NDArray[np.float64]

_NONE = -1e300


@njit(cache=True, nogil=True)
def plan(  # noqa: C901, PLR0912 -- one function: calls with arrays cost more than what they compute
    needed: Floats,
    gained: Floats,
    right: Floats,
    dark: Floats,
    cut_off: Floats,
    reboot: Floats,
    leak: float,
    boot: float,
    cost: float,
    n_nodes: int,
    is_stopped: npt.NDArray[np.bool_],
) -> npt.NDArray[np.uint8]:
    """Operating points by dynamic programming backwards in time, values between nodes taken from the line between them.

    Where power is lost the value jumps, and the line over it promises too much: there the lower node counts. Nothing is
    claimed for the values, only for what the plan earns when it is followed.

    Args:
        needed: and all others as in `tnn_edge.sim.oracle_bound.bound_values`, charges in nodes.

    Returns:
        Index of the operating point, shape [n_steps, n_nodes], for charges from a node up to the next.
    """
    n_steps, n_points = needed.shape
    top = n_nodes - 1.0
    on, off = np.zeros(n_nodes), np.zeros(n_nodes)
    new_on, new_off = np.empty(n_nodes), np.empty(n_nodes)
    points = np.zeros((n_steps, n_nodes), np.uint8)
    for t in range(n_steps - 1, -1, -1):
        if is_stopped[0]:
            break
        new_on[:] = _NONE
        low, threshold, income = cut_off[t], reboot[t], dark[t]
        for a in range(n_points):
            earned, need = right[t, a], needed[t, a]
            shift = gained[t, a] - need - leak
            first = 0
            if need > 0.0:
                first = min(int(np.ceil(low + need + leak)), n_nodes)
                for k in range(first):
                    lasts = min(max(k - leak - low, 0.0) / need, 1.0)
                    after = min(min(max(k - leak, 0.0), low) + (1.0 - lasts) * income, top)
                    value = lasts * earned - cost
                    if after >= threshold:
                        value += on[int(max(after - boot, 0.0))]
                    else:
                        value += off[int(after)]
                    if value > new_on[k]:
                        new_on[k] = value
                        points[t, k] = a
            for k in range(first, n_nodes):
                x = min(max(k - leak, 0.0) + shift + leak, top)
                i = min(int(x), n_nodes - 2)
                value = earned + on[i] + (x - i) * (on[i + 1] - on[i])
                if value > new_on[k]:
                    new_on[k] = value
                    points[t, k] = a
        for k in range(n_nodes):
            x = min(max(k - leak, 0.0) + income, top)
            starts = x >= threshold
            if starts:
                x = max(x - boot, 0.0)
            i = min(int(x), n_nodes - 2)
            if starts:
                new_off[k] = on[i] + (x - i) * (on[i + 1] - on[i])
            else:
                new_off[k] = off[i] + (x - i) * (off[i + 1] - off[i])
        on, new_on = new_on, on
        off, new_off = new_off, off
    return points
