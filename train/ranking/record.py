"""What was played and found, as numbers in a JSON file that a ranking goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tnn_edge.errors import InputError
from tnn_edge.whole_file import write_whole

__all__ = ["Attained", "Optima", "Ranked", "Ranking", "read_ranking", "write_ranking"]

_Floats = Annotated[list[float], Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Attained(_Table):
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
    utility: _Floats
    right: _Floats
    brown_outs: _Floats
    hours_down: _Floats
    mean_u: _Floats


class Optima(_Table):
    """Attributes: attained: utility of the optimum's plan in each year; bound: that nothing exceeds; brown_outs."""

    attained: _Floats
    bound: _Floats
    brown_outs: _Floats


class Ranked(_Table):
    """A setting with all that was played in it.

    Attributes:
        name: of the place.
        panel_w: rated power.
        battery_wh: usable energy.
        simulation: SHA-256 of the simulation file.
        days: length of a year.
        events: that there were in each year.
        optima: of each year, None while they are sought.
        policies: by name.
    """

    name: str
    panel_w: float
    battery_wh: float
    simulation: str
    days: float
    events: _Floats
    optima: Optima | None = None
    policies: dict[str, Attained] = {}

    @property
    def title(self) -> str:
        """Place, panel and battery."""
        return f"{self.name}, {self.panel_w:g} W, {self.battery_wh:g} Wh"


class Ranking(_Table):
    """Attributes: settings: in the order in which they were played."""

    settings: list[Ranked] = []

    def of(self, fresh: Ranked) -> Ranked:
        """What is known of a setting; `fresh` takes its place where it was another simulation or other years."""
        for i, known in enumerate(self.settings):
            if (known.name, known.panel_w, known.battery_wh) == (fresh.name, fresh.panel_w, fresh.battery_wh):
                is_same = (known.simulation, known.days, known.events) == (fresh.simulation, fresh.days, fresh.events)
                if not is_same:
                    self.settings[i] = fresh
                return self.settings[i]
        self.settings.append(fresh)
        return fresh


def read_ranking(path: Path) -> Ranking:
    """Read a ranking.

    Raises:
        InputError: it cannot be read, or is no ranking.
    """
    try:
        return Ranking.model_validate_json(path.read_bytes())
    except OSError as err:
        raise InputError(f"cannot read {path}: {err.strerror}") from err
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} is no ranking: {place or 'the file'}: {first['msg']}; name another file") from err


def write_ranking(path: Path, ranking: Ranking) -> None:
    """Write a ranking whole: one line for each list of numbers.

    Raises:
        TnnEdgeError: it could not be written.
    """
    write_whole(path, (_json(ranking.model_dump()) + "\n").encode(), "JSON file")


def _json(value: object, indent: str = "") -> str:
    if isinstance(value, dict):
        inner = f"{indent} "
        return _block("{}", [f"{inner}{json.dumps(key)}: {_json(each, inner)}" for key, each in value.items()], indent)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        inner = f"{indent} "
        return _block("[]", [f"{inner}{_json(each, inner)}" for each in value], indent)
    return json.dumps(value)


def _block(brackets: str, lines: list[str], indent: str) -> str:
    if not lines:
        return brackets
    return f"{brackets[0]}\n" + ",\n".join(lines) + f"\n{indent}{brackets[1]}"
