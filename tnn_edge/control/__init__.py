"""Policies that turn the dial: observation in, throttle and reason out, the same in simulation and on a device."""

from tnn_edge.control.activity import ActivityPolicy
from tnn_edge.control.conditions import IsUnknown, Within
from tnn_edge.control.constant import ConstantPolicy
from tnn_edge.control.device_profile import (
    REFERENCE,
    DeviceProfile,
    profile_of_network,
    read_profile,
    reference_profile,
    write_profile,
)
from tnn_edge.control.explain import Explanation, explain_policy
from tnn_edge.control.governor import Governed, GovernorSettings, ThermalCap
from tnn_edge.control.lyapunov import LyapunovPolicy
from tnn_edge.control.mpc import MpcPolicy
from tnn_edge.control.named_policies import read_policies
from tnn_edge.control.observation import SIGNALS, Observation, Signal, table_hash
from tnn_edge.control.pacing import PacingPolicy
from tnn_edge.control.policy import Decision, Policy
from tnn_edge.control.policy_file import read_policy
from tnn_edge.control.price import PricePolicy
from tnn_edge.control.reserve import Reserve, read_reserve, write_reserve
from tnn_edge.control.rule_policy import RulePolicy
from tnn_edge.control.rules import Limit, Ramp, Rule
from tnn_edge.control.shield import ReserveShield
from tnn_edge.control.soc_ramp import SocRampPolicy
from tnn_edge.control.thresholds import ThresholdPolicy, ThresholdStep

__all__ = [
    "REFERENCE",
    "SIGNALS",
    "ActivityPolicy",
    "ConstantPolicy",
    "Decision",
    "DeviceProfile",
    "Explanation",
    "Governed",
    "GovernorSettings",
    "IsUnknown",
    "Limit",
    "LyapunovPolicy",
    "MpcPolicy",
    "Observation",
    "PacingPolicy",
    "Policy",
    "PricePolicy",
    "Ramp",
    "Reserve",
    "ReserveShield",
    "Rule",
    "RulePolicy",
    "Signal",
    "SocRampPolicy",
    "ThermalCap",
    "ThresholdPolicy",
    "ThresholdStep",
    "Within",
    "explain_policy",
    "profile_of_network",
    "read_policies",
    "read_policy",
    "read_profile",
    "read_reserve",
    "reference_profile",
    "table_hash",
    "write_profile",
    "write_reserve",
]
