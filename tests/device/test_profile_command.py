"""`tnn-edge profile`: the table, JSON, what is kept, and the picture."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

import tnn_edge.device
from tests.device.profiles import cost, point, profile
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.cli import profiling
from tnn_edge.cli.program import program
from tnn_edge.control import read_profile
from tnn_edge.device import ModelledMeter
from tnn_edge.errors import BundleError
from tnn_edge.runtime import Engine
from tnn_edge.runtime.cost_profile import Profile, find_profile
from tnn_edge.runtime.measuring.profile_plot import draw_profile_png

Command = Callable[..., tuple[int, str, str]]
QUICK = ["--device", "cpu", "--rounds", "20", "--seconds", "0.01"]


@pytest.fixture
def profile_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Engine
) -> Command:
    """Runs ``tnn-edge profile ARGS`` on a machine without power monitors, in a cache with the plans alone."""
    shutil.copytree(engine.plans.folder.parent, tmp_path / "cache" / "plans")
    monkeypatch.setenv("TNN_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tnn_edge.device, "best_meter", lambda device: (ModelledMeter(), ("no rails", "no battery")))

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["tnn-edge profile", *args])
        with pytest.raises(SystemExit) as ended:
            program(profiling.profile)
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def kept(bundle: Bundle) -> Profile | None:
    with tnn_edge.load(bundle.path, device="cpu") as loaded:
        return find_profile(loaded.bundle, loaded.plans, loaded.device, loaded.settings)


def test_the_table_says_that_the_energy_is_modelled_and_why(
    profile_command: Command, tiny_bundle: Path, engine: Engine
) -> None:
    code, out, err = profile_command(str(tiny_bundle), *QUICK)
    assert (code, err) == (0, "")
    title, *_ = out.splitlines()
    assert title.endswith("1 thread, spinning off, cpu, 20 rounds, energy modelled")
    assert "mJ (modelled)" in out
    assert "Energy: modelled, not measured; model (0.65 W a busy core" in out
    assert out.endswith("No better meter: no rails\nNo better meter: no battery\n")
    found = kept(engine.bundle)
    assert found is not None
    for row, p in zip(found.points, engine.points, strict=True):
        assert f"{row.u:.4f} │   {p.accuracy:.4f} │" in out
        assert f"│  {row.latency_p50_ms:.3f} │" in out


def test_the_json_is_the_profile_that_is_kept_and_kept_shows_it_again(
    profile_command: Command, tiny_bundle: Path, engine: Engine
) -> None:
    code, out, err = profile_command(str(tiny_bundle), *QUICK, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["meter"]["is_modelled"] is True
    found = kept(engine.bundle)
    assert found is not None and json.loads(out) == found.model_dump(mode="json")
    assert profile_command(str(tiny_bundle), "--device", "cpu", "--kept", "--json") == (0, out, "")


def test_nothing_kept_is_one_line_that_says_what_to_do(
    profile_command: Command, tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    says = "no profile was measured on this machine with these settings; leave --kept out to measure one"
    assert profile_command(str(tiny_bundle), "--device", "cpu", "--kept") == (1, "", f"error: {says}\n")
    assert profile_command(str(tiny_bundle), *QUICK)[0] == 0
    assert profile_command(str(tiny_bundle), "--device", "cpu", "--kept", "--threads", "2")[0] == 1
    with caplog.at_level(logging.WARNING):
        assert profile_command(str(tiny_bundle), "--device", "cpu", "--kept")[0] == 0
    assert caplog.messages == []


def test_a_picture_is_drawn_and_named(profile_command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    png = tmp_path / "profile.png"
    code, out, err = profile_command(str(tiny_bundle), *QUICK, "--png", str(png))
    assert (code, err) == (0, "")
    assert out.endswith(f"drawn: {png}\n")
    with PIL.Image.open(png) as image:
        assert (image.format, image.size) == ("PNG", (1100, 480))


@pytest.mark.usefixtures("builds_in_this_process")
def test_a_bundle_without_accuracies_has_no_picture_and_measures_nothing(
    profile_command: Command, bundle_copy: Path, tmp_path: Path
) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    for each in manifest["operating_points"]:
        each["accuracy"] = None
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    command = [str(bundle_copy), "--device", "cpu", "--rounds", "1000000", "--png", str(tmp_path / "a.png")]
    code, out, err = profile_command(*command)
    assert (code, out) == (1, "")
    assert err.startswith("error: the bundle holds no accuracies to draw; export it again with held-out images: ")
    code, out, _ = profile_command(str(bundle_copy), *QUICK)
    assert code == 0
    assert "│ 0.0000 │        - │" in out


def test_what_cannot_be_kept_is_told_before_anything_is_measured(
    profile_command: Command, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "profiles").write_text("")
    code, out, err = profile_command(str(tiny_bundle), "--device", "cpu", "--rounds", "1000000")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: cannot keep a profile in {tmp_path}/cache/profiles; set TNN_EDGE_CACHE to another")


@pytest.mark.parametrize(
    "other",
    [["--kept"], ["--png", "a.png"], ["--rounds", "20"], ["--seconds", "1"], ["--threads", "2"], ["--spinning"]],
)
def test_the_table_of_settings_goes_alone(profile_command: Command, tiny_bundle: Path, other: list[str]) -> None:
    code, out, err = profile_command(str(tiny_bundle), "--settings", *other)
    assert (code, out) == (2, "")
    assert f"Invalid value for --settings: it goes without {other[0]}" in err


@pytest.mark.parametrize("other", [["--rounds", "20"], ["--seconds", "1"]])
def test_what_is_kept_is_shown_as_it_was_measured(
    profile_command: Command, tiny_bundle: Path, other: list[str]
) -> None:
    code, out, err = profile_command(str(tiny_bundle), "--kept", *other)
    assert (code, out) == (2, "")
    assert f"Invalid value for --kept: it goes without {other[0]}" in err


def test_a_pace_is_for_the_table_of_settings(profile_command: Command, tiny_bundle: Path) -> None:
    code, out, err = profile_command(str(tiny_bundle), "--fps", "10")
    assert (code, out) == (2, "")
    assert "Invalid value for --fps: it is for --settings or --toml; add one" in err


def test_power_at_rest_is_for_the_profile_file(profile_command: Command, tiny_bundle: Path) -> None:
    code, out, err = profile_command(str(tiny_bundle), "--idle-w", "2")
    assert (code, out) == (2, "")
    assert "Invalid value for --idle-w: it is for --toml; add that, or leave it out" in err


def test_a_simulation_reads_what_was_written(profile_command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    toml = tmp_path / "net.toml"
    code, out, err = profile_command(str(tiny_bundle), *QUICK, "--toml", str(toml), "--idle-w", "2.5", "--fps", "12")
    assert (code, err) == (0, "")
    assert f"written: {toml}" in out
    written, measured = read_profile(toml), kept(open_bundle(tiny_bundle))
    light = open_bundle(tiny_bundle).manifest.light
    assert measured is not None
    assert light is not None
    assert (written.idle_w, written.is_modelled) == (2.5, True)
    assert written.u.tolist() == [cost.u for cost in measured.points]
    energy_mj = np.array([cost.energy_mj for cost in measured.points], np.float64)
    np.testing.assert_allclose(written.power_w, np.maximum.accumulate(12.0 * energy_mj / 1000.0), rtol=1e-5)
    np.testing.assert_allclose(written.accuracy, light.accuracy, rtol=1e-5)
    np.testing.assert_allclose(written.confidence, light.confidence, rtol=1e-5)


def test_without_power_at_rest_nothing_is_written_and_the_measurement_is_kept(
    profile_command: Command, tiny_bundle: Path, tmp_path: Path
) -> None:
    code, out, err = profile_command(str(tiny_bundle), *QUICK, "--toml", str(tmp_path / "net.toml"))
    assert code == 1
    assert "nothing here measures power at rest: give --idle-w, what the board draws with the camera on" in err
    assert "p95 ms" in out
    assert kept(open_bundle(tiny_bundle)) is not None
    assert not (tmp_path / "net.toml").exists()


def drawn(measured: Profile) -> npt.NDArray[np.uint8]:
    points = [point(0.0, 0.2), point(0.5, 0.9)]
    with PIL.Image.open(io.BytesIO(draw_profile_png(measured, points))) as image:
        return np.asarray(image.convert("RGB"))


def share_of(pixels: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels.astype(int) - colour).max(axis=-1) <= 2).sum())


def test_the_picture_has_a_curve_of_energy_where_energy_is_known_alone() -> None:
    green, blue = (44, 160, 44), (31, 119, 180)
    both = drawn(profile([cost(0.0, 1.0, 1.0), cost(0.5, 2.0, 3.0)]))
    assert share_of(both[:, :550], green) > 100 and share_of(both[:, :550], blue) == 0
    assert share_of(both[:, 550:], blue) > 100 and share_of(both[:, 550:], green) == 0
    one = drawn(profile([cost(0.0, 1.0, 1.0), cost(0.5, 2.0, None)]))
    assert share_of(one, green) == 0 and share_of(one, blue) > 100


def test_a_modelled_energy_is_called_so_in_the_picture() -> None:
    costs = [cost(0.0, 1.0, 1.0), cost(0.5, 2.0, 3.0)]
    measured, modelled = (drawn(profile(costs, is_modelled=flag)) for flag in (False, True))
    changed = np.nonzero((measured != modelled).any(axis=-1))
    assert len(changed[0]) > 0
    assert changed[0].min() > 400 and changed[1].max() < 560  # below the left panel


def test_a_picture_without_accuracies_is_refused() -> None:
    with pytest.raises(BundleError, match=r"^the bundle holds no accuracies to draw; export it again"):
        draw_profile_png(profile([cost(0.0, 1.0), cost(0.5, 2.0)]), [point(0.0, 0.2), point(0.5)])
