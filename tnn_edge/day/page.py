"""The page of a day: what every policy got, the curves of the hours, what of it is real and what is modelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tnn_edge.day.pictures import draw_accuracy, draw_battery, draw_light, draw_throttle
from tnn_edge.day.scenes import DIM_LUX
from tnn_edge.day.table import HEADINGS, NOTES, constant_rows, labelled_means, mean_rows, rows
from tnn_edge.html_page import Page

if TYPE_CHECKING:
    from tnn_edge.day.contest import Contest
    from tnn_edge.day.scenario import Scenario

__all__ = ["day_page"]

_REAL = (
    "Real: the images, and every answer of the network to them. At each period's light and for each of its pictures "
    "the engine ran all operating points on this machine; milliseconds are those of these runs. The policies are the "
    "objects that run on a device; they read the light from the noisy pictures themselves and hear the network's "
    "confidence."
)
_MODELLED = (
    "Modelled: sun and clouds, panel, battery, board and its temperature, the image sensor (Poisson-Gaussian noise, "
    "automatic exposure), and the camera's frame rate: the few images of a period stand for all of its frames."
)
_SCALED = (
    "The power of computing is scaled by multiply-adds: at an operating point with half of those at u = 1, it is half. "
    "So the dial matters here as it does for a network that keeps the board busy with them, as one for images of "
    "224 x 224 pixels can; a network too small for that would save less than its multiply-adds say."
)


def day_page(contests: Sequence[Contest], scenario: Scenario, machine: Mapping[str, object], bundle: str) -> Page:
    """Make the page; the curves are those of the first seed.

    Args:
        contests: one for each seed.
        scenario: what ran.
        machine: what `describe_machine` says, with the engine's `device`, `precision` and `threads`.
        bundle: the bundle's name.
    """
    first = contests[0]
    days = "A day" if scenario.n_days == 1 else f"{scenario.n_days} days"
    page = Page(f"{days} of a modelled camera", _subtitle(contests, scenario, bundle))
    page.add_tiles(_tiles(contests))
    page.add_text(_summary(contests))
    _add_tables(page, contests)
    page.add_heading("Through the hours" if len(contests) == 1 else f"Through the hours of seed {first.seed}")
    page.add_picture(
        draw_battery(first, scenario),
        alt="state of charge of each policy over time",
        caption=f"State of charge. Grey: less than {DIM_LUX:g} lux.",
    )
    page.add_picture(
        draw_throttle(first, scenario),
        alt="throttle of each policy over time, with the reasons of the first",
        caption="Throttle u. The bands show which rule or limit set u for the first policy. "
        "Where a line is missing the board has no power.",
    )
    page.add_picture(
        draw_light(first, scenario),
        alt="illuminance and panel power over time",
        caption="Light on the scene, as it is and as the first policy knew it; the power that the panel could give.",
    )
    page.add_picture(
        draw_accuracy(first, scenario),
        alt="share of frames seen and classified right over time",
        caption="Frames that are seen and right; those of dark hours count as missed.",
    )
    page.add_heading("What is real, what is modelled")
    page.add_text(_REAL)
    page.add_text(f"{_MODELLED} {_power(scenario)} {_SCALED}")
    page.add_facts(_device_facts(scenario))
    _add_constants(page, first)
    page.add_heading("Machine and files")
    page.add_facts(_machine_facts(machine))
    page.add_file(f"The scenario: {scenario.path.name}", scenario.text)
    for name, text in scenario.policy_texts.items():
        page.add_file(f"The policy: {name}", text)
    return page


def _subtitle(contests: Sequence[Contest], scenario: Scenario, bundle: str) -> str:
    seeds = "seed" if len(contests) == 1 else "seeds"
    numbers = ", ".join(str(contest.seed) for contest in contests)
    site = scenario.weather.site
    return (
        f"{scenario.path.name}: {bundle} at {_latitude(site.latitude_deg)}, from {_clock(scenario.start_hour)} on "
        f"day {site.day_of_year} of the year; {seeds} {numbers}"
    )


def _tiles(contests: Sequence[Contest]) -> list[tuple[str, str, str]]:
    tiles = []
    for name, score in labelled_means(contests).items():
        if score is None:
            tiles.append((name, "-", "not in every seed"))
            continue
        dark = "never dark" if score.survives else f"{score.hours_dark:.1f} h dark"
        tiles.append((name, f"{100.0 * score.seen_and_right:.1f} %", f"seen and right; {dark}"))
    return tiles


def _summary(contests: Sequence[Contest]) -> str:
    n_frames = contests[0].constants[0].score.frames
    text = (
        f"The figures are shares of all {n_frames:,.0f} frames that a camera with power would take: seen, and "
        "classified right. Every policy met the same weather and the same pictures."
    )
    is_dim = np.concatenate([contest.scenes.lux < DIM_LUX for contest in contests])
    if not is_dim.any():
        return text
    right = np.concatenate([contest.right_share for contest in contests])[is_dim].mean(axis=0)
    return (
        f"{text} {100.0 * is_dim.mean():.0f} % of the frames come at less than {DIM_LUX:g} lux. There the best "
        f"operating point is right in {100.0 * right.max():.0f} % of the pictures that the network saw, the lowest in "
        f"{100.0 * right[0]:.0f} %; a guess among {contests[0].n_labels} classes would be in "
        f"{100.0 / contests[0].n_labels:.0f} %."
    )


def _add_tables(page: Page, contests: Sequence[Contest]) -> None:
    if len(contests) == 1:
        page.add_table(HEADINGS, rows(contests[0]), caption=NOTES, strong_rows=[0])
        return
    page.add_heading(f"Mean of {len(contests)} seeds")
    page.add_table(HEADINGS, mean_rows(contests), caption=NOTES, strong_rows=[0])
    for contest in contests:
        page.add_heading(f"Seed {contest.seed}")
        page.add_table(HEADINGS, rows(contest), strong_rows=[0])


def _add_constants(page: Page, contest: Contest) -> None:
    page.add_heading("Every constant u")
    page.add_table(
        [*HEADINGS, "ms an image"],
        [[*row, f"{ms:.2f}"] for row, ms in zip(constant_rows(contest), contest.mean_ms, strict=True)],
        caption="All operating points of the network, each held for the whole run. Milliseconds are measured here.",
    )


def _device_facts(scenario: Scenario) -> list[tuple[str, str]]:
    battery, board = scenario.battery, scenario.board
    charge = f"{battery.usable_wh:g} Wh usable, {100.0 * scenario.start_soc:.0f} % at the start"
    losses = f"{100.0 * battery.charge_efficiency:g} % of what goes in is stored, "
    losses += f"{100.0 * battery.discharge_efficiency:g} % of that comes out"
    ends = f"the board goes dark at {100.0 * battery.cut_off:g} % and starts again at {100.0 * battery.reboot:g} %"
    images = "1 image" if scenario.images_per_period == 1 else f"{scenario.images_per_period} images"
    sampled = f"{images} really computed in every {scenario.period_s:g} s"
    return [
        ("battery", f"{charge}; {losses}; {ends}"),
        ("panel", f"{scenario.panel.rated_w:g} W rated, lying flat"),
        ("board", f"{board.idle_w:g} W idle, {board.compute_w:g} W on top at u = 1; modelled"),
        ("camera", f"{scenario.fps:g} frames a second; {sampled}"),
        ("night", f"{scenario.weather.night_lux:g} lux"),
    ]


def _power(scenario: Scenario) -> str:
    board = scenario.board
    return (
        f"Power is not that of this machine but of the scenario's board: {board.idle_w:g} W idle, "
        f"{board.compute_w:g} W more while it computes at u = 1."
    )


def _latitude(degrees: float) -> str:
    return f"{abs(degrees):g} degrees {'south' if degrees < 0.0 else 'north'}"


def _machine_facts(machine: Mapping[str, object]) -> list[tuple[str, str]]:
    names = ("cpu", "cores", "os", "python", "onnxruntime", "device", "precision", "threads")
    return [(name, str(machine[name])) for name in names if machine.get(name) is not None]


def _clock(hour: float) -> str:
    minutes = round(60.0 * hour)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
