"""Rules, limits and conditions that are refused, alone or together."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from tests.device.deciding import above, below, between
from tnn_edge.control import IsUnknown, Limit, Ramp, Rule, RulePolicy

NAN = math.nan

ALWAYS = Rule(name="always", u=1.0)


@pytest.mark.parametrize(
    ("rules", "limits", "message"),
    [
        ([], [], "there is no rule; the least is one without conditions"),
        ([Rule(name="a", when=(below("soc", 0.2),), u=0.0)], [], "when must be left out of the last rule"),
        ([Rule(name="always", when=(below("soc", 0.2),), u=0.0), ALWAYS], [], "name 'always' is taken"),
        ([ALWAYS], [Limit(name="always", ceiling=0.5)], "name 'always' is taken"),
        ([Rule(name="unknown_soc", u=1.0)], [], "name 'unknown_soc': no name may begin with unknown_ or governor_"),
        ([ALWAYS, Rule(name="b", u=0.0)], [], "'b' never comes into play: wherever it holds, 'always' holds before it"),
        (
            [
                Rule(name="a", when=(below("soc", 0.5),), u=0.0),
                Rule(name="b", when=(below("soc", 0.3), below("lux", 10)), u=0.5),
                ALWAYS,
            ],
            [],
            "'b' never comes into play",
        ),
        (
            [ALWAYS],
            [
                Limit(name="gate", when=(between("hour", 7, 9),), floor=0.5),
                Limit(name="warm", when=(above("temperature_c", 70),), ceiling=0.4),
            ],
            "'warm' fights 'gate': both can hold at once, and the floor of one is above the ceiling of the other",
        ),
    ],
)  # fmt: skip
def test_rules_that_make_no_sense_together_are_refused(rules: list[Rule], limits: list[Limit], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        RulePolicy(rules, limits)


def test_limits_that_never_meet_do_not_fight() -> None:
    night = Limit(name="night", when=(between("hour", 22, 6),), ceiling=0.3)
    RulePolicy([ALWAYS], [night, Limit(name="noon", when=(between("hour", 11, 13),), floor=0.5)])
    RulePolicy([ALWAYS], [night, Limit(name="blind", when=(IsUnknown(signal="hour"),), floor=0.5)])
    with pytest.raises(ValueError, match=r"^'dawn' fights 'night'"):
        RulePolicy([ALWAYS], [night, Limit(name="dawn", when=(between("hour", 5, 7),), floor=0.5)])


def test_hysteresis_keeps_a_rule_in_play_that_lies_behind_a_narrower_one() -> None:
    """Behind `below 0.3` a rule `below 0.2 until 0.4` still has [0.3, 0.4) to itself, once it has begun to hold."""
    RulePolicy(
        [
            Rule(name="narrow", when=(below("soc", 0.3),), u=0.0),
            Rule(name="wide", when=(below("soc", 0.2, until=0.4),), u=0.5),
            ALWAYS,
        ]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: below("soc", 0.3, until=0.2),
            r"^the condition on soc would end before it begins: it holds in \[-inf, 0\.3\)",
        ),
        (lambda: above("soc", 0.3, until=0.4), r"^the condition on soc would end before it begins"),
        (lambda: below("sco", 0.3), r"^no signal is called 'sco'; there are soc, "),
        (lambda: IsUnknown(signal="sco"), r"^no signal is called 'sco'; there are soc, "),
        (lambda: below("soc", 20), r"^enter_high must lie in \[0, 1\] \(soc in share\), got 20; for 20 % write 0\.2$"),
        (lambda: Ramp("sco", ((0, 0), (1, 1))), r"^no signal is called 'sco'"),
        (lambda: Ramp("soc", ((0, 0),)), r"^points must be two or more with rising soc"),
        (lambda: Ramp("soc", ((1, 0), (0, 1))), r"^points must be two or more with rising soc"),
        (lambda: Ramp("soc", ((20, 0), (80, 1))), r"^points: soc must lie in \[0, 1\] .*; for 20 % write 0\.2$"),
        (lambda: Ramp("soc", ((0, 0), (1, 2))), r"^points: u must lie in \[0, 1\], got 2$"),
        (lambda: Rule(name="a", u=1.5), r"^u must lie in \[0, 1\], got 1\.5$"),
        (lambda: Limit(name="a", floor=NAN), r"^floor must lie in \[0, 1\], got nan$"),
        (lambda: Limit(name="a", ceiling=2), r"^ceiling must lie in \[0, 1\], got 2$"),
        (lambda: Limit(name="a", floor=0.6, ceiling=0.4), r"^floor 0\.6 is above ceiling 0\.4$"),
        (lambda: RulePolicy([ALWAYS], min_dwell_s=-1), r"^min_dwell_s must not be negative, got -1$"),
    ],
)
def test_a_setting_out_of_range_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
