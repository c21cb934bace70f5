"""Which components a throttle setting turns on."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tnn_edge.errors import ThrottleRangeError
from tnn_edge.nn import GateSchedule, active_components, utilisation
from tnn_edge.nn.gating import as_masks, lowest_throttle, offered_over_on
from tnn_edge.nn.schedule import GateGroup, GateOrder

DIAL = st.floats(0.0, 1.0)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(lambda ns: {f"m{i}": n for i, n in enumerate(ns)})
ORDERS: st.SearchStrategy[GateOrder] = st.sampled_from(["nested", "independent"])


@st.composite
def schedules(draw: st.DrawFn, orders: st.SearchStrategy[GateOrder] = ORDERS) -> GateSchedule:
    sizes, order = draw(SIZES), draw(orders)
    if draw(st.booleans()):
        return GateSchedule.depthwise(list(sizes), order)
    return GateSchedule.widthwise(sizes, order)


NESTED: st.SearchStrategy[GateSchedule] = schedules(st.just("nested"))


@given(u=DIAL, n=st.integers(1, 64))
def test_number_on_is_the_exact_floor_away_from_the_thresholds(u: float, n: int) -> None:
    exact = Fraction(u) * (n + 1)
    assume(abs(exact - round(exact)) > Fraction(1, 10**9))
    assert active_components(u, n) == min(n, exact.numerator // exact.denominator)


@pytest.mark.parametrize("n", [1, 2, 5, 16, 32])
def test_each_number_below_n_owns_an_equal_share_of_the_dial(n: int) -> None:
    middles = [(k + 0.5) / (n + 1) for k in range(n + 1)]
    assert [active_components(u, n) for u in middles] == list(range(n + 1))
    assert (active_components(0.0, n), active_components(1.0, n)) == (0, n)


@given(us=st.tuples(DIAL, DIAL).map(sorted), n=st.integers(1, 64), at_least=st.integers(0, 1))
def test_number_on_never_falls_as_throttle_rises(us: list[float], n: int, at_least: int) -> None:
    low, high = us
    assert at_least <= active_components(low, n, at_least=at_least) <= active_components(high, n, at_least=at_least)


def test_lowest_throttle_is_exactly_the_threshold() -> None:
    for n, k in ((size, on) for size in range(1, 130) for on in range(1, size + 1)):
        u = lowest_throttle(k, n)
        assert active_components(u, n) == k
        assert active_components(math.nextafter(u, 0.0), n) == k - 1
        assert u == pytest.approx(k / (n + 1), rel=1e-15)
    assert lowest_throttle(0, 5) == 0.0


@pytest.mark.parametrize(("u", "shown"), [(-0.1, "-0.1"), (1.5, "1.5"), (math.nan, "nan"), (math.inf, "inf")])
def test_throttle_outside_the_dial_is_refused(u: float, shown: str) -> None:
    schedule = GateSchedule.widthwise({"m": 4})
    message = rf"throttle u must lie in \[0, 1\], got {shown}$"
    with pytest.raises(ThrottleRangeError, match=message):
        active_components(u, 4)
    with pytest.raises(ThrottleRangeError, match=message):
        schedule.vector(u)
    with pytest.raises(ThrottleRangeError, match=message):
        schedule.masks(torch.tensor([0.5, u]))


@given(schedule=NESTED, us=st.tuples(DIAL, DIAL).map(sorted))
def test_nested_gates_never_lose_a_component_as_throttle_rises(schedule: GateSchedule, us: list[float]) -> None:
    low, high = (schedule.vector(u) for u in us)
    for name in schedule.sizes:
        assert all(before <= after for before, after in zip(low[name], high[name], strict=True))


def test_nested_widthwise_gates_open_the_first_components() -> None:
    schedule = GateSchedule.widthwise({"a": 4, "b": 1})
    assert schedule.vector(0.5) == {"a": (1, 1, 0, 0), "b": (1,)}  # floor(.5 * 5) = 2, floor(.5 * 2) = 1


def test_nested_depthwise_gates_open_blocks_in_the_order_given() -> None:
    schedule = GateSchedule.depthwise(["last", "first", "middle"])
    assert schedule.vector(0.5) == {"last": (1,), "first": (1,), "middle": (0,)}  # floor(.5 * 4) = 2


@given(sizes=SIZES, u=st.lists(DIAL, min_size=1, max_size=5), seed=st.integers(0, 99))
def test_independent_widthwise_gates_open_exactly_k_of_each_module(
    sizes: dict[str, int], u: list[float], seed: int
) -> None:
    schedule = GateSchedule.widthwise(sizes, "independent")
    masks = schedule.masks(torch.tensor(u, dtype=torch.float64), torch.Generator().manual_seed(seed))
    for name, n in sizes.items():
        assert masks[name].shape == (len(u), n)
        assert set(masks[name].unique().tolist()) <= {0.0, 1.0}
        assert masks[name].sum(dim=1).tolist() == [active_components(value, n) for value in u]


@given(n=st.integers(1, 12), u=DIAL, seed=st.integers(0, 99))
def test_independent_depthwise_gates_open_exactly_k_of_the_network(n: int, u: float, seed: int) -> None:
    schedule = GateSchedule.depthwise([f"b{i}" for i in range(n)], "independent")
    gates = schedule.vector(u, torch.Generator().manual_seed(seed))
    assert sum(map(sum, gates.values())) == active_components(u, n)


def test_independent_gates_draw_every_component_alike() -> None:
    n, rows = 4, 4000
    schedule = GateSchedule.widthwise({"m": n}, "independent")
    mask = schedule.masks(torch.full((rows,), 0.5), torch.Generator().manual_seed(0))["m"]
    p = active_components(0.5, n) / n
    assert mask.mean(dim=0).tolist() == pytest.approx([p] * n, abs=4 * math.sqrt(p * (1 - p) / rows))


def test_independent_gates_repeat_with_their_seed() -> None:
    schedule = GateSchedule.widthwise({"m": 8}, "independent")
    first, second, other = (schedule.operating_points(seed) for seed in (1, 1, 2))
    assert first == second
    assert first != other


@given(sizes=SIZES, u=st.lists(DIAL, min_size=1, max_size=6))
def test_rows_of_a_mask_are_the_vectors_of_their_throttles(sizes: dict[str, int], u: list[float]) -> None:
    schedule = GateSchedule.widthwise(sizes)
    masks = schedule.masks(torch.tensor(u, dtype=torch.float64))
    for row, value in enumerate(u):
        assert {name: tuple(map(int, mask[row])) for name, mask in masks.items()} == schedule.vector(value)


@given(schedule=NESTED, us=st.lists(DIAL, max_size=30))
def test_operating_points_cover_every_distinct_vector(schedule: GateSchedule, us: list[float]) -> None:
    points = schedule.operating_points()
    vectors = [gates for _, gates in points]
    assert all(vectors.count(gates) == 1 for gates in vectors)
    for u in (*us, *(i / 64 for i in range(65))):
        selected = max(i for i, (lowest, _) in enumerate(points) if lowest <= u)
        assert schedule.vector(u) == vectors[selected]


@given(schedule=NESTED)
def test_an_operating_point_starts_where_the_vector_changes(schedule: GateSchedule) -> None:
    points = schedule.operating_points()
    assert points[0][0] == 0.0
    for (_, before), (u, gates) in pairwise(points):
        assert schedule.vector(u) == gates
        assert schedule.vector(math.nextafter(u, 0.0)) == before


def test_at_least_one_component_stays_on() -> None:
    schedule = GateSchedule.widthwise({"m": 3}, at_least=1)
    assert [sum(gates["m"]) for _, gates in schedule.operating_points()] == [1, 2, 3]


@given(schedule=schedules(), u=DIAL, data=st.data())
def test_utilisation_is_the_weighted_share_of_equation_4(schedule: GateSchedule, u: float, data: st.DataObject) -> None:
    cost = st.floats(0.01, 1e6)
    weights = {name: data.draw(st.lists(cost, min_size=n, max_size=n)) for name, n in schedule.sizes.items()}
    gates = schedule.vector(u, torch.Generator().manual_seed(0))
    w = np.concatenate([weights[name] for name in schedule.sizes])
    g = np.concatenate([gates[name] for name in schedule.sizes])
    assert utilisation(gates, weights) == pytest.approx(w @ (g != 0) / np.abs(w).sum(), rel=1e-12)
    assert 0.0 <= utilisation(gates, weights) <= 1.0
    assert utilisation(schedule.vector(1.0), weights) == 1.0
    assert utilisation(schedule.vector(0.0), weights) == 0.0


@given(schedule=NESTED, us=st.tuples(DIAL, DIAL).map(sorted), data=st.data())
def test_utilisation_never_falls_as_throttle_rises(
    schedule: GateSchedule, us: list[float], data: st.DataObject
) -> None:
    cost = st.floats(0.0, 1e9).map(lambda c: c + 1e-3)
    weights = {name: data.draw(st.lists(cost, min_size=n, max_size=n)) for name, n in schedule.sizes.items()}
    low, high = (utilisation(schedule.vector(u), weights) for u in us)
    assert low <= high


@pytest.mark.parametrize("n", [1, 4, 16])
def test_scale_is_offered_over_on_and_one_at_both_ends(n: int) -> None:
    mask = torch.tril(torch.ones(n + 1, n), diagonal=-1)  # row k has k components on
    expected = [1.0] + [n / k for k in range(1, n + 1)]
    assert offered_over_on(mask).flatten().tolist() == pytest.approx(expected, rel=1e-6)
    assert float(offered_over_on(mask)[n]) == 1.0  # exactly: full throttle is the plain network


def test_masks_of_one_vector_repeat_it_for_each_example() -> None:
    masks = as_masks({"a": (1, 0), "b": (1,)}, 3)
    assert masks["a"].tolist() == [[1.0, 0.0]] * 3
    assert masks["b"].tolist() == [[1.0]] * 3


def test_unknown_gate_order_is_refused() -> None:
    with pytest.raises(ValueError, match="components open 'nested' or 'independent', got 'random'"):
        GateSchedule.widthwise({"m": 2}, "random")  # type: ignore[arg-type]  # what a recipe could hold


@pytest.mark.parametrize("group", [(("m", 0),), (("m", 0), ("m", 0)), (("m", 0), ("m", 1), ("x", 0))])
def test_groups_list_every_component_once(group: tuple[tuple[str, int], ...]) -> None:
    with pytest.raises(ValueError, match="must list every component of every module exactly once"):
        GateSchedule(sizes={"m": 2}, groups=(GateGroup(components=group),))
