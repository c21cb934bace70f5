"""What can be tuned of each kind of policy, and between which bounds; the rest is the device's and is not tuned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tnn_edge.control import (
    ActivityPolicy,
    ConstantPolicy,
    Governed,
    LyapunovPolicy,
    MpcPolicy,
    PacingPolicy,
    Policy,
    PricePolicy,
    SocRampPolicy,
    ThresholdPolicy,
    ThresholdStep,
)
from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.climate import Climate
from tnn_edge.sim.simulation import Simulation

__all__ = ["KINDS", "PRICED", "Place", "Range", "at_place", "build_policy", "device_settings", "policy_settings"]

_UNKNOWN_SUN_W_M2 = 100.0


@dataclass(frozen=True)
class Range:
    """Attributes: low, high: bounds of a number; is_log: whether its logarithm is what is spread evenly."""

    low: float
    high: float
    is_log: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a policy may know of where it is.

    Attributes:
        latitude_deg: degrees north.
        solar_lead_h: how far true solar time is ahead of the local clock, mean of the year.
        sun_w_m2: global horizontal irradiance, mean of the days to learn from; where there are none, of no place.
    """

    latitude_deg: float
    solar_lead_h: float
    sun_w_m2: float

    @classmethod
    def of_climate(cls, climate: Climate) -> Place:
        """Of a site."""
        return cls(
            latitude_deg=climate.latitude_deg,
            solar_lead_h=climate.longitude_deg / 15.0 - climate.utc_offset_h,
            sun_w_m2=float(climate.ghi_w_m2[climate.days_of("train")].mean())
            if climate.is_trainable
            else _UNKNOWN_SUN_W_M2,
        )

    @classmethod
    def of(cls, simulation: Simulation) -> Place:
        """Of a simulation's site, or of where its own sunlight was measured."""
        if simulation.sunlight is None:
            return cls.of_climate(simulation.site())
        measured = simulation.sunlight
        return cls(
            latitude_deg=measured.latitude_deg,
            solar_lead_h=measured.longitude_deg / 15.0 - measured.utc_offset_h,
            sun_w_m2=_UNKNOWN_SUN_W_M2,
        )


KINDS: Mapping[str, Mapping[str, Range]] = {
    "constant": {"u": Range(0.0, 1.0)},
    "thresholds": {
        "first_soc": Range(0.05, 0.6),
        "gap_soc": Range(0.02, 0.35),
        "hysteresis_soc": Range(0.0, 0.1),
        "first_u": Range(0.1, 0.6),
    },
    "soc_ramp": {"empty_soc": Range(0.02, 0.7), "width_soc": Range(0.05, 0.6)},
    "pacing": {
        "target_soc": Range(0.2, 0.9),
        "horizon_h": Range(3.0, 100.0, is_log=True),
        "harvest_time_constant_h": Range(6.0, 200.0, is_log=True),
    },
    "activity": {
        "detection_workload": Range(0.3, 1.0),
        "time_constant_h": Range(0.1, 12.0, is_log=True),
    },
    "price": {
        "price_at_zero_per_wh": Range(2.0, 100.0, is_log=True),
        "price_slope": Range(0.5, 15.0),
        "target_soc": Range(0.2, 0.95),
        "horizon_h": Range(2.0, 100.0, is_log=True),
        "harvest_time_constant_h": Range(6.0, 200.0, is_log=True),
    },
    "lyapunov": {"v_wh2_per_event": Range(0.05, 60.0, is_log=True), "target_soc": Range(0.3, 1.0)},
    "mpc": {
        "reserve_soc": Range(0.02, 0.4),
        "end_soc": Range(0.1, 0.9),
        "horizon_h": Range(18.0, 96.0, is_log=True),
        "index_memory_sun_h": Range(3.0, 60.0, is_log=True),
    },
}
"""Kinds of policies, as the tables of a policy file are called, with what is searched."""

PRICED = ("price", "lyapunov", "mpc")
"""Kinds that weigh accuracy against power by a device profile."""

_CLASSES: Mapping[str, Any] = {
    "constant": ConstantPolicy,
    "thresholds": ThresholdPolicy,
    "soc_ramp": SocRampPolicy,
    "pacing": PacingPolicy,
    "activity": ActivityPolicy,
    "price": PricePolicy,
    "lyapunov": LyapunovPolicy,
    "mpc": MpcPolicy,
}


def device_settings(kind: str, device: CameraDevice, place: Place) -> dict[str, float]:
    """Settings that follow from device and place, under their keys in a policy file.

    Args:
        kind: of policy.
        device: what the policy runs on.
        place: where.
    """
    battery, converter, panel = device.board.battery, device.board.converter, device.panel
    harvest_w = float(panel.power_w(place.sun_w_m2))
    events = {"base_workload": device.workload.base_share, "full_events_per_h": device.workload.full_events_per_h}
    weighing = {**events, "battery_wh": battery.usable_wh}
    return {
        "pacing": {
            "battery_wh": battery.usable_wh,
            "idle_w": float(converter.input_w(device.profile.idle_w)),
            "compute_w": float(device.profile.power_w[-1] / converter.efficiency),
            "expected_harvest_w": harvest_w,
        },
        "price": {**weighing, "expected_harvest_w": harvest_w, "converter_efficiency": converter.efficiency},
        "lyapunov": weighing,
        "mpc": {
            **weighing,
            "panel_w": panel.rated_w,
            "panel_derating": panel.derating,
            "latitude_deg": place.latitude_deg,
            "solar_lead_h": place.solar_lead_h,
            "storage_efficiency": battery.charge_efficiency * battery.discharge_efficiency,
            "converter_efficiency": converter.efficiency,
        },
    }.get(kind, {})


def policy_settings(kind: str, found: Mapping[str, float]) -> dict[str, Any]:
    """Settings of a policy file from the numbers that were searched."""
    if kind == "thresholds":
        first, gap, slack = found["first_soc"], found["gap_soc"], found["hysteresis_soc"]
        charges = [min(first, 1.0), min(first + gap, 1.0)]
        steps = [
            {"above_soc": charge, "until_soc": max(charge - slack, 0.0), "u": u}
            for charge, u in zip(charges, (found["first_u"], 1.0), strict=True)
        ]
        return {"steps": steps}
    if kind == "soc_ramp":
        return {"empty_soc": found["empty_soc"], "full_soc": min(found["empty_soc"] + found["width_soc"], 1.0)}
    if kind == "mpc":
        return {**found, "end_soc": max(found["end_soc"], found["reserve_soc"])}
    return dict(found)


def build_policy(kind: str, found: Mapping[str, float], device: CameraDevice, place: Place) -> Policy[Any]:
    """The policy of some searched numbers on a device at a place."""
    settings = {**device_settings(kind, device, place), **policy_settings(kind, found)}
    if kind == "thresholds":
        settings["steps"] = [ThresholdStep(**step) for step in settings["steps"]]
    if kind in PRICED:
        settings["profile"] = device.profile
    policy: Policy[Any] = _CLASSES[kind](**settings)
    return policy


def at_place(governed: Governed[Any], device: CameraDevice, place: Place) -> Governed[Any]:
    """A policy as its file would be for another device and place, without a shield: what was tuned stays as it is."""
    policy: Any = governed.policy
    for kind, kind_class in _CLASSES.items():
        if type(policy) is kind_class:
            policy = replace(policy, **device_settings(kind, device, place))
            if kind in PRICED:
                policy = replace(policy, profile=device.profile)
    return Governed(policy, governed.settings)
