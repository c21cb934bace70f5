"""Sites and the traces drawn from them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tnn_edge.errors import InputError
from tnn_edge.sim.climate import N_DAYS, SITES, SPLITS, read_climate
from tnn_edge.sim.drawing import WINDOW_DAYS, Surroundings, draw_traces
from tnn_edge.sim.events import EventRate
from tnn_edge.sim.traces import Traces


def test_every_day_belongs_to_one_pool_and_three_fifths_are_to_learn_from() -> None:
    climate = read_climate("miami")
    pools = {split: set(climate.days_of(split).tolist()) for split in SPLITS}
    assert sorted(day for days in pools.values() for day in days) == list(range(N_DAYS))
    assert len(pools["train"]) / N_DAYS == pytest.approx(0.6, abs=0.03)
    assert len(pools["validation"]) / N_DAYS == pytest.approx(0.2, abs=0.02)


def test_the_year_is_lightest_about_noon_as_the_sun_says() -> None:
    for site in SITES:
        climate = read_climate(site)
        clear = climate.clear_sky_w_m2(np.arange(1.0, N_DAYS + 1)[:, None], np.arange(24) + 0.5).ravel()
        agreement = [np.corrcoef(clear, np.roll(climate.ghi_w_m2.ravel(), off))[0, 1] for off in (-1, 0, 1)]
        assert np.argmax(agreement) == 1


def test_a_site_that_is_unknown_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        InputError, match=r"no site is called 'oslo'; there are greensboro, miami, sand_point, or a CSV"
    ):
        read_climate("oslo")


def test_nothing_is_trained_by_sand_point() -> None:
    with pytest.raises(InputError, match="sand_point is kept for tests: nothing is trained or chosen by it"):
        draw_traces(read_climate("sand_point"), "train", [0])


def test_whole_days_of_the_own_pool_stand_in_for_days_near_them() -> None:
    climate = read_climate("greensboro")
    for split in SPLITS:
        traces = draw_traces(climate, split, [3], step_s=3600.0)
        days = traces.irradiance_w_m2.reshape(N_DAYS, 24)
        pool = climate.days_of(split)
        for day in range(N_DAYS):
            off = np.abs(pool - day)
            near = pool[np.minimum(off, N_DAYS - off) <= WINDOW_DAYS]
            assert np.abs(climate.ghi_w_m2[near] - days[day]).max(axis=1).min() < 1e-9


def test_clouds_move_light_within_an_hour_and_leave_its_energy() -> None:
    climate = read_climate("miami")
    by_minutes = draw_traces(climate, "test", [0, 1], n_days=40, step_s=300.0).irradiance_w_m2.reshape(2, -1, 12)
    by_hours = draw_traces(climate, "test", [0, 1], n_days=40, step_s=3600.0).irradiance_w_m2
    np.testing.assert_allclose(by_minutes.mean(axis=-1), by_hours, rtol=1e-12)
    assert (by_minutes.std(axis=-1)[by_hours > 100.0] > 1.0).all()
    assert (by_minutes >= 0.0).all()


def test_no_step_is_brighter_than_clouds_can_make_it_unless_its_hour_is() -> None:
    for site in SITES:
        climate = read_climate(site)
        traces = draw_traces(climate, "test", range(4))
        brightest = 1.2 * climate.clear_sky_w_m2(traces.day_of_year, traces.hour)
        by_hour = traces.irradiance_w_m2.reshape(4, -1, 4).mean(axis=-1).repeat(4, axis=-1)
        bright = brightest.reshape(-1, 4).mean(axis=-1).repeat(4)
        is_too_bright = traces.irradiance_w_m2 > brightest + 1e-9
        assert not (is_too_bright & (by_hour > 20.0) & (by_hour < 0.99 * bright)).any()
        assert traces.irradiance_w_m2.max() < 1400.0


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True))
def test_a_trace_hangs_on_its_seed_alone(seeds: list[int]) -> None:
    climate = read_climate("miami")
    together = draw_traces(climate, "train", seeds, n_days=3)
    for i, seed in enumerate(seeds):
        alone = draw_traces(climate, "train", [seed], n_days=3)
        for name, values in vars(alone).items():
            if isinstance(values, np.ndarray) and values.ndim == 2:
                assert values[0].tobytes() == getattr(together, name)[i].tobytes(), name


def test_a_scene_is_never_worth_more_light_than_the_meter_reads() -> None:
    traces = draw_traces(read_climate("miami"), "train", [0], n_days=10)
    assert (traces.scene_lux <= traces.lux).all()
    clear = draw_traces(read_climate("miami"), "train", [0], n_days=10, surroundings=Surroundings(haze=0.0))
    assert (clear.scene_lux == clear.lux).all()


def test_events_have_the_mean_that_is_asked_for() -> None:
    rate = EventRate(weekend_share=1.0)
    traces = draw_traces(
        read_climate("miami"), "train", range(10), step_s=3600.0, surroundings=Surroundings(events=rate)
    )
    assert traces.events_per_h.mean() == pytest.approx(rate.mean_per_h, rel=0.03)


def test_a_step_begins_half_of_it_before_its_middle() -> None:
    traces = draw_traces(read_climate("miami"), "test", [0], n_days=2, step_s=1200.0)
    np.testing.assert_allclose(traces.start_hour, np.tile(np.arange(72) / 3.0, 2), atol=1e-9)
    assert traces.start_hour.min() == 0.0


def test_a_trace_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    traces = draw_traces(read_climate("miami"), "test", [7], n_days=2)
    digest = traces.save(tmp_path / "t.npz")
    again = Traces.load(tmp_path / "t.npz")
    assert again.site == "miami"
    assert again.save(tmp_path / "u.npz") == digest
    np.testing.assert_allclose(again.irradiance_w_m2, traces.irradiance_w_m2, rtol=1e-6)
    assert (again.hour == traces.hour).all()


def test_a_trace_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    draw_traces(read_climate("miami"), "test", [7], n_days=2).save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"nothing of the kind"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"t\.npz is no trace file, or damaged"):
            Traces.load(path)
    with pytest.raises(InputError, match=r"there is no trace file .*missing\.npz; python -m train\.traces bake"):
        Traces.load(tmp_path / "missing.npz")


def test_a_trace_file_with_other_numbers_than_were_saved_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    draw_traces(read_climate("miami"), "test", [7], n_days=2).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["lux"] = arrays["lux"] + 1.0
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=r"t\.npz is damaged, or was made by another version"):
        Traces.load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_s": 7.0}, r"step_s must divide an hour of 3600 s, got 7"),
        ({"step_s": 0.0}, r"step_s must divide an hour of 3600 s, got 0"),
        ({"n_days": 0}, r"n_days must be at least 1, got 0"),
        ({"first_day": 366}, r"first_day must lie in \[1, 365\], got 366"),
        ({"split": "tests"}, r"split must be one of train, validation, test, got 'tests'"),
        ({"seeds": []}, r"seeds must hold at least one whole number, none below 0, got \[\]"),
        ({"seeds": [-1]}, r"seeds must hold at least one whole number, none below 0, got \[-1\]"),
    ],
)
def test_traces_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"split": "train", "seeds": [0], "n_days": 1, **options}
    with pytest.raises(InputError, match=message):
        draw_traces(read_climate("miami"), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean_per_h": 0.0}, "mean_per_h must be a finite number above 0, got 0"),
        ({"burstiness": -1.0}, r"burstiness must lie in \[0, 5\], got -1"),
    ],
)
def test_events_that_cannot_be_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(EventRate(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lamp_lux": -1.0}, "lamp_lux must be finite and not negative, got -1"),
        ({"haze_h": 0.0}, "haze_h must be a finite number above 0, got 0"),
    ],
)
def test_surroundings_that_cannot_be_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Surroundings(), **options)  # type: ignore[arg-type]


def test_years_for_tests_share_neither_days_nor_work_nor_clouds_with_others() -> None:
    climate = read_climate("miami")
    drawn = [draw_traces(climate, split, [3], n_days=30) for split in ("train", "validation", "test")]
    elsewhere = draw_traces(read_climate("greensboro"), "train", [3], n_days=30)
    for one, other in itertools.combinations([*drawn, elsewhere], 2):
        for name in ("events_per_h", "confidence_z", "irradiance_w_m2"):
            assert abs(np.corrcoef(getattr(one, name)[0], getattr(other, name)[0])[0, 1]) < 0.95, name
        assert not np.array_equal(one.confidence_z, other.confidence_z)
    z = [abs(np.corrcoef(a.confidence_z[0], b.confidence_z[0])[0, 1]) for a, b in itertools.combinations(drawn, 2)]
    assert max(z) < 0.1
