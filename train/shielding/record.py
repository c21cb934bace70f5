"""What policies did without and with the shield, as numbers in a JSON file."""

from __future__ import annotations

from pydantic import Field

from train.record_file import Record
from train.setting_record import SettingRecord

__all__ = ["Played", "Shielded", "Shielding", "Twice"]


class Played(Record):
    """What came of a policy, summed over the years.

    Attributes:
        utility: events answered right, less the cost of brown-outs.
        brown_outs: how often the device lost power.
        avoidable: how many of them the floor would have avoided.
        hours_down: how long it had no power.
    """

    utility: float
    brown_outs: float
    avoidable: float
    hours_down: float


class Twice(Record):
    """Attributes: sha256: of the policy file, empty for one without; bare, shielded: without and with the shield."""

    sha256: str
    bare: Played
    shielded: Played


class Shielded(SettingRecord):
    """A setting with its reserve, and all that was played in it.

    Attributes:
        events: that full computing could have answered in all years.
        period_s: time between two decisions.
        n_reserve_years: that the reserve was worked out from.
        is_sufficient: whether the reserve fits into the battery at all seasons and hours.
        reserve_wh: largest charge that is kept.
        floor: what came of the least throttle, by which brown-outs are avoidable or not.
        policies: by name.
    """

    events: float
    period_s: float
    n_reserve_years: int
    is_sufficient: bool
    reserve_wh: float
    floor: Played
    policies: dict[str, Twice] = Field(default_factory=dict)


class Shielding(Record):
    """Attributes: settings: by place, panel and battery."""

    settings: list[Shielded] = Field(default_factory=list)
