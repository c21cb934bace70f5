"""Rules, limits and conditions: against a plain interpreter of one device, and on cases worked out by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.deciding import Steps, above, answers_of, below, between
from tnn_edge.control import IsUnknown, Limit, Observation, Ramp, Rule, RulePolicy
from tnn_edge.control.conditions import Condition
from tnn_edge.control.rules import find_faults

INF = math.inf
NAN = math.nan

# A plain interpreter -------------------------------------------------------------------------------------------------


@dataclass
class Plain:
    """One device, one signal at a time, no arrays: what rules mean, as slowly as can be."""

    rules: Sequence[Rule]
    limits: Sequence[Limit]
    min_dwell_s: float
    held: dict[int, bool] = field(default_factory=dict)
    rule: Rule | None = None
    since_s: float = -INF

    def truth(self, condition: Condition, x: float) -> bool | None:
        if isinstance(condition, IsUnknown):
            return math.isnan(x)
        if math.isnan(x):
            return None
        low, high = condition.enter_low, condition.enter_high
        if self.held.get(id(condition)):
            low, high = condition.leave_low, condition.leave_high
        holds = low <= x < high if condition.enter_low <= condition.enter_high else x >= low or x < high
        self.held[id(condition)] = holds
        return holds

    def judge(self, when: Sequence[Condition], signals: dict[str, float]) -> bool | None:
        truths = [self.truth(condition, signals[condition.signal]) for condition in when]
        return False if False in truths else None if None in truths else True

    def decide(self, time_s: float, signals: dict[str, float]) -> float | None:
        """U, or None where it cannot be told."""
        verdicts = [self.judge(rule.when, signals) for rule in self.rules]
        binds = [self.judge(limit.when, signals) for limit in self.limits]
        age_s = time_s - self.since_s
        if age_s < 0:
            self.since_s = time_s
        if self.rule is None or not 0 <= age_s < self.min_dwell_s:
            first = next(i for i, verdict in enumerate(verdicts) if verdict is not False)
            if verdicts[first] is None:
                return None
            if self.rule is not self.rules[first]:
                self.rule, self.since_s = self.rules[first], time_s
        assert self.rule is not None
        if isinstance(self.rule.u, Ramp):
            x = signals[self.rule.u.signal]
            if math.isnan(x):
                return None
            xs, us = zip(*self.rule.u.points, strict=True)
            u = float(np.interp(x, xs, us))
        else:
            u = self.rule.u
        return self.bounded(u, binds)

    def bounded(self, u: float, binds: Sequence[bool | None]) -> float | None:
        """Try every way in which the unknown limits may turn out; where they differ, nobody knows."""
        ways = [
            (bind,)
            if bind is not None
            else (True, False)
            if limit.binds_if_unknown is None
            else (limit.binds_if_unknown,)
            for bind, limit in zip(binds, self.limits, strict=True)
        ]
        answers = set()
        for way in itertools.product(*ways):
            bound = [limit for limit, binds_now in zip(self.limits, way, strict=True) if binds_now]
            raised = max([u, *(limit.floor for limit in bound)])
            answers.add(min([raised, *(limit.ceiling for limit in bound)]))
        return answers.pop() if len(answers) == 1 else None


GRID = [0.0, 0.25, 0.5, 0.75, 1.0]
SIGNAL_NAMES = ["soc", "confidence", "hour"]
throttles = st.sampled_from(GRID)


@st.composite
def conditions(draw: st.DrawFn, signal: str) -> Condition:
    a, b = sorted(draw(st.lists(throttles, min_size=2, max_size=2, unique=True)))
    choices: list[Condition] = [
        IsUnknown(signal=signal),
        below(signal, a),
        below(signal, a, until=b),
        above(signal, b),
        above(signal, b, until=a),
        between(signal, a, b),
    ]
    if signal == "hour":
        choices.append(between(signal, b, a))
    return draw(st.sampled_from(choices))


@st.composite
def whens(draw: st.DrawFn) -> tuple[Condition, ...]:
    signals = draw(st.lists(st.sampled_from(SIGNAL_NAMES), min_size=1, max_size=2, unique=True))
    return tuple(draw(conditions(signal)) for signal in signals)


ramps = st.builds(
    lambda signal, low, high: Ramp(signal, ((0.25, low), (0.75, high))),
    st.sampled_from(SIGNAL_NAMES),
    throttles,
    throttles,
)


@st.composite
def policies(draw: st.DrawFn) -> RulePolicy:
    last = Rule(name="last", u=draw(throttles | ramps))
    rules: list[Rule] = []
    for i in range(draw(st.integers(0, 3))):
        rule = Rule(name=f"rule{i}", when=draw(whens()), u=draw(throttles | ramps))
        if not list(find_faults([*rules, rule, last], [])):
            rules.append(rule)
    rules.append(last)
    limits: list[Limit] = []
    for i in range(draw(st.integers(0, 3))):
        floor, ceiling = sorted(draw(st.tuples(throttles, throttles)))
        binds = draw(st.sampled_from([None, None, True, False]))
        limit = Limit(name=f"limit{i}", when=draw(whens()), floor=floor, ceiling=ceiling, binds_if_unknown=binds)
        if not list(find_faults(rules, [*limits, limit])):
            limits.append(limit)
    return RulePolicy(rules, limits, min_dwell_s=draw(st.sampled_from([0.0, 10.0])))


readings = st.sampled_from([*GRID, 0.1, 0.6, 0.9, NAN])
N_DEVICES = 3
histories = st.lists(
    st.tuples(
        st.sampled_from([1.0, 4.0, 10.0, 100.0, -30.0]),  # a clock may be set back
        st.fixed_dictionaries(
            {name: st.lists(readings, min_size=N_DEVICES, max_size=N_DEVICES) for name in SIGNAL_NAMES}
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(policies(), histories)
def test_a_batch_of_devices_equals_each_alone_and_a_plain_interpreter(
    policy: RulePolicy, history: list[tuple[float, dict[str, Any]]]
) -> None:
    plain = [Plain(policy.rules, policy.limits, policy.min_dwell_s) for _ in range(N_DEVICES)]
    batch = policy.initial_state(N_DEVICES)
    alone = [policy.initial_state(1) for _ in range(N_DEVICES)]
    time_s = 1000.0
    for seconds, signals in history:
        time_s += seconds
        decision, batch = policy.decide(Observation.of(time_s=time_s, **signals), batch)
        for i in range(N_DEVICES):
            own: dict[str, Any] = {name: values[i] for name, values in signals.items()}
            single, alone[i] = policy.decide(Observation.of(time_s=time_s, **own), alone[i])
            assert single.u.tobytes() == decision.u[i : i + 1].tobytes()
            assert single.reason[0] == decision.reason[i]
            expected = plain[i].decide(time_s, own)
            reason = policy.reasons[decision.reason[i]]
            if expected is None:
                assert math.isnan(decision.u[i])
                assert math.isnan(own[reason.removeprefix("unknown_")])  # the reason names a signal that is unknown
            else:
                assert decision.u[i] == expected
                assert not reason.startswith("unknown_")


@given(policies(), histories)
def test_deciding_twice_from_one_state_gives_the_same_and_leaves_the_state(
    policy: RulePolicy, history: list[tuple[float, dict[str, Any]]]
) -> None:
    state = policy.initial_state(N_DEVICES)
    time_s = 0.0
    for seconds, signals in history:
        time_s += seconds
        seen = Observation.of(time_s=time_s, **signals)
        (first, after), (second, again) = policy.decide(seen, state), policy.decide(seen, state)
        assert first.u.tobytes() == second.u.tobytes()
        np.testing.assert_array_equal(first.reason, second.reason)
        np.testing.assert_array_equal(after.rule, again.rule)
        np.testing.assert_array_equal(after.since_s, again.since_s)
        state = after


# By hand -------------------------------------------------------------------------------------------------------------


def test_the_first_rule_that_holds_sets_u_and_gives_its_name() -> None:
    policy = RulePolicy(
        [
            Rule(name="low", when=(below("soc", 0.2),), u=0.0),
            Rule(name="dark", when=(below("lux", 10),), u=0.3),
            Rule(name="else", u=1.0),
        ]
    )
    steps = [(0.0, {"soc": 0.1, "lux": 5}), (1.0, {"soc": 0.2, "lux": 5}), (2.0, {"soc": 0.2, "lux": 10})]
    assert answers_of(policy, steps) == [(0.0, "low"), (0.3, "dark"), (1.0, "else")]


def test_hysteresis_holds_until_the_wider_bound_and_remembers_over_an_unknown_moment() -> None:
    policy = RulePolicy([Rule(name="low", when=(below("soc", 0.2, until=0.3),), u=0.0), Rule(name="else", u=1.0)])
    names = [
        reason
        for _, reason in answers_of(
            policy, [(t, {"soc": x}) for t, x in enumerate([0.25, 0.19, 0.29, NAN, 0.29, 0.3, 0.29])]
        )
    ]
    assert names == ["else", "low", "low", "unknown_soc", "low", "else", "else"]


def test_hours_run_over_midnight() -> None:
    policy = RulePolicy([Rule(name="night", when=(between("hour", 22, 6),), u=0.0), Rule(name="day", u=1.0)])
    hours = [21.99, 22, 24, 0, 5.99, 6]
    assert [reason for _, reason in answers_of(policy, [(t, {"hour": h}) for t, h in enumerate(hours)])] == [
        "day", "night", "night", "night", "night", "day",
    ]  # fmt: skip


def test_an_unknown_rule_cannot_be_passed_over_but_a_false_one_can() -> None:
    policy = RulePolicy(
        [
            Rule(name="first", when=(below("soc", 0.2), below("lux", 10)), u=0.0),
            Rule(name="else", u=1.0),
        ]
    )
    assert answers_of(policy, [(0.0, {"soc": 0.1, "lux": None})])[0][1] == "unknown_lux"
    assert answers_of(policy, [(0.0, {"soc": None, "lux": 5})])[0][1] == "unknown_soc"
    assert answers_of(policy, [(0.0, {"soc": 0.9, "lux": None})]) == [(1.0, "else")]  # false, whatever the light


def test_a_rule_for_the_unknown_is_an_answer_to_it() -> None:
    policy = RulePolicy(
        [
            Rule(name="blind", when=(IsUnknown(signal="lux"),), u=0.4),
            Rule(name="dark", when=(below("lux", 10),), u=0.1),
            Rule(name="else", u=1.0),
        ]
    )
    assert answers_of(policy, [(0.0, {}), (1.0, {"lux": 5}), (2.0, {"lux": 50})]) == [
        (0.4, "blind"),
        (0.1, "dark"),
        (1.0, "else"),
    ]


def test_an_unknown_limit_matters_only_where_it_would_change_u() -> None:
    warm = Limit(name="warm", when=(above("temperature_c", 70),), ceiling=0.5)
    policy = RulePolicy([Rule(name="ramp", u=Ramp("soc", ((0.0, 0.0), (1.0, 1.0))))], [warm])
    (low, reason), (high, lacking) = answers_of(policy, [(0.0, {"soc": 0.5}), (1.0, {"soc": 0.6})])
    assert (low, reason) == (0.5, "ramp")
    assert math.isnan(high)
    assert lacking == "unknown_temperature_c"


def test_of_two_unknown_limits_the_reason_names_the_one_that_matters() -> None:
    limits = [
        Limit(name="night", when=(between("hour", 22, 6),), ceiling=0.9),
        Limit(name="warm", when=(above("temperature_c", 70),), ceiling=0.5),
    ]
    ramp = Rule(name="ramp", u=Ramp("soc", ((0.0, 0.0), (1.0, 1.0))))
    policy = RulePolicy([ramp], limits)
    reasons = [
        reason for _, reason in answers_of(policy, [(0.0, {"soc": 0.8}), (1.0, {"soc": 0.8, "temperature_c": 20})])
    ]
    assert reasons == ["unknown_temperature_c", "ramp"]


@pytest.mark.parametrize(("binds", "answer"), [(True, (0.5, "warm")), (False, (1.0, "full"))])
def test_a_limit_may_say_whether_it_binds_where_it_is_unknown(binds: bool, answer: tuple[float, str]) -> None:
    warm = Limit(name="warm", when=(above("temperature_c", 70),), ceiling=0.5, binds_if_unknown=binds)
    assert answers_of(RulePolicy([Rule(name="full", u=1.0)], [warm]), [(0.0, {})]) == [answer]


def test_floors_raise_ceilings_lower_and_the_last_to_change_u_gives_its_name() -> None:
    limits = [
        Limit(name="gate", when=(between("hour", 7, 9),), floor=0.4),
        Limit(name="warm", when=(above("temperature_c", 70),), ceiling=0.5),
    ]
    policy = RulePolicy([Rule(name="soc", u=Ramp("soc", ((0.0, 0.0), (1.0, 1.0))))], limits)
    steps = [{"soc": 0.3, "hour": 8}, {"soc": 0.45, "hour": 8}, {"soc": 0.9, "hour": 8}, {"soc": 0.3, "hour": 10}]
    answers = answers_of(policy, [(t, {"temperature_c": 80, **signals}) for t, signals in enumerate(steps)])
    assert answers == [(0.4, "gate"), (0.45, "soc"), (0.5, "warm"), (0.3, "soc")]


@pytest.mark.parametrize("step_s", [0.5, 1.0, 5.0])
def test_dwell_is_in_seconds_not_in_steps(step_s: float) -> None:
    policy = RulePolicy(
        [Rule(name="dark", when=(below("lux", 10),), u=0.0), Rule(name="else", u=1.0)], min_dwell_s=20.0
    )
    times = np.arange(0.0, 60.0 + step_s, step_s)
    lux = np.where((times >= 5.0) & (times < 15.0), 1.0, 100.0)  # ten seconds of dark
    answers = answers_of(policy, [(t, {"lux": x}) for t, x in zip(times, lux, strict=True)])
    names = [reason for _, reason in answers]
    changes = [times[i] for i in range(1, len(times)) if names[i] != names[i - 1]]
    # From the start the first rule dwells to 20 s, when it is light again: it never gets dark.
    assert changes == []
    lux = np.where((times >= 30.0) & (times < 35.0), 1.0, 100.0)
    names = [reason for _, reason in answers_of(policy, [(t, {"lux": x}) for t, x in zip(times, lux, strict=True)])]
    changes = [times[i] for i in range(1, len(times)) if names[i] != names[i - 1]]
    assert changes == [30.0, 50.0]


def test_a_rule_that_dwells_needs_no_signal_of_another_but_its_ramp_needs_its_own() -> None:
    ramp = Ramp("soc", ((0.0, 0.0), (1.0, 1.0)))
    policy = RulePolicy(
        [Rule(name="dark", when=(below("lux", 10),), u=ramp), Rule(name="else", u=1.0)], min_dwell_s=20.0
    )
    steps: Steps = [(0.0, {"lux": 1, "soc": 0.5}), (10.0, {"soc": 0.25}), (15.0, {"lux": 1}), (20.0, {"soc": 0.25})]
    answers = answers_of(policy, steps)
    assert [reason for _, reason in answers] == ["dark", "dark", "unknown_soc", "unknown_lux"]
    assert [u for u, _ in answers[:2]] == [0.5, 0.25]


def test_an_unknown_moment_does_not_restart_the_dwell() -> None:
    policy = RulePolicy(
        [Rule(name="dark", when=(below("lux", 10),), u=0.0), Rule(name="else", u=1.0)], min_dwell_s=20.0
    )
    steps: Steps = [(0.0, {"lux": 1}), (25.0, {"lux": None}), (26.0, {"lux": 1}), (27.0, {"lux": 100})]
    assert [reason for _, reason in answers_of(policy, steps)] == ["dark", "unknown_lux", "dark", "else"]


def test_a_clock_that_is_set_back_holds_no_rule_until_it_has_caught_up() -> None:
    policy = RulePolicy(
        [Rule(name="dark", when=(below("lux", 10),), u=0.0), Rule(name="else", u=1.0)], min_dwell_s=20.0
    )
    steps = [(1000.0, {"lux": 1}), (10.0, {"lux": 100}), (20.0, {"lux": 1}), (30.0, {"lux": 1})]
    assert [reason for _, reason in answers_of(policy, steps)] == ["dark", "else", "else", "dark"]


def test_a_clock_that_jumps_ahead_ends_the_dwell() -> None:
    policy = RulePolicy(
        [Rule(name="dark", when=(below("lux", 10),), u=0.0), Rule(name="else", u=1.0)], min_dwell_s=20.0
    )
    assert [reason for _, reason in answers_of(policy, [(0.0, {"lux": 1}), (1e9, {"lux": 100})])] == ["dark", "else"]


def test_a_policy_names_the_signals_it_reads() -> None:
    policy = RulePolicy(
        [
            Rule(name="a", when=(below("soc", 0.2), IsUnknown(signal="lux")), u=Ramp("hour", ((0, 0), (24, 1)))),
            Rule(name="b", u=1.0),
        ],
        [Limit(name="c", when=(above("temperature_c", 70),), ceiling=0.5)],
    )
    assert policy.signals == {"soc", "lux", "hour", "temperature_c"}
