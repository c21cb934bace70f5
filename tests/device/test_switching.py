"""Random switches among the points in memory: in which order, what is counted, and what the command prints."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tnn_edge
from tests.device.conftest import Command
from tnn_edge.bundle import OperatingPoint
from tnn_edge.errors import InputError
from tnn_edge.runtime import Engine, Result
from tnn_edge.runtime.measuring import switching as module
from tnn_edge.runtime.measuring.switching import Spread, time_switching


def watch(monkeypatch: pytest.MonkeyPatch, *, takes_ms: list[float] | None = None) -> list[OperatingPoint]:
    """The points that are run while they are timed, in this order; `takes_ms` says what the clock then shows."""
    ran: list[OperatingPoint] = []
    run_point = Engine.run_point

    def recorded(engine: Engine, x: np.ndarray, point: OperatingPoint) -> Result:
        ran.append(point)
        return run_point(engine, x, point)

    monkeypatch.setattr(Engine, "run_point", recorded)
    if takes_ms is not None:
        times = iter(takes_ms)

        def timed_ms(run: object) -> float:
            assert callable(run)
            run()
            return next(times)

        monkeypatch.setattr(module, "timed_ms", timed_ms)
    return ran


def test_every_switch_is_to_another_point_and_two_frames_run_there(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = watch(monkeypatch)
    timed = time_switching(engine, 300)
    assert (timed.n_switches, timed.n_points) == (300, 5)
    before, pairs = ran[-601], list(zip(ran[-600::2], ran[-599::2], strict=True))
    assert all(first == steady for first, steady in pairs)
    assert all(a != b for a, b in itertools.pairwise([before, *(first for first, _ in pairs)]))
    counts = [sum(first == point for first, _ in pairs) for point in engine.points]
    assert min(counts) > 300 / 5 / 2  # drawn evenly


@given(st.integers(2, 20), st.integers(1, 200), st.integers(0, 2**32))
def test_no_order_repeats_a_point_nor_begins_with_the_last(n_points: int, n_switches: int, seed: int) -> None:
    order = module._switches(n_points, n_switches, seed)
    assert order.shape == (n_switches,)
    assert set(order) <= set(range(n_points))
    assert all(a != b for a, b in itertools.pairwise([n_points - 1, *order]))
    np.testing.assert_array_equal(order, module._switches(n_points, n_switches, seed))


def test_seeds_draw_different_orders() -> None:
    assert len({tuple(module._switches(11, 50, seed)) for seed in range(10)}) == 10


def test_ratios_are_to_the_steady_median_of_the_point_that_ran(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 200
    order = module._switches(5, n, seed=7)
    # A point takes 1, 2, ... ms in its steady frame, whatever its number of visits; the first after a switch as much
    # more as 1 to 200 per cent.
    took = [ms for k, i in enumerate(order) for ms in ((1.0 + i) * (1.0 + (k + 1) / 100.0), 1.0 + i)]
    watch(monkeypatch, takes_ms=took)
    timed = time_switching(engine, n, seed=7)
    assert (timed.steady.p50, timed.steady.p99, timed.steady.max) == pytest.approx((1.0, 1.0, 1.0))
    ratios = 1.0 + np.arange(1, n + 1) / 100.0
    expected = (np.median(ratios), np.percentile(ratios, 99), 3.0)
    assert (timed.first.p50, timed.first.p99, timed.first.max) == pytest.approx(expected)


def test_switching_leaves_no_file_open_and_keeps_no_memory(engine: Engine) -> None:
    timed = time_switching(engine, 2000)
    assert timed.files_change == 0
    assert timed.rss_change_mb < 2.0
    assert 0.0 < timed.first.p50 <= timed.first.p99 <= timed.first.max
    assert timed.steady.p50 == pytest.approx(1.0, abs=0.1)


def test_a_file_that_stays_open_is_counted(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    opened = []
    run_point = Engine.run_point

    def leaking(engine: Engine, x: np.ndarray, point: OperatingPoint) -> Result:
        opened.append((tmp_path / "f").open())
        return run_point(engine, x, point)

    monkeypatch.setattr(Engine, "run_point", leaking)
    try:
        assert time_switching(engine, 10).files_change == 20
    finally:
        for file in opened:
            file.close()


def test_a_spread_is_of_all_ratios() -> None:
    spread = Spread.of(np.linspace(1.0, 2.0, 101))
    assert (spread.p50, spread.p99, spread.max) == pytest.approx((1.5, 1.99, 2.0))


def test_the_points_that_a_budget_has_room_for_take_part(tiny_bundle: Path) -> None:
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=2.2) as small:
        assert time_switching(small, 5).n_points == len(small.resident) == 2


def test_one_point_in_memory_is_none_to_switch_to(tiny_bundle: Path) -> None:
    message = "^a switch needs two operating points in memory; of 5 there is 1; raise max_resident_mb$"
    with (
        tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=0.5) as small,
        pytest.raises(InputError, match=message),
    ):
        time_switching(small, 5)


@pytest.mark.parametrize("n", [0, -3])
def test_no_switch_is_nothing_to_time(n: int, engine: Engine) -> None:
    with pytest.raises(InputError, match=rf"^n_switches must be at least 1, got {n}$"):
        time_switching(engine, n)


def test_the_command_prints_a_small_table(tiny_bundle: Path, tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("bench", str(tiny_bundle), "--device", "cpu", "--switches", "50")
    assert (code, err) == (0, "")
    title, *_, last = out.splitlines()
    assert title.startswith("cifar10_tiny on ")
    assert title.endswith("1 thread, cpu: 50 random switches among 5 points")
    for frame in ("first after a switch", "steady"):
        assert re.search(rf"│ {frame} +│ +\d+\.\d{{3}} │ +\d+\.\d{{3}} │ +\d+\.\d{{3}} │", out)
    assert re.fullmatch(r"Afterwards: [+-]\d+\.\d\d MB of memory, \+0 open files\.", last)


def test_the_command_prints_json(tiny_bundle: Path, tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("bench", str(tiny_bundle), "--device", "cpu", "--switches", "50", "--json")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert set(printed) == {
        "machine", "n_points", "n_switches", "first", "steady", "rss_change_mb", "files_change",
    }  # fmt: skip
    assert (printed["n_points"], printed["n_switches"], printed["files_change"]) == (5, 50, 0)
    assert set(printed["first"]) == set(printed["steady"]) == {"p50", "p99", "max"}


@pytest.mark.parametrize("other", [["--u", "1"], ["--chained"], ["--rounds", "3"]])
def test_switches_are_timed_alone(other: list[str], tiny_bundle: Path, tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("bench", str(tiny_bundle), "--switches", "5", *other)
    assert (code, out) == (2, "")
    assert "--switches" in err
    assert f"it goes without {other[0]}" in " ".join(err.replace("│", " ").split())


def test_the_command_says_in_one_line_that_there_is_nothing_to_switch_to(
    tiny_bundle: Path, tnn_edge_command: Command
) -> None:
    options = ["--device", "cpu", "--switches", "5", "--max-resident-mb", "0.5"]
    code, out, err = tnn_edge_command("bench", str(tiny_bundle), *options)
    assert (code, out) == (1, "")
    assert err == "error: a switch needs two operating points in memory; of 5 there is 1; raise max_resident_mb\n"
