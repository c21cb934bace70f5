"""A bound that no policy exceeds, by dynamic programming backwards in time over the state of charge.

The value of being on, and that of being off, is kept as straight lines between the nodes of a grid, and never below
what the exact dynamics allow from *any* charge, not only from the nodes. A function that is nowhere below its own best
next step is nowhere below the optimum either, so the value at the start is a bound on every policy, whether it knows
the future or not. Rounding the charge up to the next node would do as well, but gives away half a node of energy in
each step; here lines are raised only where a corner of next step's lines would stick out, an error of second order.
Cells in which something jumps (power is lost, or comes back) are bounded by their largest value.

Neither sleep nor free disposal of charge is granted, so the bound holds for hysteresis as it is. The one thing that is
left out is the throttle of a hot board, which only takes choices away.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["bound_values"]

Floats = npt.NDArray[np.float64]

_NONE = -1e300


@njit(cache=True, nogil=True)
def bound_values(  # noqa: C901, PLR0912, PLR0915 -- one function: calls with arrays cost more than what they compute
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
) -> tuple[Floats, Floats]:
    """Bounds on what can still be got from the first step on, at every node of charge.

    All charges are in nodes, so that node k holds the charge k.

    Args:
        needed: charge that each operating point takes, shape [n_steps, n_points].
        gained: charge that it leaves, likewise.
        right: what it earns, likewise.
        dark: charge gained without power, shape [n_steps].
        cut_off: charge at which power is lost, shape [n_steps].
        reboot: charge at which it comes back, shape [n_steps].
        leak: charge that leaks in a step.
        boot: charge that a start takes.
        cost: of losing power.
        n_nodes: nodes from empty to full.
        is_stopped: whether to give up, which another thread may set meanwhile; shape [1].

    Returns:
        Of a device that is on, and of one that is off, shape [n_nodes] each.
    """
    n_steps, n_points = needed.shape
    top = n_nodes - 1.0
    on, off = np.zeros(n_nodes), np.zeros(n_nodes)
    new_on, new_off = np.empty(n_nodes), np.empty(n_nodes)
    for t in range(n_steps - 1, -1, -1):
        if is_stopped[0]:
            break
        new_on[:] = _NONE
        low, threshold, income = cut_off[t], reboot[t], dark[t]
        for a in range(n_points):
            earned, need = right[t, a], needed[t, a]
            shift = gained[t, a] - need - leak
            first = 0  # node from which on the charge lasts through the step
            if need > 0.0:
                first = min(int(np.ceil(low + need + leak)), n_nodes)
                for k in range(min(first, n_nodes - 1)):
                    # Power is lost. Within the cell: the longest time with power, any charge at the end.
                    least = min(max(k - leak - low, 0.0) / need, 1.0)
                    most = min(max(k + 1 - leak - low, 0.0) / need, 1.0)
                    highest = min(min(max(k + 1 - leak, 0.0), low) + (1.0 - least) * income, top)
                    lowest = min(min(max(k - leak, 0.0), low) + (1.0 - most) * income, highest)
                    value = most * earned - cost + _peak_dark(on, off, lowest, highest, threshold, boot)
                    new_on[k] = max(new_on[k], value)
                    new_on[k + 1] = max(new_on[k + 1], value)
                if first == n_nodes:
                    continue
                if first > 0:  # in the cell below, the charge may last
                    value = earned + _peak(on, low, first + shift)
                    new_on[first - 1] = max(new_on[first - 1], value)
                    new_on[first] = max(new_on[first], value)
            whole = int(np.floor(shift))
            part = shift - whole
            begin = max(first, -whole)
            end = max(min(n_nodes - 1 - whole, n_nodes), begin)
            for k in range(first, min(begin, n_nodes)):
                new_on[k] = max(new_on[k], earned + _at(on, max(k - leak, 0.0) + shift + leak))
            for k in range(begin, end):
                value = earned + on[k + whole] + part * (on[k + whole + 1] - on[k + whole])
                new_on[k] = max(new_on[k], value)
            for k in range(end, n_nodes):
                new_on[k] = max(new_on[k], earned + on[n_nodes - 1])
            if first == 0:  # what leaks from an almost empty battery is less than `leak`
                value = earned + _peak(on, shift + leak, 1.0 + shift)
                new_on[0] = max(new_on[0], value)
                new_on[1] = max(new_on[1], value)
        for a in range(n_points):
            earned, need = right[t, a], needed[t, a]
            shift = gained[t, a] - need - leak
            first = 1 if need <= 0.0 else max(int(np.ceil(low + need + leak)), 1)
            whole = int(np.floor(shift))
            part = shift - whole
            if part > 0.0:
                for k in range(max(first, -whole - 1), min(n_nodes - 2 - whole, n_nodes - 2) + 1):
                    corner = earned + on[k + whole + 1]
                    if corner > part * new_on[k] + (1.0 - part) * new_on[k + 1]:
                        _cover(new_on, k, 1.0 - part, corner)

        for k in range(n_nodes):
            after = min(max(k - leak, 0.0) + income, top)
            new_off[k] = _at(on, after - boot) if after >= threshold else _at(off, after)
        for k in range(n_nodes - 1):
            lowest, highest = min(max(k - leak, 0.0) + income, top), min(k + 1 - leak + income, top)
            if k == 0 or (lowest < threshold <= highest):
                value = _peak_dark(on, off, lowest, highest, threshold, boot)
                new_off[k] = max(new_off[k], value)
                new_off[k + 1] = max(new_off[k + 1], value)
            else:
                starts = lowest >= threshold
                shift = income - leak - (boot if starts else 0.0)
                whole = int(np.floor(shift))
                j = k + whole + 1
                if shift > whole and 0 <= j < n_nodes:
                    _cover(new_off, k, 1.0 - (shift - whole), on[j] if starts else off[j])
        on, new_on = new_on, on
        off, new_off = new_off, off
    return on, off


@njit(cache=True)
def _at(values: Floats, x: float) -> float:
    """Value at a charge; beyond the grid that of its end."""
    if x <= 0.0:
        return values[0]  # type: ignore[no-any-return]
    if x >= values.shape[0] - 1:
        return values[values.shape[0] - 1]  # type: ignore[no-any-return]
    i = int(x)
    return values[i] + (x - i) * (values[i + 1] - values[i])  # type: ignore[no-any-return]


@njit(cache=True)
def _peak(values: Floats, lowest: float, highest: float) -> float:
    """Largest value between two charges."""
    best = max(_at(values, lowest), _at(values, highest))
    for j in range(max(int(np.ceil(lowest)), 0), min(int(np.floor(highest)), values.shape[0] - 1) + 1):
        best = max(best, values[j])
    return best


@njit(cache=True)
def _peak_dark(on: Floats, off: Floats, lowest: float, highest: float, threshold: float, boot: float) -> float:
    """Largest value of a device without power that ends a step between two charges, and starts at the threshold."""
    best = _NONE
    if lowest < threshold:
        best = _peak(off, lowest, min(highest, threshold))
    if highest >= threshold:
        best = max(best, _peak(on, max(lowest, threshold) - boot, highest - boot))
    return best


@njit(cache=True)
def _cover(values: Floats, k: int, place: float, value: float) -> None:
    """Raise the line from node k to the next so that it reaches a value at a place within, raising as little as may be.

    Neither node rises above the larger of that value and the nodes.
    """
    a, b = values[k], values[k + 1]
    if a + place * (b - a) >= value:
        return
    if value > a and value > b:
        values[k] = values[k + 1] = value
    elif b >= a:
        values[k] = (value - place * b) / (1.0 - place)
    else:
        values[k + 1] = (value - (1.0 - place) * a) / place
