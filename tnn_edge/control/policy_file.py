"""A policy as a user writes it: one TOML file, checked strictly, with the line of every fault."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model, model_validator

from tnn_edge.control.activity import ActivityPolicy
from tnn_edge.control.conditions import Condition, IsUnknown, Within
from tnn_edge.control.constant import ConstantPolicy
from tnn_edge.control.governor import Governed, GovernorSettings
from tnn_edge.control.lyapunov import LyapunovPolicy
from tnn_edge.control.mpc import MpcPolicy
from tnn_edge.control.observation import SIGNALS, check_value, table_hash
from tnn_edge.control.pacing import PacingPolicy
from tnn_edge.control.price import PricePolicy
from tnn_edge.control.reserve import read_reserve
from tnn_edge.control.rule_policy import RulePolicy
from tnn_edge.control.rules import Limit, Ramp, Rule, find_faults
from tnn_edge.control.shield import ReserveShield
from tnn_edge.control.soc_ramp import SocRampPolicy
from tnn_edge.control.thresholds import ThresholdPolicy
from tnn_edge.control.weighing_table import policy_with_profile, table_with_profile
from tnn_edge.errors import ConfigError
from tnn_edge.toml_file import Fault, TomlFile
from tnn_edge.toml_lines import Place
from tnn_edge.user_path import missing, under

__all__ = ["read_policy"]

_PLAIN = ("constant", "thresholds", "soc_ramp", "pacing", "activity")
"""Kinds whose table is the policy's settings and nothing else."""

_WEIGHING: dict[str, type[Any]] = {"price": PricePolicy, "lyapunov": LyapunovPolicy, "mpc": MpcPolicy}
"""Kinds that weigh accuracy against power, and whose table names a device profile."""

