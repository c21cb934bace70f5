"""The page of a simulation: will it last, and how well does it answer."""

from __future__ import annotations

from collections.abc import Mapping

from tnn_edge.html_page import Page
from tnn_edge.sim.comparison import Comparison
from tnn_edge.sim.comparison_pictures import draw_darkest_days, draw_fleet, draw_year
from tnn_edge.sim.comparison_table import FLEET_HEADINGS, HEADINGS, fleet_rows, notes, rows
from tnn_edge.sim.simulation import Simulation

__all__ = ["comparison_page"]


def comparison_page(comparison: Comparison, simulation: Simulation, policies: Mapping[str, str]) -> Page:
    """Make the page; curves are those of the first device.

    Args:
        comparison: what came of it.
        simulation: what was simulated.
        policies: name -> what its file says.
    """
    device = simulation.device
    battery, panel = device.board.battery, device.panel
    page = Page(
        f"{comparison.n_days} simulated days at {comparison.traces.site}",
        f"{simulation.path.name}: {battery.usable_wh:g} Wh, {panel.rated_w:g} W panel, "
        f"{comparison.n_devices} device{'' if comparison.n_devices == 1 else 's'}; everything is modelled",
    )
    page.add_tiles([_tile(comparison, name) for name in comparison.played])
    page.add_table(HEADINGS, rows(comparison), caption=notes(comparison), strong_rows=[len(comparison.played)])
    page.add_heading("Day by day")
    page.add_picture(
        draw_year(comparison),
        alt="state of charge, mean throttle, events answered right and sun of each day",
        caption="Lines are means of a day, shades the range of the charge within it.",
    )
    page.add_heading("The days with the least sun")
    page.add_picture(draw_darkest_days(comparison), alt="state of charge, throttle and light in the darkest days")
    if comparison.n_devices > 1:
        page.add_heading("The fleet")
        page.add_table(FLEET_HEADINGS, fleet_rows(comparison))
        page.add_picture(draw_fleet(comparison), alt="events answered right and hours without power over the devices")
        page.add_text(
            "Devices differ in panel, battery and idle power as [fleet] says, and meet "
            + (
                "years of weather and work that are drawn from one typical year's days."
                if simulation.sunlight is None
                else "the same weather with work of their own."
            ),
            is_note=True,
        )
    page.add_heading("What was simulated")
    page.add_file(f"The simulation: {simulation.path.name}", simulation.text)
    for name, text in policies.items():
        page.add_file(f"The policy: {name}", text)
    return page


def _tile(comparison: Comparison, name: str) -> tuple[str, str, str]:
    got = comparison.played[name].outcome
    dark = "never dark" if got.brown_outs[0] == 0 else f"{got.hours_down[0]:.0f} h dark"
    share = 100.0 * got.right[0] / max(got.events[0], 1e-9)
    return name, f"{share:.1f} %", f"of events right; {dark}"
