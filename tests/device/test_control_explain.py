"""What a policy answers over charge and light: the grid, the picture, and the commands that show them."""

from __future__ import annotations

import io
import json
import math
import string
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from tests.device.conftest import Command
from tnn_edge.control import (
    ConstantPolicy,
    Explanation,
    Governed,
    GovernorSettings,
    Observation,
    Ramp,
    Rule,
    RulePolicy,
    Within,
    explain_policy,
    read_policy,
)
from tnn_edge.errors import InputError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "policies"
POLE = EXAMPLES / "pole_camera.toml"
ALL = sorted(EXAMPLES.glob("*.toml"))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.toml"
    path.write_text("[governor]\nunknown_u = 2\n[constnat]\nu = 1\n")
    return path


# The grid ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_cell_is_what_a_device_of_its_own_would_do(path: Path) -> None:
    policy = read_policy(path)
    soc, lux = [0.0, 0.1, 0.3, 0.85], [0.5, 20.0, 5000.0]
    shown = explain_policy(policy, soc=soc, lux=lux, held={"hour": 2.0, "temperature_c": 90.0, "confidence": math.nan})
    for i, each_soc in enumerate(soc):
        for j, each_lux in enumerate(lux):
            seen = Observation.of(
                time_s=0.0, soc=each_soc, lux=each_lux, hour=2.0, temperature_c=90.0, confidence=None, on_mains=0.0,
                power_in_w=0.0, day_of_year=172.0, workload=1.0, last_u=0.5,
            )  # fmt: skip
            decision, _ = policy.decide(seen, policy.initial_state(1))
            assert shown.u[i, j] == decision.u[0]
            assert shown.reason[i, j] == decision.reason[0]


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"huor": 2.0}, r"^huor cannot be held; there are on_mains, .*, and soc and lux are the axes$"),
        ({"lux": 2.0}, r"^lux cannot be held; "),
        (
            {"confidence": 80.0},
            r"^confidence must lie in \[0, 1\] \(confidence in share\), got 80; for 80 % write 0\.8$",
        ),
    ],
)
def test_what_cannot_be_held_is_refused(held: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        explain_policy(ConstantPolicy(0.5), soc=[0.5], lux=[1.0], held=held)


def test_letters_are_given_in_the_order_of_the_rules_to_those_that_are_there() -> None:
    reason = np.array([[7, 2], [2, 30]])
    shown = Explanation(
        soc=np.zeros(2), lux=np.zeros(2), u=np.zeros((2, 2)), reason=reason, reasons=("x",) * 31, held={}
    )  # fmt: skip
    assert shown.letters() == {2: "a", 7: "b", 30: "c"}
    many = Explanation(
        soc=np.zeros(1), lux=np.zeros(54), u=np.zeros((1, 54)), reason=np.arange(54)[None], reasons=("x",) * 54, held={}
    )
    assert list(many.letters().values()) == [
        *string.ascii_lowercase,
        *(2 * x for x in string.ascii_lowercase),
        "aaa",
        "bbb",
    ]


# The picture ---------------------------------------------------------------------------------------------------------

UNKNOWN_0 = GovernorSettings(unknown_u=0.0)


def half(name: str, *, soc_below: float) -> Rule:
    low = Within(signal="soc", enter_low=-math.inf, enter_high=soc_below, leave_low=-math.inf, leave_high=soc_below)
    return Rule(name=name, when=(low,), u=0.0)


def draw(rules: list[Rule]) -> npt.NDArray[np.uint8]:
    from tnn_edge.control.explain_plot import FINE_LUX, FINE_SOC, draw_png

    shown = explain_policy(Governed(RulePolicy(rules), UNKNOWN_0), soc=FINE_SOC, lux=FINE_LUX)
    with PIL.Image.open(io.BytesIO(draw_png(shown, title="two halves"))) as image:
        return np.asarray(image.convert("RGB"))


def where(pixels: npt.NDArray[np.uint8], u: float) -> npt.NDArray[np.bool_]:
    """Where the picture has the colour of a throttle."""
    import matplotlib as mpl

    colour = np.round(255 * np.array(mpl.colormaps["viridis"](u)[:3]))
    close: npt.NDArray[np.bool_] = (np.abs(pixels.astype(float) - colour) <= 1).all(axis=-1)
    return close


def test_the_picture_shows_u_as_colour_over_charge_and_light() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pixels = draw([half("lower", soc_below=0.25), Rule(name="upper", u=1.0)])
    none, full = where(pixels, 0.0), where(pixels, 1.0)
    assert none.sum() + full.sum() > 0.5 * none.size
    assert none.sum() / full.sum() == pytest.approx(0.25 / 0.75, rel=0.05)
    assert np.nonzero(none)[0].mean() > np.nonzero(full)[0].mean()  # low charge is at the bottom
    ramp = draw([Rule(name="ramp", u=Ramp("lux", ((0, 0.0), (200_000, 1.0))))])
    assert np.nonzero(where(ramp, 0.0))[1].mean() < np.nonzero(where(ramp, 0.75))[1].mean()  # darkness is on the left


def test_every_piece_of_an_area_gets_its_label_in_its_middle() -> None:
    from tnn_edge.control.explain_plot import _innermost, _pieces

    area = np.zeros((20, 30), np.bool_)
    area[1:10, 2:13] = True  # 9 x 11, its middle at (5, 7)
    area[12:19, 2:28] = True  # another
    area[10, 13] = True  # touches the first at a corner alone
    pieces = list(_pieces(area))
    assert [int(piece.sum()) for piece in pieces] == [9 * 11, 1, 7 * 26]
    np.testing.assert_array_equal(np.logical_or.reduce(pieces), area)
    assert _innermost(pieces[0]) == (5, 7)
    assert _innermost(pieces[1]) == (10, 13)
    assert _innermost(pieces[2])[0] == 15


def test_a_name_is_drawn_as_it_is_written() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    draw([half("_a$\\b{$ _", soc_below=0.5), Rule(name="$^", u=1.0)])  # half a formula would not be drawn


# The commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_example_is_right(tnn_edge_command: Command, path: Path) -> None:
    code, out, err = tnn_edge_command("policy", "check", str(path))
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == f"{path}: right"
    assert second.startswith("reads ")
    assert second.endswith(f"; where it lacks one it needs, u = {read_policy(path).settings.unknown_u:g}")


@pytest.mark.parametrize("command", ["check", "explain"])
def test_each_fault_of_a_file_is_a_line_on_stderr(tnn_edge_command: Command, broken: Path, command: str) -> None:
    code, out, err = tnn_edge_command("policy", command, str(broken))
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"error: {broken}:2: governor.unknown_u: unknown_u must lie in [0, 1], got 2",
        f"error: {broken}:3: constnat: unknown key; did you mean constant?",
    ]


