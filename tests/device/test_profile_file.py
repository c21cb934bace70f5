"""A profile is kept whole beside the plans, found again by what it depends on, and not believed when it is damaged."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.device.profiles import cost
from tnn_edge import SessionSettings
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.errors import PlanError
from tnn_edge.runtime import Engine, PlanSet, install
from tnn_edge.runtime import cost_profile as module
from tnn_edge.runtime.cost_profile import (
    MeterSpec,
    Profile,
    ProfileKey,
    check_can_keep,
    find_profile,
    keep_profile,
)
from tnn_edge.runtime.installing.plan_key import key_digest
from tnn_edge.runtime.machine import describe_machine

SETTINGS = SessionSettings()


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture
def plans(bundle: Bundle, engine: Engine, tmp_path: Path) -> PlanSet:
    """The plans, as if they lay in a cache of their own."""
    return replace(engine.plans, folder=tmp_path / "cache" / "plans" / engine.plans.folder.name)


def made(bundle: Bundle, plans: PlanSet, session_settings: SessionSettings = SETTINGS) -> Profile:
    return Profile(
        key=ProfileKey.of(bundle, plans, "cpu", session_settings),
        name="net",
        machine={"cpu": "some", "features": ["avx2"]},
        measured_at="2025-01-01T00:00:00+00:00",
        rounds=20,
        meter=MeterSpec(name="rail 1", is_modelled=False, scope="board", notes=("lost once",)),
        idle_w=0.1 + 0.2,
        points=tuple(cost(point.u, 1.0 / 3.0, 1e-3) for point in bundle.manifest.operating_points),
    )


def test_what_is_kept_is_found_as_it_was(bundle: Bundle, plans: PlanSet) -> None:
    profile = made(bundle, plans)
    path = keep_profile(profile, plans)
    assert path.parent == plans.folder.parent.parent / "profiles"
    assert find_profile(bundle, plans, "cpu", SETTINGS) == profile
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_later_profile_replaces_the_one_before(bundle: Bundle, plans: PlanSet) -> None:
    first = made(bundle, plans)
    second = first.model_copy(update={"rounds": 21})
    assert keep_profile(first, plans) == keep_profile(second, plans)
    assert find_profile(bundle, plans, "cpu", SETTINGS) == second


def test_nothing_kept_is_nothing_found(bundle: Bundle, plans: PlanSet, caplog: pytest.LogCaptureFixture) -> None:
    assert find_profile(bundle, plans, "cpu", SETTINGS) is None
    assert caplog.messages == []


@pytest.mark.parametrize("other", [SessionSettings(threads=2), SessionSettings(spinning=True)])
def test_other_settings_have_a_profile_of_their_own(bundle: Bundle, plans: PlanSet, other: SessionSettings) -> None:
    keep_profile(made(bundle, plans), plans)
    assert find_profile(bundle, plans, "cpu", other) is None
    keep_profile(made(bundle, plans, other), plans)
    assert find_profile(bundle, plans, "cpu", other) == made(bundle, plans, other)
    assert find_profile(bundle, plans, "cpu", SETTINGS) == made(bundle, plans)


@pytest.mark.parametrize("change", [{"cpu": "another CPU"}, {"cores": 64}])
def test_another_machine_has_a_profile_of_its_own(
    bundle: Bundle, plans: PlanSet, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    keep_profile(made(bundle, plans), plans)
    elsewhere = describe_machine() | change
    monkeypatch.setattr(module, "describe_machine", lambda: elsewhere)
    assert find_profile(bundle, plans, "cpu", SETTINGS) is None


def test_other_plans_have_a_profile_of_their_own(bundle: Bundle, plans: PlanSet) -> None:
    keep_profile(made(bundle, plans), plans)
    newer = replace(plans, folder=plans.folder.with_name("newer"))
    assert find_profile(bundle, newer, "cpu", SETTINGS) is None


def _signed(fields: dict[str, Any]) -> bytes:
    return json.dumps({"sha256": key_digest(fields), "profile": fields}).encode()


def _changed(**change: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda fields: _signed(fields | change)


@pytest.mark.parametrize(
    "damage",
    [
        lambda fields: b"",
        lambda fields: b"[]",
        lambda fields: b"\xff\xfe",
        lambda fields: b"[" * 100_000,
        lambda fields: json.dumps(fields).encode(),
        lambda fields: _signed(fields)[:-10],
        lambda fields: _signed(fields).replace(b'"rounds": 20', b'"rounds": 21'),
        _changed(schema_version=2),
        _changed(unknown_key=1),
        _changed(rounds="20"),
        _changed(points=[]),
        lambda fields: _signed(fields | {"points": fields["points"][1:]}),
        lambda fields: _signed(fields | {"key": fields["key"] | {"cores": 4096}}),
        lambda fields: _signed(fields | {"points": [p | {"energy_mj": 0.0} for p in fields["points"]]}),
        lambda fields: _signed(fields | {"points": [p | {"latency_p95_ms": -1.0} for p in fields["points"]]}),
    ],
)
def test_a_damaged_profile_is_named_and_not_believed(
    bundle: Bundle, plans: PlanSet, caplog: pytest.LogCaptureFixture, damage: Callable[[dict[str, Any]], bytes]
) -> None:
    profile = made(bundle, plans)
    path = keep_profile(profile, plans)
    path.write_bytes(damage(profile.model_dump(mode="json")))
    with caplog.at_level(logging.WARNING):
        assert find_profile(bundle, plans, "cpu", SETTINGS) is None
    assert caplog.messages == [f"the profile {path} is damaged and not used; tnn-edge profile measures it anew"]
    keep_profile(profile, plans)
    assert find_profile(bundle, plans, "cpu", SETTINGS) == profile


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_profile_with_a_changed_byte_is_the_same_or_none(bundle: Bundle, plans: PlanSet, data: st.DataObject) -> None:
    profile = made(bundle, plans)
    path = keep_profile(profile, plans)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    assert find_profile(bundle, plans, "cpu", SETTINGS) in (profile, None)


def test_a_profile_that_cannot_be_read_is_named(
    bundle: Bundle, plans: PlanSet, caplog: pytest.LogCaptureFixture
) -> None:
    path = keep_profile(made(bundle, plans), plans)
    path.unlink()
    path.mkdir()
    with caplog.at_level(logging.WARNING):
        assert find_profile(bundle, plans, "cpu", SETTINGS) is None
    assert caplog.messages == [f"the profile {path} cannot be read ({os.strerror(21)}) and is not used"]


def test_a_place_where_nothing_can_be_kept_is_named_before_and_after(bundle: Bundle, plans: PlanSet) -> None:
    profile = made(bundle, plans)
    in_the_way = plans.folder.parent.parent / "profiles"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("")
    for attempt in (lambda: check_can_keep(plans, profile.key), lambda: keep_profile(profile, plans)):
        with pytest.raises(PlanError, match=rf"^cannot keep a profile in {in_the_way}; set TNN_EDGE_CACHE to another"):
            attempt()


def test_asking_whether_a_profile_could_be_kept_leaves_no_file(bundle: Bundle, plans: PlanSet) -> None:
    check_can_keep(plans, made(bundle, plans).key)
    assert list((plans.folder.parent.parent / "profiles").iterdir()) == []


@pytest.mark.usefixtures("builds_in_this_process")
def test_an_install_leaves_profiles_alone(bundle: Bundle, tmp_path: Path) -> None:
    plans = install(bundle, "cpu", tmp_path)
    profile = made(bundle, plans)
    keep_profile(profile, plans)
    (plans.folder / "plans.json").unlink()
    again = install(bundle, "cpu", tmp_path)
    assert find_profile(bundle, again, "cpu", SETTINGS) == profile
