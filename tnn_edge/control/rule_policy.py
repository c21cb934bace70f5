"""Ordered rules over the observation table: the first that holds sets u, limits that hold bound it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tnn_edge.control.conditions import FALSE, TRUE, UNKNOWN, Truth, all_of
from tnn_edge.control.observation import SIGNALS, Observation
from tnn_edge.control.policy import UNKNOWN_REASONS, Decision
from tnn_edge.control.rules import Limit, Ramp, Rule, find_faults

__all__ = ["RulePolicy", "RuleState"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]
T = TypeVar("T", bound=np.generic)

_UNDECIDED = -1
_ROW = {name: i for i, name in enumerate(SIGNALS)}


@dataclass(frozen=True, eq=False, kw_only=True)
class RuleState:
    """What rules remember of n devices.

    Attributes:
        held: for each condition of each rule and limit, in order, whether it held when it was last known.
        rule: index of the rule that set u, -1 before the first, shape [n].
        since_s: when that rule took over, shape [n].
    """

    held: tuple[tuple[Bools, ...], ...]
    rule: Ints
    since_s: Floats


@dataclass(frozen=True, eq=False)
class _Verdict:
    """Attributes: truth: of a rule or limit, shape [n]; lacks: row of the first signal that makes it unknown."""

    truth: Truth
    lacks: Ints


class RulePolicy:
    """The first rule that holds sets u; then floors raise it and ceilings, which win, lower it.

    What cannot be told is not guessed. A rule that is neither true nor false, for want of a signal, cannot be passed
    over, and a limit that is neither may or may not bind: where u hangs on it the decision is NaN, its reason says
    which signal is lacking, and the governor gives its declared answer. Whoever wants another answer puts a rule in
    front with the condition that the signal is unknown, or says of a limit whether it then binds.

    Args:
        rules: in order; the last one holds always.
        limits: in any order.
        min_dwell_s: a rule that took over keeps u for at least so long, whatever becomes of its conditions or those
            of other rules; its ramp goes on, limits bind all the same.

    Raises:
        ValueError: no rule holds always, a name is used twice, a rule can never come into play behind an earlier one,
            or two limits fight: the floor of one is above the ceiling of another, and both can hold at once.
    """

    def __init__(self, rules: Sequence[Rule], limits: Sequence[Limit] = (), *, min_dwell_s: float = 0.0) -> None:
        self.rules = tuple(rules)
        self.limits = tuple(limits)
        self.min_dwell_s = min_dwell_s
        if not min_dwell_s >= 0.0:
            raise ValueError(f"min_dwell_s must not be negative, got {min_dwell_s:g}")
        faults = [message for _, message in find_faults(self.rules, self.limits)]
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def parts(self) -> tuple[Rule | Limit, ...]:
        """Rules, then limits: the order of the reasons and of the state."""
        return (*self.rules, *self.limits)

    @property
    def reasons(self) -> tuple[str, ...]:
        return (*(part.name for part in self.parts), *UNKNOWN_REASONS)

    @property
    def signals(self) -> frozenset[str]:
        ramps = {rule.u.signal for rule in self.rules if isinstance(rule.u, Ramp)}
        return frozenset(ramps | {condition.signal for part in self.parts for condition in part.when})

    def initial_state(self, n: int) -> RuleState:
        held = tuple(tuple(np.zeros(n, np.bool_) for _ in part.when) for part in self.parts)
        return RuleState(held=held, rule=np.full(n, _UNDECIDED, np.intp), since_s=np.full(n, -np.inf))

    def decide(self, observation: Observation, state: RuleState) -> tuple[Decision, RuleState]:
        verdicts, held = self._judge(observation, state)
        n_rules = len(self.rules)
        rule, is_open, after = self._choose(verdicts[:n_rules], observation.time_s, state)
        u, lacks = self._throttle(observation, rule)
        u = np.where(is_open, np.nan, u)
        lacks = np.where(is_open, _pick([verdict.lacks for verdict in verdicts[:n_rules]], rule), lacks)
        u, reason, lacks = self._bound(u, rule, lacks, verdicts[n_rules:])
        reason = np.where(np.isnan(u), len(self.parts) + lacks, reason)
        return Decision(u, reason), replace(after, held=held)

    def _judge(
        self, observation: Observation, state: RuleState
    ) -> tuple[list[_Verdict], tuple[tuple[Bools, ...], ...]]:
        """Every rule and limit, and what their conditions remember."""
        verdicts: list[_Verdict] = []
        held: list[tuple[Bools, ...]] = []
        for part, was in zip(self.parts, state.held, strict=True):
            updates = [c.update(observation[c.signal], w) for c, w in zip(part.when, was, strict=True)]
            lacks = np.zeros(len(observation), np.intp)
            for condition, (truth, _) in reversed(list(zip(part.when, updates, strict=True))):
                lacks = np.where(truth == UNKNOWN, _ROW[condition.signal], lacks)
            verdicts.append(_Verdict(all_of([truth for truth, _ in updates], len(observation)), lacks))
            held.append(tuple(now for _, now in updates))
        return verdicts, tuple(held)

    def _choose(self, verdicts: list[_Verdict], time_s: float, state: RuleState) -> tuple[Ints, Bools, RuleState]:
        """The rule that sets u, where that cannot be told, and which rule dwells since when; shape [n]."""
        truths = np.stack([verdict.truth for verdict in verdicts])  # [n_rules, n]
        first = (truths != FALSE).argmax(axis=0)  # the last rule holds always, so there is one
        age_s = time_s - state.since_s
        # A clock that was set back must not hold a rule until it has caught up.
        dwells = (state.rule != _UNDECIDED) & (age_s >= 0.0) & (age_s < self.min_dwell_s)
        rule = np.where(dwells, state.rule, first)
        is_open = ~dwells & (_pick(list(truths), first) == UNKNOWN)
        rules = np.where(is_open, state.rule, rule)
        since_s = np.where((rules != state.rule) | (age_s < 0.0), time_s, state.since_s)
        return rule, is_open, replace(state, rule=rules, since_s=since_s)

    def _throttle(self, observation: Observation, rule: Ints) -> tuple[Floats, Ints]:
        """U by each device's rule, NaN where the ramp's signal is unknown, and the row of that signal."""
        n = len(observation)
        ramps = [each.u if isinstance(each.u, Ramp) else None for each in self.rules]
        rows = np.array([0 if ramp is None else _ROW[ramp.signal] for ramp in ramps], np.intp)
        throttles = [
            np.full(n, each.u) if ramp is None else ramp.at(observation[ramp.signal])
            for each, ramp in zip(self.rules, ramps, strict=True)
        ]
        return _pick(throttles, rule), rows[rule]

    def _bound(self, u: Floats, reason: Ints, lacks: Ints, verdicts: list[_Verdict]) -> tuple[Floats, Ints, Ints]:
        """Apply the limits. `lowest` and `highest` are what u may be, as unknown limits bind or not."""
        binding = []
        for i, (limit, verdict) in enumerate(zip(self.limits, verdicts, strict=True)):
            is_unknown = verdict.truth == UNKNOWN
            sure = (verdict.truth == TRUE) | (is_unknown & (limit.binds_if_unknown is True))
            may = sure | (is_unknown & (limit.binds_if_unknown is None))
            binding.append((len(self.rules) + i, limit, verdict, sure, may))
        highest = u
        for code, limit, _, sure, may in binding:
            reason = np.where(sure & (u < limit.floor), code, reason)
            u = np.where(sure, np.maximum(u, limit.floor), u)
            highest = np.where(may, np.maximum(highest, limit.floor), highest)
        lowest = u
        for code, limit, _, sure, may in binding:
            reason = np.where(sure & (u > limit.ceiling), code, reason)
            u = np.where(sure, np.minimum(u, limit.ceiling), u)
            highest = np.where(sure, np.minimum(highest, limit.ceiling), highest)
            lowest = np.where(may, np.minimum(lowest, limit.ceiling), lowest)
        is_open = lowest < highest
        for _, limit, verdict, sure, may in reversed(binding):
            matters = (limit.floor > lowest) | (limit.ceiling < highest)
            lacks = np.where(is_open & may & ~sure & matters, verdict.lacks, lacks)
        return np.where(is_open, np.nan, u), reason, lacks


def _pick(rows: Sequence[npt.NDArray[T]], which: Ints) -> npt.NDArray[T]:
    """Of each device the value in the row that it names; shape [n]."""
    picked: npt.NDArray[T] = np.take_along_axis(np.stack(rows), which[None, :], axis=0)[0]
    return picked
