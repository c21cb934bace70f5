"""The observation table: what is known, what is unknown, and for which table a controller was made."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from tnn_edge.control import SIGNALS, Observation, table_hash
from tnn_edge.control.observation import check_value
from tnn_edge.errors import InputError


def test_what_is_absent_none_nan_or_out_of_bounds_is_unknown() -> None:
    seen = Observation.of(time_s=0.0, soc=[0.5, -0.01, 1.01, np.nan], lux=None, hour=[0.0, 24.0, 24.5, 12.0])
    assert seen["soc"][0] == 0.5
    assert np.isnan(seen["soc"][1:]).all()
    assert np.isnan(seen["lux"]).all()
    assert np.isnan(seen["confidence"]).all()
    np.testing.assert_array_equal(seen["hour"], [0.0, 24.0, np.nan, 12.0])


@pytest.mark.parametrize("name", SIGNALS)
def test_both_bounds_of_a_signal_are_known_and_what_lies_beyond_is_not(name: str) -> None:
    low, high = SIGNALS[name].low, SIGNALS[name].high
    values: Any = [np.nextafter(low, -np.inf), low, high, np.nextafter(high, np.inf)]
    seen = Observation.of(time_s=0.0, **{name: values})
    np.testing.assert_array_equal(np.isnan(seen[name]), [True, False, False, True])


def test_a_number_holds_for_every_device() -> None:
    seen = Observation.of(time_s=3.0, soc=[0.1, 0.2], on_mains=True)
    assert len(seen) == 2
    np.testing.assert_array_equal(seen["on_mains"], [1.0, 1.0])
    assert len(Observation.of(time_s=0.0)) == 1
    assert len(Observation.of(time_s=0.0, n=5, soc=0.5)) == 5


def test_an_observation_does_not_change_with_the_array_it_came_from() -> None:
    soc = np.array([0.5, 0.6])
    seen = Observation.of(time_s=0.0, soc=soc)
    soc[:] = 0.0
    np.testing.assert_array_equal(seen["soc"], [0.5, 0.6])


def test_an_unknown_signal_is_named() -> None:
    with pytest.raises(InputError, match=r"^no signal is called sco; there are soc, on_mains, "):
        Observation.of(time_s=0.0, sco=0.5)


@pytest.mark.parametrize(
    "signals", [{"soc": [0.1, 0.2], "lux": [1.0, 2.0, 3.0]}, {"soc": [[0.1]]}, {"n": 2, "lux": [1.0, 2.0, 3.0]}]
)
def test_arrays_of_different_lengths_are_refused(signals: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"^signals must be numbers or arrays of one length, got "):
        Observation.of(time_s=0.0, **signals)


def test_the_hash_is_of_names_units_and_bounds() -> None:
    rows = [[name, s.unit, s.low, s.high] for name, s in SIGNALS.items()]
    assert table_hash() == hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@pytest.mark.parametrize(
    ("signal", "value", "message"),
    [
        ("soc", 20.0, r"^below must lie in \[0, 1\] \(soc in share\), got 20; for 20 % write 0\.2$"),
        ("soc", -1.0, r"^below must lie in \[0, 1\] \(soc in share\), got -1$"),
        ("temperature_c", 333.0, r"^below must lie in \[-60, 150\] \(temperature_c in degrees C\), got 333$"),
        ("hour", float("nan"), r"^below must lie in \[0, 24\] \(hour in h\), got nan$"),
    ],
)
def test_a_value_that_a_signal_cannot_have_is_refused_with_its_unit(signal: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_value("below", signal, value)
    check_value("below", signal, SIGNALS[signal].high)
