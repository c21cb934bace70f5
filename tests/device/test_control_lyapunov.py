"""Drift plus penalty against its formula and a plain search."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.conftest import WritePolicy
from tnn_edge.control import LyapunovPolicy, Observation, read_policy, reference_profile
from tnn_edge.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "policies" / "lyapunov.toml"
POLICY = LyapunovPolicy(battery_wh=100.0, v_wh2_per_event=3.0, target_soc=0.9)

shares = st.floats(0.0, 1.0)
lights = st.floats(0.0, 200_000.0)


def decide(policy: LyapunovPolicy, **signals: Any) -> tuple[float, str]:
    seen = Observation.of(time_s=0.0, **{"soc": 0.5, "lux": 300.0, "workload": 1.0, **signals})
    decision, _ = policy.decide(seen, None)
    return float(decision.u[0]), policy.reasons[decision.reason[0]]


@given(shares, lights, shares)
def test_u_maximises_weighted_value_less_the_pull_of_the_queue(soc: float, lux: float, workload: float) -> None:
    profile = reference_profile()
    value = 240.0 * max(0.0, (workload - 0.25) / 0.75)
    queue_wh = max(0.0, 0.9 - soc) * 100.0
    gains = [
        3.0 * value * accuracy - queue_wh * workload * power_w
        for accuracy, power_w in zip(profile.accuracy_at([lux])[0], profile.power_w, strict=True)
    ]
    u, reason = decide(POLICY, soc=soc, lux=lux, workload=workload)
    assert reason == "lyapunov"
    assert gains[int(profile.point_at(u))] >= max(gains) - 1e-12 * max(map(abs, gains))


@given(shares, shares, lights, shares)
def test_u_never_falls_as_the_battery_fills(soc: float, other: float, lux: float, workload: float) -> None:
    low, high = sorted((soc, other))
    if high - low > 1e-9:
        assert decide(POLICY, soc=low, lux=lux, workload=workload) <= decide(
            POLICY, soc=high, lux=lux, workload=workload
        )


@given(st.floats(1e-3, 1e3), st.floats(1.0 + 1e-9, 1e3), shares, lights)
def test_u_never_falls_with_the_weight_of_an_event(v: float, factor: float, soc: float, lux: float) -> None:
    light, heavy = (dataclasses.replace(POLICY, v_wh2_per_event=each) for each in (v, v * factor))
    assert decide(light, soc=soc, lux=lux)[0] <= decide(heavy, soc=soc, lux=lux)[0]


def test_from_the_target_on_energy_is_free_and_without_value_none_is_spent() -> None:
    assert decide(POLICY, soc=0.9) == decide(POLICY, soc=1.0) == (1.0, "lyapunov")
    assert decide(POLICY, soc=1.0, workload=0.25) == (0.0, "lyapunov")


@pytest.mark.parametrize("name", ["soc", "lux", "workload"])
def test_u_is_unknown_with_a_signal_it_needs(name: str) -> None:
    u, reason = decide(POLICY, **{name: None})
    assert (math.isnan(u), reason) == (True, f"unknown_{name}")


def test_a_file_makes_the_policy_it_says() -> None:
    policy = read_policy(EXAMPLE).policy
    assert isinstance(policy, LyapunovPolicy)
    assert policy == LyapunovPolicy(battery_wh=120.0, v_wh2_per_event=4.0, profile=policy.profile)
    np.testing.assert_array_equal(policy.profile.power_w, reference_profile().power_w)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("v_wh2_per_event = 0", "v_wh2_per_event must be a finite number above 0, got 0"),
        (
            "v_wh2_per_event = 1\ntarget_soc = 95",
            "target_soc must lie in [0, 1] (soc in share), got 95; for 95 % write",
        ),
        ("v_wh2_per_event = 1\nfull_events_per_h = 0", "full_events_per_h must be a finite number above 0, got 0"),
        ("v_wh2_per_event = 1\nprofile = 'no.toml'", "there is no file "),
        ("v_wh_per_event = 1", "unknown key; did you mean v_wh2_per_event?"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(write_policy: WritePolicy, line: str, fault: str) -> None:
    path = write_policy(f"governor.unknown_u = 0\n[lyapunov]\nbattery_wh = 100\n{line}\n")
    *_, last = line.split("\n")
    place = rf":{4 + line.count(chr(10))}: lyapunov\.{last.split()[0]}: "
    with pytest.raises(ConfigError, match=place + re.escape(fault)):
        read_policy(path)
