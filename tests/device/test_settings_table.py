"""What threads and spinning cost: the arithmetic on a known clock, and real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.device.profiles import PacedClock, Watts
from tnn_edge.errors import BundleError, PlanError
from tnn_edge.runtime import Engine
from tnn_edge.runtime.measuring import settings_table as module
from tnn_edge.runtime.measuring.settings_table import SettingCost, settings_table, thread_counts, time_setting
from tnn_edge.runtime.measuring.work_meter import Clocks


def on_a_known_clock(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, *, latency_s: float, period_s: float
) -> dict[str, float | None]:
    """Inferences of `latency_s` on two cores, on a machine of 2 W and nothing more."""
    wall, cpu = PacedClock(), PacedClock()
    run_point = Engine.run_point

    def slow(engine: Engine, *args: Any) -> Any:
        wall.now_ns += round(1e9 * latency_s)
        cpu.now_ns += round(2e9 * latency_s)
        return run_point(engine, *args)

    monkeypatch.setattr(Engine, "run_point", slow)
    monkeypatch.setattr(module, "_measuring", lambda meter, device: Watts(wall))
    return time_setting(
        bundle=str(tiny_bundle), device="cpu", u=0.5, threads=1, spinning=False, period_s=period_s, seconds=1.0,
        meter="some:meter", cache=None, clocks=Clocks(wall, cpu, wall.sleep),
    )  # fmt: skip


def test_a_paced_frame_costs_its_inference_and_the_power_of_the_whole_period(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = on_a_known_clock(tiny_bundle, monkeypatch, latency_s=0.01, period_s=0.05)
    assert found == {
        "u": 0.4,
        "latency_ms": pytest.approx(10.0),
        "cpu_ms": pytest.approx(20.0),
        "paced_latency_ms": pytest.approx(10.0),
        "paced_cpu_ms": pytest.approx(20.0),
        "paced_energy_mj": pytest.approx(2.0 * 50.0),
    }


def test_an_inference_longer_than_the_period_is_followed_at_once(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = on_a_known_clock(tiny_bundle, monkeypatch, latency_s=0.08, period_s=0.05)
    assert found["paced_energy_mj"] == pytest.approx(2.0 * 80.0)


def test_in_processes_of_their_own_threads_that_spin_burn_the_time_between_frames(
    engine: Engine, tiny_bundle: Path
) -> None:
    said: list[str] = []
    table = settings_table(
        tiny_bundle, "cpu", dial=[0.5], threads=[2], seconds=0.2, repeats=1, period_s=0.02,
        meter="tests.device.profiles:two_watts", on_progress=said.append,
    )  # fmt: skip
    assert said == ["settings, process 1 of 2", "settings, process 2 of 2"]
    assert [(row.u, row.threads, row.spinning) for row in table] == [(0.4, 2, False), (0.4, 2, True)]
    assert all(row.latency_ms > 0 and row.cpu_ms > 0 and row.paced_latency_ms > 0 for row in table)
    # 2 W for 20 ms; on a busy machine a frame may come late
    assert all(row.paced_energy_mj is not None and 39.0 < row.paced_energy_mj < 120.0 for row in table)
    still, spinning = table
    assert spinning.paced_cpu_ms > 2.0 * still.paced_cpu_ms


def test_the_medians_of_the_repeats_count(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = ("latency_ms", "cpu_ms", "paced_latency_ms", "paced_cpu_ms")
    said = [
        {"u": 0.4, "paced_energy_mj": mj, **dict.fromkeys(times, ms)}
        for ms, mj in ((1.0, None), (90.0, 5.0), (2.0, 7.0))
    ]
    answers = iter([each for each in said for _ in range(2)])  # spinning or not
    monkeypatch.setattr(module, "confined", lambda *args, **kwargs: next(answers))
    table = settings_table(tiny_bundle, "cpu", dial=[0.5], threads=[2], repeats=3)
    for row, spinning in zip(table, (False, True), strict=True):
        assert row == SettingCost(
            u=0.4, threads=2, spinning=spinning, latency_ms=2.0, cpu_ms=2.0, paced_latency_ms=2.0, paced_cpu_ms=2.0,
            paced_energy_mj=6.0,
        )  # fmt: skip


def test_one_thread_alone_has_none_that_could_spin(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[tuple[int, bool]] = []

    def answer(target: str, arguments: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        timed.append((arguments["threads"], arguments["spinning"]))
        return dict.fromkeys(("u", "latency_ms", "cpu_ms", "paced_latency_ms", "paced_cpu_ms", "paced_energy_mj"), 0.4)

    monkeypatch.setattr(module, "confined", answer)
    table = settings_table(tiny_bundle, "cpu", dial=[0.5], threads=[1, 2], repeats=1)
    assert [(row.threads, row.spinning) for row in table] == [(1, False), (2, False), (2, True)]
    assert sorted(timed) == [(1, False), (2, False), (2, True)]


def test_a_process_that_fails_is_one_error(engine: Engine, tiny_bundle: Path) -> None:
    message = (
        "^timing u=0.5 with threads=1, spinning=False failed: ModuleNotFoundError.*; run it again while nothing else"
    )
    with pytest.raises(PlanError, match=message):
        settings_table(tiny_bundle, "cpu", dial=[0.5], threads=[1], repeats=1, meter="nowhere:meter")


def test_the_processes_compute_in_the_precision_that_was_asked_for(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"tiny_bundle has no ranges for 8-bit integers; "):
        settings_table(tiny_bundle, "cpu", precision="int8", dial=[0.5], threads=[1], repeats=1)


@pytest.mark.parametrize(
    ("n_cores", "counts"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_numbers_of_threads_double_up_to_the_cores(n_cores: int, counts: list[int]) -> None:
    assert thread_counts(n_cores) == counts
