"""A scenario as a user writes it: what it means, and how its faults are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.device.day_folder import HALF, write_day
from tnn_edge.control import PacingPolicy
from tnn_edge.day import read_scenario
from tnn_edge.errors import ConfigError

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"


def test_a_scenario_means_what_it_says(tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle, time={"start_hour": 6, "period_s": 1800}, weather={"clearness": [0.5, 0.9]})
    scenario = read_scenario(path)
    assert (scenario.n_days, scenario.n_periods, scenario.first_period) == (2, 96, 12)
    assert scenario.weather.clearness == [0.5, 0.9, 0.9]  # the last morning is like the last day's
    assert scenario.images == tmp_path / "images"
    assert list(scenario.policies) == ["half"]
    assert scenario.policy_texts == {"half": HALF}
    assert scenario.text == path.read_text()


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"seed": -1}, "seed", "must be greater than or equal to 0, got -1"),
        ({"seed": "x"}, "seed", 'must be a valid integer, got "x"'),
        ({"start_soc": 50}, "start_soc", "must be less than or equal to 1, got 50"),
        ({"bundel": 1}, "bundel", "unknown key; did you mean bundle?"),
        ({"bundle": "nowhere"}, "bundle", "there is no folder .*nowhere; a relative path begins beside"),
        ({"images": "nowhere"}, "images", "there is no folder .*nowhere; a relative path begins beside"),
        ({"bundle": "x" * 300}, "bundle", r"leads nowhere \(File name too long\); name another folder"),
        ({"images": "day.toml/x"}, "images", r"leads nowhere \(Not a directory\); name another folder"),
        ({"images": "~nobody-of-that-name"}, "images", r"leads nowhere \(Could not determine home directory"),
        ({"time": None}, "time", r"missing: the table \[time\] with period_s, seconds between two decisions"),
        ({"board": None}, "board", r"missing: the table \[board\] with idle_w and compute_w, what the board draws"),
        ({"time": {"period_s": 7200}}, "time.period_s", "must be less than or equal to 3600, got 7200"),
        ({"time": {"period_s": 7}}, "time.period_s", "must divide a day of 86400 s, got 7; say 300"),
        ({"time": {"start_hour": 0.3}}, "time.start_hour", "must be a whole number of periods of 3600 s after .* 0.3"),
        ({"time": {"start_hour": 24}}, "time.start_hour", "must be less than 24, got 24"),
        ({"site": {"latitude_deg": 91}}, "site.latitude_deg", r"must lie in \[-90, 90\], got 91"),
        (
            {"weather": {"clearness": [1.3]}},
            r"weather.clearness\[0\]",
            "must lie above 0 and below 1.2, got 1.3; say 0.7",
        ),
        ({"weather": {"clearness": [0.5, 0]}}, r"weather.clearness\[1\]", "must lie above 0 and below 1.2, got 0; say"),
        (
            {"weather": {"clearness": []}},
            "weather.clearness",
            "must have one number for each day, 1 to 366 of .* got 0",
        ),
        ({"weather": {"clearness": [0.5] * 367}}, "weather.clearness", "for each day, 1 to 366 of them, got 367"),
        ({"weather": {"night_lux": -1}}, "weather.night_lux", "must be greater than or equal to 0, got -1"),
        ({"weather": {"night_lux": 1e12}}, "weather.night_lux", "must be less than or equal to 200000, got 1000000"),
        ({"weather": {"night_lux": None}}, "weather.night_lux", "missing: illuminance without sun"),
        ({"clouds": {"variability": 9}}, "clouds.variability", r"must lie in \[0, 4\], got 9"),
        ({"panel": {"rated_w": -1}}, "panel.rated_w", "must be finite and not negative, got -1"),
        ({"battery": {"usable_wh": 0}}, "battery.usable_wh", "must be a finite number above 0, got 0"),
        ({"battery": {"useable_wh": 1}}, "battery.useable_wh", "unknown key; did you mean usable_wh?"),
        ({"battery": {"reboot": 0}}, "battery", "need 0 <= cut_off < reboot <= 1, got cut_off 0, reboot 0"),
        ({"board": {"idle_w": None}}, "board.idle_w", "missing: power at the board's input with camera on"),
        ({"camera": {"fps": 0}}, "camera.fps", "must be greater than 0, got 0"),
        ({"camera": {"images_per_period": 0}}, "camera.images_per_period", "must be greater than or equal to 1"),
        ({"camera": {"reflectance": 25}}, "camera.reflectance", "must be less than or equal to 1, got 25"),
        ({"sensor": {"bits": 4}}, "sensor.bits", r"must lie in \[8, 16\], got 4"),
        ({"thermal": {"time_constant_s": 0}}, "thermal.time_constant_s", "must be a finite number above 0, got 0"),
        ({"policies": {"": HALF}}, r"policies\[0\].name", "should have at least 1 character"),
        ({"policies": {"best constant u": HALF}}, r"policies\[0\].name", "the name 'best constant u' is taken"),
    ],
)
def test_a_fault_is_told_with_file_line_key_and_a_way_out(
    tiny_bundle: Path, tmp_path: Path, changes: dict[str, Any], key: str, message: str
) -> None:
    path = write_day(tmp_path, tiny_bundle, **changes)
    with pytest.raises(ConfigError, match=rf"^{path}:\d+: {key}: .*{message}") as told:
        read_scenario(path)
    assert "\n" not in str(told.value)
    line = path.read_text().split("\n")[int(str(told.value).split(":")[1]) - 1]
    last = re.split(r"\W", key.rpartition(".")[2])[0]
    assert "missing" in message or last in line


def test_every_policy_needs_a_name_of_its_own_and_a_file(tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle, policies={"a": HALF, "b": HALF})
    path.write_text(path.read_text().replace('"b"', '"a"').replace("policy1.toml", "gone.toml"))
    with pytest.raises(ConfigError) as told:
        read_scenario(path)
    first, second = str(told.value).split("\n")
    assert "policies[1].name: the name 'a' is taken; choose another" in first
    assert f"policies[1].file: there is no file {tmp_path / 'gone.toml'}" in second
    path.write_text(path.read_text().replace("gone.toml", "x" * 300))
    with pytest.raises(
        ConfigError, match=r"policies\[1\]\.file: leads nowhere \(File name too long\); name another file"
    ):
        read_scenario(path)


def test_a_list_of_policies_needs_one(tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle)
    text = re.sub(r"(?m)^\[\[policies\]\]\n.*\n.*\n", "", path.read_text())
    path.write_text("policies = []\n" + text)
    with pytest.raises(ConfigError, match=r"toml:1: policies: must have at least one table \[\[policies\]\] with name"):
        read_scenario(path)


def test_a_fault_in_a_policy_is_told_in_its_own_file(tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle, policies={"half": HALF.replace("unknown_u", "unknown_v")})
    with pytest.raises(ConfigError, match=r"policy0\.toml:4: governor\.unknown_v: unknown key; did you mean unknown_u"):
        read_scenario(path)


def test_the_faults_of_all_files_are_told_at_once(tiny_bundle: Path, tmp_path: Path) -> None:
    policies = {
        "a": HALF.replace("u = 0.5", "u = 5", 1),
        "b": HALF.replace("unknown_u = 0.5", "unknown_u = 6"),
        "c": HALF,
    }
    path = write_day(tmp_path, tiny_bundle, policies=policies, images="nowhere", weather={"clearness": [0.5, 2]})
    path.write_text(path.read_text().replace("policy2.toml", "policy1.toml"))
    with pytest.raises(ConfigError) as told:
        read_scenario(path)
    found = [re.sub(r":\d+: ([\w.\[\]]+): .*", r" \1", row) for row in str(told.value).split("\n")]
    assert found == [
        f"{path} images",
        f"{path} weather.clearness[1]",
        f"{tmp_path}/policy0.toml constant.u",
        f"{tmp_path}/policy1.toml governor.unknown_u",  # once, though two policies name it
    ]


def test_the_demo_s_reflectance_is_that_of_its_photographs() -> None:
    images = [np.asarray(PIL.Image.open(path).convert("RGB")) / 255.0 for path in DEMO.glob("images/*/*.jpg")]
    assert len(images) == 256
    srgb = np.stack(images)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    assert read_scenario(DEMO / "day.toml").reflectance == pytest.approx(linear.mean(), abs=5e-4)


def test_the_demo_compares_policies_made_for_its_device() -> None:
    day, week = read_scenario(DEMO / "day.toml"), read_scenario(DEMO / "cloudy_week.toml")
    assert (day.n_days, week.n_days) == (1, 7)
    for scenario in (day, week):
        assert list(scenario.policies) == ["rules", "pacing"]
        pacing = scenario.policies["pacing"].policy
        assert isinstance(pacing, PacingPolicy)
        assert pacing.battery_wh == scenario.battery.usable_wh
        assert (pacing.idle_w, pacing.compute_w) == (scenario.board.idle_w, scenario.board.compute_w)
    for part in ("battery", "panel", "board", "sensor", "fps", "reflectance", "start_soc"):
        assert getattr(day, part) == getattr(week, part)  # one device, two weathers
