"""What was played and found, as numbers in a JSON file that a ranking goes on from."""

from __future__ import annotations

from pydantic import Field

from train.record_file import Floats, Record
from train.setting_record import SettingRecord

__all__ = ["Attained", "Optima", "Ranked", "Ranking"]


class Attained(Record):
    """What a policy got in each year.

    Attributes:
        sha256: of the policy file.
        utility: events answered right, less the cost of brown-outs.
        right: events answered right.
        brown_outs: how often the device lost power.
        hours_down: how long it had none.
        mean_u: throttle that was computed, mean over the time with power.
    """

    sha256: str
    utility: Floats
    right: Floats
    brown_outs: Floats
    hours_down: Floats
    mean_u: Floats


class Optima(Record):
    """Attributes: attained: utility of the optimum's plan in each year; bound: that nothing exceeds; brown_outs."""

    attained: Floats
    bound: Floats
    brown_outs: Floats


class Ranked(SettingRecord):
    """A setting with all that was played in it.

    Attributes:
        events: that full computing could have answered in each year.
        optima: of each year, None while they are sought.
        policies: by name.
    """

    events: Floats
    optima: Optima | None = None
    policies: dict[str, Attained] = Field(default_factory=dict)


class Ranking(Record):
    """Attributes: settings: by place, panel and battery."""

    settings: list[Ranked] = Field(default_factory=list)