_KINDS = (*_PLAIN, *_WEIGHING, "rules")
_FORMS = ("below", "above", "between", "equals")
_ROUND = ("hour", "day_of_year")
"""Signals that begin again: an interval of theirs may run over midnight, or over New Year."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ConditionTable(_Table):
    """`{ below = 10, until = 20 }`, `{ above = 0.4, until = 0.3 }`, `{ between = [22, 6] }`, `{ equals = true }`.

    Of the last, the value alone will do: `true`, `false` (for `on_mains`) and `"unknown"`.
    """

    below: float | None = None
    above: float | None = None
    until: float | None = None
    between: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    equals: Literal[True, False, "unknown"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "unknown":
            raise ValueError(f'"{value}" is no condition; the only word is "unknown"')
        if isinstance(value, bool | str):
            return {"equals": value}
        if isinstance(value, int | float):
            raise ValueError(
                f"a number alone is no condition; write {{ below = {value:g} }} or {{ above = {value:g} }}"
            )
        return value

    @model_validator(mode="after")
    def _one_form(self) -> ConditionTable:
        forms = [name for name in _FORMS if getattr(self, name) is not None]
        if len(forms) != 1:
            raise ValueError(f"a condition is one of {', '.join(_FORMS)}; got {' and '.join(forms) or 'none'}")
        if self.until is not None and forms[0] not in ("below", "above"):
            raise ValueError(f"until belongs to below or above, not to {forms[0]}")
        return self


When: type[BaseModel] = create_model(
    "When",
    __base__=_Table,
    **dict.fromkeys(SIGNALS, (ConditionTable | None, None)),  # type: ignore[call-overload]
)


class RampTable(_Table):
    """`{ signal = "soc", points = [[0.2, 0.0], [0.8, 1.0]] }`.

    Attributes:
        signal: name of the signal over which u runs.
        points: pairs of a value of the signal and the u there.
    """

    signal: Literal[tuple(SIGNALS)]  # type: ignore[valid-type]
    points: list[tuple[float, float]]


class RuleTable(_Table):
    """One `[[rules]]`.

    Attributes:
        name: reason code of the decisions that this rule makes.
        u: the throttle, a number in [0, 1] or a ramp { signal = ..., points = [[..., ...], ...] }.
    """

    name: str = Field(min_length=1)
    when: When | None = None  # type: ignore[valid-type]
    u: Annotated[
        Annotated[float, Tag("number")] | Annotated[RampTable, Tag("ramp")],
        Discriminator(lambda value: "ramp" if isinstance(value, dict | RampTable) else "number"),
    ]


class LimitTable(_Table):
    """One `[[limits]]`.

    Attributes:
        name: reason code of the decisions that this limit changes.
    """

    name: str = Field(min_length=1)
    when: When | None = None  # type: ignore[valid-type]
    floor: float = 0.0
    ceiling: float = 1.0
    binds_if_unknown: bool | None = None

    @model_validator(mode="after")
    def _bounds(self) -> LimitTable:
        if not self.model_fields_set & {"floor", "ceiling"}:
            raise ValueError("a limit without floor or ceiling bounds nothing")
        return self


PriceTable = table_with_profile(PricePolicy)
LyapunovTable = table_with_profile(LyapunovPolicy)
MpcTable = table_with_profile(MpcPolicy)


class ShieldTable(_Table):
    """`[shield]`.

    Attributes:
        reserve: file of the charge to keep, which `tnn-edge reserve` writes; relative to the policy file.
    """

    reserve: str = Field(min_length=1)


class PolicyTable(_Table):
    """The whole file.

    Attributes:
        governor: the table [governor] with unknown_u, the declared answer where a signal is unknown.
        shield: the table [shield] with reserve, a file of the charge to keep whatever the policy says.
        observation_hash: SHA-256 of the table of signals that the numbers were found for; none where a person wrote it.
    """

    governor: GovernorSettings
    shield: ShieldTable | None = None
    observation_hash: str | None = None
    constant: ConstantPolicy | None = None
    thresholds: ThresholdPolicy | None = None
    soc_ramp: SocRampPolicy | None = None
    pacing: PacingPolicy | None = None
    activity: ActivityPolicy | None = None
    price: PriceTable | None = None  # type: ignore[valid-type]
    lyapunov: LyapunovTable | None = None  # type: ignore[valid-type]
    mpc: MpcTable | None = None  # type: ignore[valid-type]
    rules: list[RuleTable] | None = None
    limits: list[LimitTable] = []
    min_dwell_s: float = Field(0.0, ge=0.0)

    @model_validator(mode="after")
    def _one_kind(self) -> PolicyTable:
        kinds = [name for name in _KINDS if getattr(self, name) is not None]
        if not kinds:
            raise ValueError(f"there is no policy; write one of {', '.join(_KINDS)}")
        if len(kinds) > 1:
            raise ValueError(f"{kinds[1]} stands beside {kinds[0]}; a policy is one of {', '.join(_KINDS)}")
        for name in ("limits", "min_dwell_s"):
            if kinds != ["rules"] and name in self.model_fields_set:
                raise ValueError(f"{name} belongs to rules, not to {kinds[0]}; the governor bounds every policy")
        return self


def read_policy(path: Path) -> Governed[Any]:
    """Read a policy under its governor.

    Raises:
        ConfigError: the file is missing, is no TOML, or does not hold; with the line, key and a way out of each fault.
    """
    file = TomlFile.read(path)
    table = file.validate(PolicyTable)
    shield = _shield(file, table)
    (kind,) = (name for name in _KINDS if getattr(table, name) is not None)
    if kind == "rules":
        return Governed(_rule_policy(file, table), table.governor, shield)
    settings = getattr(table, kind)
    policy = policy_with_profile(file, kind, _WEIGHING[kind], settings) if kind in _WEIGHING else settings
    return Governed(policy, table.governor, shield)


def _shield(file: TomlFile, table: PolicyTable) -> ReserveShield | None:
    """The shield that a file asks for.

    Raises:
        ConfigError: its reserve cannot be read, or the policy was made for other signals than this version has.
    """
    if table.observation_hash not in {None, table_hash()}:
        stale = "the policy was made for other signals than this version has; tune or train it anew"
        file.fail([Fault(("observation_hash",), stale)])
    if table.shield is None:
        return None
    folder, path = file.path.parent, Path(table.shield.reserve)
    if told := missing(folder, path, "file"):
        file.fail([Fault(("shield", "reserve"), told)])
    try:
        return ReserveShield(read_reserve(under(folder, path)))
    except ConfigError as err:
        file.fail([Fault(("shield", "reserve"), str(err))])
        raise


def _rule_policy(file: TomlFile, table: PolicyTable) -> RulePolicy:
    faults: list[Fault] = []
    rules: list[Rule] = []
    limits: list[Limit] = []
    for i, row in enumerate(table.rules or []):
        when = _conditions(("rules", i), row.when, faults)
        place: Place = ("rules", i, "u") if isinstance(row.u, RampTable) else ("rules", i)
        try:
            u = Ramp(row.u.signal, tuple(row.u.points)) if isinstance(row.u, RampTable) else row.u
            rules.append(Rule(name=row.name, when=when, u=u))
        except ValueError as err:
            faults.append(Fault(place, str(err)))
    for i, bound in enumerate(table.limits):
        when = _conditions(("limits", i), bound.when, faults)
        try:
            settings = bound.model_dump(exclude={"when"})
            limits.append(Limit(when=when, **settings))
        except ValueError as err:
            faults.append(Fault(("limits", i), str(err)))
    file.fail(faults)
    places: dict[int, Place] = {id(rule): ("rules", i) for i, rule in enumerate(rules)}
    places |= {id(limit): ("limits", i) for i, limit in enumerate(limits)}
    file.fail(Fault(places.get(id(culprit), ("rules",)), text) for culprit, text in find_faults(rules, limits))
    return RulePolicy(rules, limits, min_dwell_s=table.min_dwell_s)


def _conditions(place: Place, when: Any, faults: list[Fault]) -> tuple[Condition, ...]:
    """The conditions of one rule; what is wrong with them is added to `faults`."""
    conditions: list[Condition] = []
    for signal in SIGNALS:
        table: ConditionTable | None = None if when is None else getattr(when, signal)
        if table is not None:
            try:
                conditions.append(_condition(signal, table))
            except ValueError as err:
                faults.append(Fault((*place, "when", signal), str(err)))
    return tuple(conditions)


def _condition(signal: str, table: ConditionTable) -> Condition:
    if table.equals == "unknown":
        return IsUnknown(signal=signal)
    if table.equals is not None:
        if signal != "on_mains":
            raise ValueError(f"{signal} is a number ({SIGNALS[signal].unit}); say below, above or between")
        return _within(signal, 0.5, math.inf) if table.equals else _within(signal, -math.inf, 0.5)
    for key in ("below", "above", "until"):
        if (value := getattr(table, key)) is not None:
            check_value(key, signal, value)
    if table.below is not None:
        if table.until is not None and table.until < table.below:
            raise ValueError(
                f"until must not be below {table.below:g}, where the condition begins, got {table.until:g}"
            )
        return _within(signal, -math.inf, table.below, leave_high=table.until)
    if table.above is not None:
        if table.until is not None and table.until > table.above:
            raise ValueError(
                f"until must not be above {table.above:g}, where the condition begins, got {table.until:g}"
            )
        return _within(signal, table.above, math.inf, leave_low=table.until)
    assert table.between is not None
    low, high = table.between
    for value in (low, high):
        check_value("between", signal, value)
    if low == high or (low > high and signal not in _ROUND):
        raise ValueError(
            f"between needs a rising pair (only {' and '.join(_ROUND)} run round), got [{low:g}, {high:g}]"
        )
    return _within(signal, low, high)


def _within(
    signal: str, low: float, high: float, *, leave_low: float | None = None, leave_high: float | None = None
) -> Within:
    return Within(
        signal=signal,
        enter_low=low,
        enter_high=high,
        leave_low=low if leave_low is None else leave_low,
        leave_high=high if leave_high is None else leave_high,
    )
