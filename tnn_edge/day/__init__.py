"""A day of a modelled device with the real engine: policies compared on the same weather and the same pictures."""

from tnn_edge.day.answers import Answers, PeriodAnswers
from tnn_edge.day.contest import Contest, Entry, hold_contest
from tnn_edge.day.life import Life, live_through
from tnn_edge.day.live_view import LiveView
from tnn_edge.day.page import day_page
from tnn_edge.day.scenario import Scenario, read_scenario
from tnn_edge.day.scenes import Scenes
from tnn_edge.day.score import Score, mean_score
from tnn_edge.day.table import as_json

__all__ = [
    "Answers",
    "Contest",
    "Entry",
    "Life",
    "LiveView",
    "PeriodAnswers",
    "Scenario",
    "Scenes",
    "Score",
    "as_json",
    "day_page",
    "hold_contest",
    "live_through",
    "mean_score",
    "read_scenario",
]
