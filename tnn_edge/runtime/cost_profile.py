"""The profile: what every operating point costs on this machine, measured once and kept beside the plans."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from tnn_edge.bundle import Bundle
from tnn_edge.bundle.fields import Exactly1, Positive, Share, Strict, Text
from tnn_edge.errors import PlanError, TnnEdgeError
from tnn_edge.runtime.installing.plan_key import key_digest
from tnn_edge.runtime.installing.plans import PlanSet
from tnn_edge.runtime.machine import describe_machine
from tnn_edge.runtime.providers import Device, SessionSettings
from tnn_edge.whole_file import check_writable, make_folder, write_whole

__all__ = ["MeterSpec", "PointCost", "Profile", "ProfileKey", "check_can_keep", "find_profile", "keep_profile"]

_log = logging.getLogger(__name__)

_VERSION: Final = 1
_KIND = "profile"
_WAY_OUT = "set TNN_EDGE_CACHE to another folder"

Count = Annotated[int, Field(strict=True, ge=1)]


class ProfileKey(Strict):
    """What a profile depends on: with any of it changed, it is another one's.

    Attributes:
        bundle: SHA-256 of the bundle's manifest.
        plans: the plans' folder, named for everything that they depend on: versions, device, vector extensions.
        device: that runs the network.
        cpu: model.
        cores: that this process may use.
        settings: of the sessions.
    """

    bundle: str = Field(pattern=r"^[0-9a-f]{64}$")
    plans: Text
    device: Text
    cpu: str
    cores: Count
    settings: dict[str, bool | int | float | str | None]

    @classmethod
    def of(cls, bundle: Bundle, plans: PlanSet, device: Device, settings: SessionSettings) -> ProfileKey:
        """The key of what would be measured now."""
        machine = describe_machine()
        return cls(
            bundle=bundle.digest,
            plans=plans.folder.name,
            device=device,
            cpu=str(machine["cpu"]),
            cores=int(str(machine["cores"])),
            settings=asdict(settings),
        )


class MeterSpec(Strict):
    """What the energy was measured by.

    Attributes:
        name: reader and rail.
        is_modelled: the energy is worked out from what was computed; nothing measured it.
        scope: what is inside: the board, the CPU package, the battery.
        notes: what it could not measure, and why.
    """

    name: Text
    is_modelled: bool
    scope: Text
    notes: tuple[str, ...] = ()


class PointCost(Strict):
    """What one inference at an operating point costs.

    Attributes:
        u: the operating point's.
        latency_p50_ms: wall time in the engine, copying the input included, right after another point ran.
        latency_p95_ms: 95th percentile of the same.
        latency_p99_ms: 99th percentile; None where too few were timed.
        cpu_ms: CPU time of all threads of the process, inferences back to back.
        energy_mj: all that the meter saw, inferences back to back, with what the machine takes at rest; None unknown.
        energy_above_idle_mj: the same without what the machine takes at rest; None where either is unknown, or where
            the difference drowns in noise.
    """

    u: Share
    latency_p50_ms: Positive
    latency_p95_ms: Positive
    latency_p99_ms: Positive | None
    cpu_ms: float = Field(ge=0.0)
    energy_mj: Positive | None
    energy_above_idle_mj: Positive | None


class Profile(Strict):
    """What every operating point costs on this machine.

    Attributes:
        key: what it depends on.
        name: of the bundle.
        machine: as `tnn_edge.runtime.measuring.timing.conditions` says.
        measured_at: ISO 8601, UTC.
        rounds: inferences timed at each point.
        meter: what the energy is by; None: no energy is known.
        idle_w: power at rest by the same meter; None where unknown or modelled.
        points: u rising, as in the bundle.
    """

    schema_version: Exactly1 = _VERSION
    key: ProfileKey
    name: Text
    machine: dict[str, Any]
    measured_at: Text
    rounds: Count
    meter: MeterSpec | None
    idle_w: Positive | None
    points: tuple[PointCost, ...] = Field(min_length=1)


def _path(plans: PlanSet, key: ProfileKey) -> Path:
    digest = hashlib.sha256(key.model_dump_json().encode()).hexdigest()[:16]
    return plans.folder.parent.with_name("profiles") / f"{plans.folder.name}-{digest}.json"


def check_can_keep(plans: PlanSet, key: ProfileKey) -> None:
    """Find out before a long measurement whether its profile could be kept.

    Raises:
        PlanError: it could not.
    """
    path = _path(plans, key)
    try:
        make_folder(path.parent)
        check_writable(path, _KIND)
    except TnnEdgeError as err:
        raise PlanError(f"cannot keep a profile in {path.parent}; {_WAY_OUT}") from err


def keep_profile(profile: Profile, plans: PlanSet) -> Path:
    """Write a profile to where `find_profile` finds it; one that is there is replaced in one step.

    Raises:
        PlanError: it could not be written.
    """
    path = _path(plans, profile.key)
    values = profile.model_dump(mode="json")
    text = json.dumps({"sha256": key_digest(values), "profile": values}, indent=1) + "\n"
    try:
        make_folder(path.parent)
        write_whole(path, text.encode(), _KIND)
    except TnnEdgeError as err:
        raise PlanError(f"cannot keep a profile in {path.parent}; {_WAY_OUT}") from err
    return path


def find_profile(bundle: Bundle, plans: PlanSet, device: Device, settings: SessionSettings) -> Profile | None:
    """The profile that was measured here with these settings; one that is damaged is logged and not believed.

    Args:
        bundle: an opened bundle.
        plans: its installed plans.
        device: that runs them.
        settings: of the sessions.
    """
    key = ProfileKey.of(bundle, plans, device, settings)
    path = _path(plans, key)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as err:
        _log.warning("the profile %s cannot be read (%s) and is not used", path, err.strerror)
        return None
    profile = _read(data)
    dial = [point.u for point in bundle.manifest.operating_points]
    if profile is None or profile.key != key or [point.u for point in profile.points] != dial:
        _log.warning("the profile %s is damaged and not used; tnn-edge profile measures it anew", path)
        return None
    return profile


def _read(data: bytes) -> Profile | None:
    try:
        fields = json.loads(data)
        if fields["sha256"] != key_digest(fields["profile"]):
            return None
        return Profile.model_validate_json(json.dumps(fields["profile"]), strict=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