def test_explain_prints_a_grid_with_the_rule_of_every_cell(tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("policy", "explain", str(POLE), "--set", "hour=2", "--set", "confidence=unknown")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].strip() == f"{POLE}: throttle u, and what sets it"
    assert lines[2].replace("┃", " ").split() == [
        "SoC",
        "\\",
        "lux",
        "0.1",
        "1",
        "10",
        "100",
        "1000",
        "10000",
        "100000",
    ]
    rows = [line.replace("│", " ").split() for line in lines if "%" in line]
    assert [row[0] for row in rows] == [f"{percent}%" for percent in range(100, -10, -10)]
    by_charge = {row[0]: list(zip(row[1::2], row[2::2], strict=True)) for row in rows}
    assert by_charge["10%"] == [("0.00", "a")] * 7
    assert by_charge["50%"] == [("0.25", "b"), *[(f"{0.05 + 0.35 * 0.3 / 0.6:.2f}", "c")] * 6]
    assert by_charge["90%"] == [("0.25", "b"), *[("0.50", "d")] * 6]
    assert [line.split() for line in lines[-5:-1]] == [
        ["a", "reserve"], ["b", "dark"], ["c", "night"], ["d", "no_answer_yet"],
    ]  # fmt: skip
    assert lines[-1] == (
        "Held: on_mains 0, power_in_w 0, confidence unknown, temperature_c 40, hour 2, day_of_year 172, workload 1, "
        "last_u 0.5. Change one with --set."
    )


def test_explain_prints_json(tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("policy", "explain", str(POLE), "--json", "--set", "temperature_c=unknown")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    held = {"temperature_c": math.nan}
    shown = explain_policy(read_policy(POLE), soc=printed["soc"], lux=printed["lux"], held=held)
    assert printed["u"] == shown.u.tolist()
    assert printed["reason"] == [[shown.reasons[code] for code in row] for row in shown.reason]
    assert printed["held"]["temperature_c"] is None
    assert printed["held"]["hour"] == 12.0
    assert "governor_thermal" in printed["reason"][5]


def test_explain_draws_a_picture_and_says_where(tnn_edge_command: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    png = tmp_path / "policy.png"
    code, out, err = tnn_edge_command("policy", "explain", str(POLE), "--png", str(png))
    assert (code, err) == (0, "")
    assert out.endswith(f"drawn: {png}\n")
    with PIL.Image.open(png) as image:
        assert (image.format, image.size) == ("PNG", (1200, 720))
        assert where(np.asarray(image.convert("RGB")), 0.25).mean() > 0.05  # the dark


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("hour", "--set wants SIGNAL=VALUE with a number, true, false or unknown, got 'hour'"),
        ("hour=noon", "--set wants SIGNAL=VALUE with a number, true, false or unknown, got 'hour=noon'"),
        ("hour=25", "hour must lie in [0, 24] (hour in h), got 25"),
        (
            "soc=0.5",
            (
                "soc cannot be held; there are on_mains, power_in_w, confidence, temperature_c, hour, "
                "day_of_year, workload, last_u, and soc and lux are the axes"
            ),
        ),
    ],
)
def test_a_wrong_signal_is_one_line_on_stderr(tnn_edge_command: Command, option: str, message: str) -> None:
    assert tnn_edge_command("policy", "explain", str(POLE), "--set", option) == (1, "", f"error: {message}\n")


def test_a_picture_that_cannot_be_written_is_one_line_on_stderr(tnn_edge_command: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    code, out, err = tnn_edge_command("policy", "explain", str(POLE), "--png", str(tmp_path / "no" / "a.png"))
    assert (code, out, err) == (1, "", f"error: folder {tmp_path / 'no'} does not exist; make it first\n")
