"""The live view: what is known shows as numbers and bars, what is not as unknown, and nothing steers the terminal."""

from __future__ import annotations

import io
import re
from typing import Any, Literal

import pytest
from rich.console import Console, RenderableType

from tnn_edge.camera import Accounting, Record
from tnn_edge.camera.dashboard import answer_text, dashboard, frame_text
from tnn_edge.camera.live_display import share_bar

KNOWN = {
    "soc": 0.5,
    "on_mains": 0.0,
    "power_in_w": 12.34,
    "lux": 12_345.0,
    "confidence": 0.7,
    "temperature_c": 41.6,
    "hour": 12.0,
    "day_of_year": 172.0,
    "workload": 1.0,
    "last_u": 0.25,
}


def record(**fields: Any) -> Record:
    whole = {
        "frame": 6, "name": "7.png", "time": "2026-01-01T00:00:00Z", "u": 0.25, "decision": 3, "reason": "night",
        "observed": KNOWN, "asked_u": 0.2, "point_u": 0.2, "blocks_run": 4, "macs": 12_340_000, "ms": 1.5,
        "top1": "cat", "confidence": 0.75, "age_ms": 9.0, **fields,
    }  # fmt: skip
    return {key: value for key, value in whole.items() if value is not None}  # type: ignore[return-value]


def shown(view: RenderableType, *, width: int = 120, colours: Literal["standard"] | None = None) -> str:
    """What a terminal shows; one without colours shows of a bar what is filled alone."""
    screen = io.StringIO()
    Console(file=screen, width=width, force_terminal=True, color_system=colours, legacy_windows=False).print(view)
    return screen.getvalue()


def rows(
    kept: Record, *, n_frames: int | None = None, width: int = 120, accounting: Accounting | None = None
) -> dict[str, str]:
    counted = Accounting(captured=6, processed=3, dropped=2, failed=1) if accounting is None else accounting
    view = shown(dashboard(kept, counted, n_frames), width=width)
    return {line.split()[0]: line for line in view.splitlines()}


def bar(line: str) -> int:
    """Columns of a line's bar."""
    return len(re.findall("[━╸]", line))


def test_the_view_says_what_is_known() -> None:
    view = rows(record(), n_frames=9)
    assert list(view) == ["u", "battery", "light", "answer", "frames"]
    assert view["u"].rstrip().endswith("0.25  night")
    assert view["battery"].rstrip().endswith("50 %  on battery  12.3 W in  42 degrees C")
    assert view["light"].rstrip().endswith(" 12,300 lux")
    assert view["answer"].rstrip().endswith("cat 0.75  1.50 ms  12.3 MMACs  4 blocks")
    assert view["frames"].rstrip().endswith("frame 7/9; 3 processed, 2 dropped, 1 failed")
    assert "frame 7; " in rows(record())["frames"]


@pytest.mark.parametrize(("on_mains", "said"), [(1.0, "on mains"), (0.0, "on battery")])
def test_the_view_says_what_feeds_the_board(on_mains: float, said: str) -> None:
    observed = dict.fromkeys(KNOWN) | {"soc": 1.0, "on_mains": on_mains}
    assert rows(record(observed=observed))["battery"].rstrip().endswith(f"100 %  {said}")


@pytest.mark.parametrize(
    ("lux", "said"),
    [(0.0, "0 lux"), (0.0123, "0.0123 lux"), (7.0, "7 lux"), (456.7, "457 lux"), (123_456.0, "123,000 lux")],
)
def test_light_has_three_digits_from_starlight_to_noon(lux: float, said: str) -> None:
    assert rows(record(observed=KNOWN | {"lux": lux}))["light"].split(maxsplit=1)[1].rstrip() == said


def test_a_bar_is_as_long_as_its_share() -> None:
    n_columns = bar(shown(share_bar(1.0)))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        assert bar(shown(share_bar(share))) == n_columns * share
    view = rows(record(u=1.0, confidence=0.25))
    assert [bar(view[name]) for name in ("u", "battery", "answer")] == [n_columns, n_columns / 2, n_columns / 4]


def test_what_is_unknown_is_said_to_be_and_has_no_bar() -> None:
    view = rows(record(observed=dict.fromkeys(KNOWN)))
    assert view["battery"].split() == ["battery", "unknown"]
    assert view["light"].split() == ["light", "unknown"]
    assert bar(shown(share_bar(None), colours="standard")) == 0
    assert bar(shown(share_bar(0.0), colours="standard")) == bar(shown(share_bar(1.0)))
    assert rows(record(observed=None, reason=None, decision=None))["battery"].split() == ["battery", "unknown"]


def test_a_failed_frame_shows_its_error_in_place_of_an_answer() -> None:
    failed: Record = {"frame": 0, "name": "1.png", "time": "", "u": 0.5, "reason": "night", "error": "torn apart"}
    assert answer_text(failed) == "1.png: torn apart"
    view = rows(failed)
    assert view["answer"].split() == ["answer", "1.png:", "torn", "apart"]
    assert "frame 1; " in view["frames"]


def test_nothing_that_others_wrote_steers_the_terminal() -> None:
    evil = "a\x1b[2J\nb\x9b\u202e\udcff[bold red]"
    told = r"a\x1b[2J\nb\x9b\u202e\xff[bold red]"
    answered = shown(dashboard(record(top1=evil, reason=evil), Accounting(), None))
    failed = shown(dashboard(record(error=evil, name=evil), Accounting(), None))
    for view in (answered, failed):
        assert told in view
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\udcff]", view)
        assert view.count("\n") == 5


@pytest.mark.parametrize("width", [10, 30, 40, 80])
def test_a_narrow_terminal_cuts_lines_off_and_breaks_none(width: int) -> None:
    long = "word " * 40
    view = shown(dashboard(record(top1=long, reason=long), Accounting(), None), width=width)
    assert view.count("\n") == 5
    assert all(len(line) <= width for line in view.splitlines())


def test_the_number_of_a_frame_counts_from_one() -> None:
    assert frame_text(record(frame=0), None) == "frame 1"
    assert frame_text(record(frame=0), 1) == "frame 1/1"
