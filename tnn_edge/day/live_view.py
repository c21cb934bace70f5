"""A policy's day while it runs: a small panel on a terminal, or one line for every simulated hour."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tnn_edge.camera.dashboard import lux_text
from tnn_edge.camera.live_display import share_bar
from tnn_edge.day.score import Score
from tnn_edge.printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tnn_edge.camera.live_display import LiveDisplay
    from tnn_edge.day.life import Life
    from tnn_edge.day.scenario import Scenario
    from tnn_edge.day.scenes import Scenes

__all__ = ["LiveView"]

_HOURLY_DAYS = 2
"""A longer run has a line only every six hours."""

_FULL_LUX_LOG10 = 5.0

_Row = tuple[str, float | None, str, str]
"""Name, share of the bar, its colour, and what stands beside it."""

_UNKNOWN: list[_Row] = [(name, None, "", "-") for name in ("throttle u", "light", "accuracy")]


class LiveView:
    """Shows a run period by period.

    Args:
        scenario: what runs.
        name: of the policy.
        display: the terminal; where it is not enabled, lines go to `say`.
        say: prints a line.
    """

    def __init__(self, scenario: Scenario, name: str, display: LiveDisplay, say: Callable[[str], None]) -> None:
        self._scenario = scenario
        self._name = name
        self._display = display
        self._say = say
        self._every_h = 1.0 if scenario.n_days <= _HOURLY_DAYS else 6.0

    def start(self) -> None:
        """Show what is known before the first period is answered, which takes a while."""
        soc = self._scenario.start_soc
        self._display.show(lambda: self._panel(0, [_battery(soc), *_UNKNOWN]))

    def show(self, life: Life, scenes: Scenes) -> None:
        """Show the period that has just passed."""
        if self._display.enabled:
            self._display.show(lambda: self._panel(life.n_done, self._rows(life, scenes)))
        elif self._is_line_due(life.n_done):
            self._say(printable(self._line(life, scenes)))

    def _is_line_due(self, n_done: int) -> bool:
        """Whether this period ends one of the hours that have a line."""
        period_h = self._scenario.period_s / 3600.0
        return math.floor(n_done * period_h / self._every_h + 1e-9) > math.floor(
            (n_done - 1) * period_h / self._every_h + 1e-9
        )

    def _line(self, life: Life, scenes: Scenes) -> str:
        i = life.n_done - 1
        score = Score.of(life, self._scenario)
        reason = life.reason[i]
        doing = "no power" if reason is None else f"u {life.u[i]:.2f} ({reason})"
        ms = "" if math.isnan(life.ms[i]) else f"  {life.ms[i]:.2f} ms"
        lux = lux_text(float(scenes.lux[i]))
        return (
            f"{self._time(life.n_done)}  {doing}  SoC {100.0 * life.soc[i]:.0f} %  {lux}{ms}  "
            f"accuracy so far {_accuracy(score)}"
        )

    def _rows(self, life: Life, scenes: Scenes) -> list[_Row]:
        i = life.n_done - 1
        score = Score.of(life, self._scenario)
        reason = life.reason[i]
        doing = "no power" if reason is None else f"{life.u[i]:.2f}  {printable(reason)}"
        light = math.log10(max(float(scenes.lux[i]), 1.0)) / _FULL_LUX_LOG10
        ms = "" if math.isnan(life.ms[i]) else f"{life.ms[i]:.2f} ms an image"
        so_far = 0.0 if score.accuracy is None else score.accuracy
        return [
            _battery(float(life.soc[i])),
            ("throttle u", 0.0 if reason is None else float(life.u[i]), "cyan", doing),
            ("light", min(light, 1.0), "yellow", lux_text(float(scenes.lux[i]))),
            ("accuracy", so_far, "blue", f"{_accuracy(score)} so far   {ms}"),
        ]

    def _panel(self, n_done: int, rows: list[_Row]) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim")
        grid.add_column()
        grid.add_column(width=32, no_wrap=True)
        for name, share, colour, text in rows:
            grid.add_row(name, share_bar(share, colour), Text(text))
        done = 100.0 * n_done / self._scenario.n_periods
        title = f"{printable(self._name)}   {self._time(n_done)}   {done:.0f} %   power and light modelled"
        return Panel(grid, title=Text(title), title_align="left", expand=False)

    def _time(self, n_done: int) -> str:
        hours = self._scenario.start_hour + n_done * self._scenario.period_s / 3600.0
        minutes = round(60.0 * hours)
        day = f"day {minutes // 1440 + 1} " if self._scenario.n_days > 1 else ""
        return f"{day}{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _battery(soc: float) -> _Row:
    return "battery", soc, "red" if soc < 0.15 else "green", f"{100.0 * soc:.0f} %"


def _accuracy(score: Score) -> str:
    return "-" if score.accuracy is None else f"{100.0 * score.accuracy:.1f} %"
