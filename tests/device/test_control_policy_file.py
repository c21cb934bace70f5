"""Policy files: what they make."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.device.conftest import WritePolicy
from tnn_edge.control import (
    ConstantPolicy,
    Governed,
    GovernorSettings,
    IsUnknown,
    Limit,
    PacingPolicy,
    Ramp,
    Rule,
    RulePolicy,
    SocRampPolicy,
    ThermalCap,
    Within,
    read_policy,
)
from tnn_edge.errors import ConfigError

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples" / "policies").glob("*.toml"))
GOVERNOR = "[governor]\nunknown_u = 0.2\n"
INF = math.inf


def within(signal: str, *bounds: float) -> Within:
    low, high, leave_low, leave_high = bounds
    return Within(signal=signal, enter_low=low, enter_high=high, leave_low=leave_low, leave_high=leave_high)


def test_a_rule_file_makes_the_rules_it_says(write_policy: WritePolicy) -> None:
    governed = read_policy(
        write_policy(
            """
min_dwell_s = 30
[governor]
unknown_u = 0.25
floor = 0.1
ceiling = 0.9
max_slew_per_s = 0.5
thermal = { above_c = 80, until_c = 70, u = 0.2 }
[[rules]]
name = "a"
when = { soc = { below = 0.2, until = 0.3 }, on_mains = false, lux = "unknown", hour = { between = [22, 6] } }
u = 0
[[rules]]
name = "b"
when.confidence = { above = 0.5, until = 0.25 }
when.on_mains.equals = true
u = { signal = "soc", points = [[0.2, 0.1], [0.8, 1]] }
[[rules]]
name = "c"
u = 0.5
[[limits]]
name = "warm"
when = { temperature_c = { above = 70 } }
ceiling = 0.4
binds_if_unknown = true
"""
        )
    )
    assert governed.settings == GovernorSettings(
        unknown_u=0.25, floor=0.1, ceiling=0.9, max_slew_per_s=0.5, thermal=ThermalCap(above_c=80, until_c=70, u=0.2)
    )
    policy = governed.policy
    assert isinstance(policy, RulePolicy)
    assert policy.min_dwell_s == 30.0
    assert policy.rules == (
        Rule(
            name="a",
            when=(
                within("soc", -INF, 0.2, -INF, 0.3),
                within("on_mains", -INF, 0.5, -INF, 0.5),
                IsUnknown(signal="lux"),
                within("hour", 22, 6, 22, 6),
            ),
            u=0.0,
        ),
        Rule(
            name="b",
            when=(within("on_mains", 0.5, INF, 0.5, INF), within("confidence", 0.5, INF, 0.25, INF)),
            u=Ramp("soc", ((0.2, 0.1), (0.8, 1.0))),
        ),
        Rule(name="c", u=0.5),
    )
    assert policy.limits == (
        Limit(name="warm", when=(within("temperature_c", 70, INF, 70, INF),), ceiling=0.4, binds_if_unknown=True),
    )


def test_the_other_kinds_are_their_settings() -> None:
    policies = {path.stem: read_policy(path).policy for path in EXAMPLES}
    assert policies["constant"] == ConstantPolicy(0.5)
    assert policies["soc_ramp"] == SocRampPolicy(empty_soc=0.2, full_soc=0.8, empty_u=0.0, full_u=1.0)
    assert policies["pacing"] == PacingPolicy(
        battery_wh=120.0, idle_w=2.2, compute_w=7.8, expected_harvest_w=5.0, target_soc=0.6, horizon_h=24.0,
        harvest_time_constant_h=24.0,
    )  # fmt: skip


def test_reading_is_of_one_governed_policy(write_policy: WritePolicy) -> None:
    governed: Governed[Any] = read_policy(write_policy(f"{GOVERNOR}[constant]\nu = 0.5"))
    assert governed.reasons[0] == "constant"
    with pytest.raises(ConfigError, match=r"^cannot read nowhere\.toml: No such file or directory$"):
        read_policy(Path("nowhere.toml"))
