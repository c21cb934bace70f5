"""Percentiles of ages, against numpy's over the same values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.camera.ages import Ages


@given(
    st.lists(st.floats(0.01, 1e6), min_size=1, max_size=200),
    st.floats(1.0, 100.0),
)
def test_percentile_is_right_within_two_percent(values: list[float], percent: float) -> None:
    ages = Ages()
    for value in values:
        ages.add(value)
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    answer = ages.percentile(percent)
    assert answer is not None
    assert exact * (1 - 1e-9) <= answer <= exact * 1.02 * (1 + 1e-9)
    assert len(ages) == len(values)
    assert ages.max_ms == max(values)


def test_before_the_first_result_there_is_no_age() -> None:
    assert Ages().percentile(50) is None


def test_memory_does_not_grow_with_the_run() -> None:
    ages = Ages()
    for value in np.random.default_rng(0).uniform(1.0, 100.0, 20_000):
        ages.add(float(value))
    assert len(ages._counts) <= np.log(100) / np.log(1.02) + 2


@pytest.mark.parametrize("age_ms", [0.0, 1e-9])
def test_no_time_at_all_has_a_bucket_too(age_ms: float) -> None:
    ages = Ages()
    ages.add(age_ms)
    assert ages.percentile(100) == age_ms
