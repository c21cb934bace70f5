"""What the shield did, in tables: what it prevented over many settings, and what it costs in each."""

from __future__ import annotations

from collections.abc import Sequence

from train.shielding.record import Shielded, Twice

__all__ = ["HEADINGS", "cost_headings", "cost_rows", "rows", "title"]

HEADINGS = ["policy", "brown-outs", "shielded", "avoidable", "shielded", "hours down", "shielded"]


def title(settings: Sequence[Shielded], told: str) -> str:
    """How much a table is of."""
    return f"{told}: {len(settings)} settings, {sum(each.n_years for each in settings)} device-years of each policy"


def rows(settings: Sequence[Shielded]) -> list[list[str]]:
    """A row for each policy, and one for the floor: sums over all years of all settings."""

    def total(name: str, figure: str) -> list[str]:
        twice = [each.policies[name] for each in settings]
        return [f"{sum(getattr(getattr(each, side), figure) for each in twice):.0f}" for side in _SIDES]

    floor = [f"{sum(getattr(each.floor, figure) for each in settings):.0f}" for figure in _FIGURES]
    played = [[name, *(cell for figure in _FIGURES for cell in total(name, figure))] for name in _names(settings)]
    return [["floor", floor[0], "", "", "", floor[2], ""], *played]


def cost_headings(settings: Sequence[Shielded]) -> list[str]:
    """The policy and the settings."""
    return ["policy", *(each.title for each in settings)]


def cost_rows(settings: Sequence[Shielded]) -> list[list[str]]:
    """By how many points of all events each policy's utility is another with the shield."""
    return [[name, *(_points(each, each.policies[name]) for each in settings)] for name in _names(settings)]


_SIDES = ("bare", "shielded")
_FIGURES = ("brown_outs", "avoidable", "hours_down")


def _names(settings: Sequence[Shielded]) -> list[str]:
    return [name for name in settings[0].policies if all(name in each.policies for each in settings)]


def _points(setting: Shielded, played: Twice) -> str:
    return f"{100.0 * (played.shielded.utility - played.bare.utility) / setting.events:+.1f}"
