"""Whatever is wrong in a policy file is told with file, line, key and a way out."""

from __future__ import annotations

import re

import pytest

from tests.device.conftest import WritePolicy
from tnn_edge.control import (
    read_policy,
)
from tnn_edge.errors import ConfigError

GOVERNOR = "[governor]\nunknown_u = 0.2\n"
KINDS = "constant, thresholds, soc_ramp, pacing, activity, price, lyapunov, mpc, rules"


def rule(body: str) -> str:
    return f"{GOVERNOR}[[rules]]\nname = 'a'\n{body}\n[[rules]]\nname = 'last'\nu = 1\n"


def limit(body: str) -> str:
    return f"{GOVERNOR}[[rules]]\nname = 'last'\nu = 1\n[[limits]]\nname = 'a'\n{body}\n"


FAULTS = [
    # A key or a signal that there is not
    (
        rule("wehn = {}\nu = 0"),
        5,
        "rules[0].wehn",
        "unknown key; did you mean when?",
    ),
    (
        rule("when = { sco = { below = 1 } }\nu = 0"),
        5,
        "rules[0].when.sco",
        "unknown key; did you mean soc?",
    ),
    (
        rule("u = 0\n[rules.when]\nlux.belwo = 3"),
        7,
        "rules[0].when.lux.belwo",
        "unknown key; did you mean below?",
    ),
    (
        rule("u = { signal = 'sok', points = [[0, 0], [1, 1]] }"),
        5,
        "rules[0].u.signal",
        (
            "must be 'soc', 'on_mains', 'power_in_w', 'lux', 'confidence', 'temperature_c', 'hour', "
            "'day_of_year', 'workload' or 'last_u', got \"sok\"; did you mean soc?"
        ),
    ),
    (
        "[governor]\nunknown_u = 0.2\nflor = 0.1\n[constant]\nu = 1",
        3,
        "governor.flor",
        "unknown key; did you mean floor?",
    ),
    (
        (
            "[governor]\nunknown_u = 0.2\n[governor.thermal]\nabove = 3\nabove_c = 80\nuntil_c = 7\nu = 0\n"
            "[constant]\nu = 1"
        ),
        4,
        "governor.thermal.above",
        "unknown key; did you mean above_c?",
    ),
    (
        f"{GOVERNOR}[constant]\nu = 1\nv = 2",
        5,
        "constant.v",
        "unknown key; there are u",
    ),
    (
        f"{GOVERNOR}[soc_ramp]\nemty_soc = 0.1",
        4,
        "soc_ramp.emty_soc",
        "unknown key; did you mean empty_soc?",
    ),
    (
        f"{GOVERNOR}max_slew = 2\n[constant]\nu = 1",
        3,
        "governor.max_slew",
        "unknown key; did you mean max_slew_per_s?",
    ),
    # What is missing
    (
        "[constant]\nu = 1\n",
        1,
        "governor",
        "missing: the table [governor] with unknown_u, the declared answer where a signal is unknown",
    ),
    (
        "[governor]\n[constant]\nu = 1\n",
        1,
        "governor.unknown_u",
        "missing: the declared answer, u where a signal is unknown that the policy needs",
    ),
    (
        rule("when = {}"),
        3,
        "rules[0].u",
        "missing: the throttle, a number in [0, 1] or a ramp { signal = ..., points = [[..., ...], ...] }",
    ),
    (
        f"{GOVERNOR}[pacing]\nidle_w = 1\ncompute_w = 2\nexpected_harvest_w = 3",
        3,
        "pacing.battery_wh",
        "missing: usable energy of the battery",
    ),
    (
        GOVERNOR,
        1,
        "",
        f"there is no policy; write one of {KINDS}",
    ),
    (
        f"{GOVERNOR}[soc_ramp]\n[constant]\nu = 1",
        3,
        "soc_ramp",
        f"soc_ramp stands beside constant; a policy is one of {KINDS}",
    ),
    (
        "min_dwell_s = 3\n[constant]\nu = 1\n" + GOVERNOR,
        1,
        "min_dwell_s",
        "min_dwell_s belongs to rules, not to constant; the governor bounds every policy",
    ),
    (
        "rules = []\n" + GOVERNOR,
        1,
        "rules",
        "there is no rule; the least is one without conditions",
    ),
    (
        limit("when = {}"),
        6,
        "limits[0]",
        "a limit without floor or ceiling bounds nothing",
    ),
    # Units forgotten
    (
        rule("when = { soc = 20 }\nu = 0"),
        5,
        "rules[0].when.soc",
        "a number alone is no condition; write { below = 20 } or { above = 20 }",
    ),
    (
        rule("when = { soc = { below = 20 } }\nu = 0"),
        5,
        "rules[0].when.soc.below",
        "below must lie in [0, 1] (soc in share), got 20; for 20 % write 0.2",
    ),
    (
        rule("u = 0\nwhen = { soc = { above = 0.2, until = 10 } }"),
        6,
        "rules[0].when.soc.until",
        "until must lie in [0, 1] (soc in share), got 10; for 10 % write 0.1",
    ),
    (
        rule("when.temperature_c.above = 343\nu = 0"),
        5,
        "rules[0].when.temperature_c.above",
        "above must lie in [-60, 150] (temperature_c in degrees C), got 343",
    ),
    (
        rule("when = { hour = { between = [2200, 600] } }\nu = 0"),
        5,
        "rules[0].when.hour.between",
        "between must lie in [0, 24] (hour in h), got 2200",
    ),
    (
        rule("u = { signal = 'soc', points = [\n[20, 0],\n[80, 1]] }"),
        5,
        "rules[0].u.points",
        "points: soc must lie in [0, 1] (soc in share), got 20; for 20 % write 0.2",
    ),
    (
        f"{GOVERNOR}[soc_ramp]\nempty_soc = 0.1\nfull_soc = 80",
        5,
        "soc_ramp.full_soc",
        "full_soc must lie in [0, 1] (soc in share), got 80; for 80 % write 0.8",
    ),
    (
        rule("u = 30"),
        5,
        "rules[0].u",
        "u must lie in [0, 1], got 30",
    ),
    (
        "[governor]\nunknown_u = 20\n[constant]\nu = 1",
        2,
        "governor.unknown_u",
        "unknown_u must lie in [0, 1], got 20",
    ),
    # A hysteresis band upside down
    (
        rule("when = { soc = { below = 0.3, until = 0.2 } }\nu = 0"),
        5,
        "rules[0].when.soc.until",
        "until must not be below 0.3, where the condition begins, got 0.2",
    ),
    (
        rule("when = { soc = { above = 0.3, until = 0.4 } }\nu = 0"),
        5,
        "rules[0].when.soc.until",
        "until must not be above 0.3, where the condition begins, got 0.4",
    ),
    (
        "[governor]\nunknown_u = 0.2\n[governor.thermal]\nabove_c = 70\nuntil_c = 80\nu = 0\n[constant]\nu = 1",
        5,
        "governor.thermal.until_c",
        "until_c must not be above above_c 70, got 80",
    ),
    # Rules and limits that fight
    (
        (
            f"{GOVERNOR}[[rules]]\nname = 'a'\nwhen = {{ soc = {{ below = 0.5 }} }}\nu = 1\n[[rules]]\nname = 'b'\n"
            "when = { soc = { below = 0.4 } }\nu = 0\n[[rules]]\nname = 'c'\nu = 0"
        ),
        7,
        "rules[1]",
        "'b' never comes into play: wherever it holds, 'a' holds before it",
    ),
    (
        limit("floor = 0.5\n[[limits]]\nname = 'b'\nceiling = 0.4"),
        9,
        "limits[1]",
        "'b' fights 'a': both can hold at once, and the floor of one is above the ceiling of the other",
    ),
    (
        limit("floor = 0.5\nceiling = 0.4"),
        8,
        "limits[0].floor",
        "floor 0.5 is above ceiling 0.4",
    ),
    (
        rule("when.soc.below = 0.1\nu = 0").replace("'last'", "'a'"),
        8,
        "rules[1].name",
        "name 'a' is taken; choose another",
    ),
    (
        rule("when.soc.below = 0.1\nu = 0").replace("'a'", "'governor_x'"),
        4,
        "rules[0].name",
        "name 'governor_x': no name may begin with unknown_ or governor_",
    ),
    (
        f"{GOVERNOR}[[rules]]\nname = 'a'\nwhen = {{ soc = {{ below = 0.5 }} }}\nu = 1",
        5,
        "rules[0].when",
        "when must be left out of the last rule, so that it holds always",
    ),
    # A condition of no form, or of two
    (
        rule("when = { soc = {} }\nu = 0"),
        5,
        "rules[0].when.soc",
        "a condition is one of below, above, between, equals; got none",
    ),
    (
        rule("when = { soc = { below = 0.5, above = 0.2 } }\nu = 0"),
        5,
        "rules[0].when.soc",
        "a condition is one of below, above, between, equals; got below and above",
    ),
    (
        rule("when = { hour = { between = [1, 2], until = 3 } }\nu = 0"),
        5,
        "rules[0].when.hour.until",
        "until belongs to below or above, not to between",
    ),
    (
        rule("when = { soc = { between = [0.5, 0.2] } }\nu = 0"),
        5,
        "rules[0].when.soc.between",
        "between needs a rising pair (only hour and day_of_year run round), got [0.5, 0.2]",
    ),
    (
        rule("when = { hour = { between = [1, 2, 3] } }\nu = 0"),
        5,
        "rules[0].when.hour.between",
        "List should have at most 2 items after validation, not 3, got [1, 2, 3]",
    ),
    (
        rule("when = { soc = 'low' }\nu = 0"),
        5,
        "rules[0].when.soc",
        '"low" is no condition; the only word is "unknown"',
    ),
    (
        rule("when = { soc = true }\nu = 0"),
        5,
        "rules[0].when.soc",
        "soc is a number (share); say below, above or between",
    ),
    # Types
    (
        rule("u = true"),
        5,
        "rules[0].u",
        "must be a valid number, got true",
    ),
    (
        rule("u = '0.5'"),
        5,
        "rules[0].u",
        'must be a valid number, got "0.5"',
    ),
    (
        rule("when = { soc = { below = '20 %' } }\nu = 0"),
        5,
        "rules[0].when.soc.below",
        'must be a valid number, got "20 %"',
    ),
    (
        rule("u = nan"),
        5,
        "rules[0].u",
        "must be a finite number, got NaN",
    ),
]


@pytest.mark.parametrize(("text", "line", "key", "message"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_told_with_file_line_key_and_a_way_out(
    write_policy: WritePolicy, text: str, line: int, key: str, message: str
) -> None:
    path = write_policy(text)
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    assert str(caught.value) == f"{path}:{line}: {key}: {message}".replace(": : ", ": ")


def test_all_faults_of_all_rules_are_told_at_once(write_policy: WritePolicy) -> None:
    path = write_policy(
        rule("when = { soc = { below = 20 }, lux = { below = 1, until = 0 } }\nu = 2")
        + "[[limits]]\nname = 'l'\nfloor = 3"
    )
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    assert [re.match(r"(.*?:\d+: .*?):", row[len(str(path)) :])[1] for row in str(caught.value).split("\n")] == [  # type: ignore[index]
        ":5: rules[0].when.soc.below",
        ":5: rules[0].when.lux.until",
        ":6: rules[0].u",
        ":12: limits[0].floor",
    ]  # fmt: skip
