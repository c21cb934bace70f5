"""The environment `tnn_edge/CameraDevice-v0`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Space

from tnn_edge.sim import core
from tnn_edge.sim.env_core import FEATURES
from tnn_edge.sim.env_settings import EnvSettings
from tnn_edge.sim.episodes import INFO, Episodes

__all__ = ["CameraDeviceEnv", "action_space", "observation_space"]

Floats32 = npt.NDArray[np.float32]


def observation_space() -> Box:
    """The space of observations of one device."""
    return Box(-1.0, 1.0, (len(FEATURES),), np.float32)


def action_space() -> Box:
    """The space of actions of one device."""
    return Box(-1.0, 1.0, (1,), np.float32)


class CameraDeviceEnv(gymnasium.Env[Floats32, Floats32]):
    """A camera with a throttleable network, a battery and a panel, through days of weather and work.

    ## Task
    Answer as many events right as the energy allows. It goes on for ever: a device that loses power starts again when
    there is charge enough, and only the horizon ends an episode, by truncation. An agent should therefore bootstrap at
    the end.

    ## Action
    `Box(-1, 1, (1,), float32)`; what lies outside is cut off.

    | `action=` | meaning of a |
    |---|---|
    | `"log_price"` (default) | the price rule's log-price plus 2.5 a; u is what is worth that price; 0 is the rule |
    | `"direct"` | u = (a + 1) / 2 |

    u is served by the operating point at or below it. With `shield_years` the reserve shield comes after it, as on a
    device: u is at most what leaves the site's reserve in the battery. An action on a device without power does
    nothing.

    ## Observation
    `Box(-1, 1, (16,), float32)`, at the beginning of a step; fixed bounds, beyond which it is cut off.

    | # | name | quantity | unit | at -1 | at 1 |
    |---|---|---|---|---|---|
    | 0 | soc | state of charge | share | 0 | 1 |
    | 1 | is_on | whether the board has power | | no | yes |
    | 2 | power_in | mean income of the last step; -1 before the first | W | 0 | 100 |
    | 3 | harvest_1d | exponential mean of it over a day | W | 0 | 20 |
    | 4 | harvest_3d | over three days | W | 0 | 20 |
    | 5 | lux | light meter, logarithmic | lux | 0.01 | 100 000 |
    | 6 | confidence | mean of the last step; -1 where unknown | share | 0 | 1 |
    | 7 | workload | share of full computing that the events ask for | share | 0 | 1 |
    | 8 | temperature | of the board | degrees C | -60 | 100 |
    | 9, 10 | hour_sin, hour_cos | local standard time | | | |
    | 11, 12 | day_sin, day_cos | day of the year | | | |
    | 13 | capacity | usable energy of the battery, logarithmic | Wh | 10 | 1000 |
    | 14 | last_u | throttle of the last step; -1 where unknown | share | 0 | 1 |
    | 15 | log_price | natural logarithm of the rule's price | events/Wh | -5 | 11 |

    ## Dynamics
    In this order: the throttle of a hot board caps u; the board draws idle power and the operating point's, times the
    workload, through the converter; the panel feeds it, what it lacks the battery gives, what is left charges the
    battery (not below 0 degrees C); at the cut-off, which rises in the cold, the power is lost; at the reboot threshold
    it comes back at the end of a step and booting takes its energy; the board warms towards its steady temperature.
    Exactly what `tnn_edge.plant` does, see there. Sun, air, light and events come from a trace of
    `tnn_edge.sim.drawing`, whose `Workload` and `EventRate` say how many events there are and what they ask for. The
    accuracy hangs on the light that reaches the pictures, which haze makes less than the meter reads; confidence is
    drawn about the profile's at that light.

    ## Reward
    (events answered right - 60 for each loss of power) / (events of a mean step of a working day). 60 is
    `brown_out_cost_events`.

    ## Start
    A trace of the bank, a first step in it and a state of charge in `start_soc`, each uniform, by `np_random` alone.
    The bank is the same for every seed: `n_traces` years of each site from `trace_seed` on.

    ## End
    `terminated` is never true; `truncated` after `horizon_days`.

    ## Info
    Of the last step: `utility` [events], `energy_wh`, `brown_outs`, `hours_down`, `spilled_wh`, `u` (as served),
    `overrides` (1 where the shield was stricter than the action, with power or without, else 0).

    ## Versions
    v0: the first.

    Args:
        render_mode: None; there is nothing to look at.
        settings: fields of `EnvSettings`.

    Raises:
        InputError: a setting lies outside its range, a site is unknown or has no days of that split.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 -- Gymnasium's own declaration

    def __init__(self, *, render_mode: str | None = None, **settings: Any) -> None:
        self.render_mode = render_mode
        self.settings = EnvSettings(**settings)
        self.observation_space: Space[Any] = observation_space()
        self.action_space: Space[Any] = action_space()
        self._episodes = Episodes(self.settings, 1)
        self._action = np.zeros(1)
        self._columns = list(INFO.items())
        self._hours = self.settings.step_s / 3600.0

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002 -- Gymnasium's signature
    ) -> tuple[Floats32, dict[str, Any]]:
        """Begin an episode; there are no options."""
        super().reset(seed=seed)
        self._episodes.begin([0], [self.np_random])
        return self._episodes.observation[0].copy(), {}

    def step(self, action: Floats32) -> tuple[Floats32, float, bool, bool, dict[str, Any]]:
        """One step; see the class."""
        episodes = self._episodes
        self._action[0] = action[0]
        episodes.step(self._action)
        flow = episodes.flows[0].tolist()
        info: dict[str, Any] = {name: flow[column] for name, column in self._columns}
        info["hours_down"] = (1.0 - flow[core.ON_SHARE]) * self._hours
        info["overrides"] = int(episodes.overrides[0])
        reward = flow[core.UTILITY] * episodes.reward_per_event
        return episodes.observation[0].copy(), reward, False, bool(episodes.n_left[0] <= 0), info
