"""A ranking in words: a table for each setting, and the sentence that says where the price rule stands."""

from __future__ import annotations

import numpy as np

from train.ranking.record import Ranked, Ranking
from train.ranking.scores import Score, ahead_by, bracket, score_of, share_of_optimum

__all__ = ["HEADINGS", "by_score", "rows", "title", "verdict"]

HEADINGS = ["policy", "of optimum", "95 %", "right", "mean u", "brown-outs", "hours down"]

_OURS = "price"


def title(ranked: Ranked) -> str:
    """The setting, its years and the bracket of the optimum."""
    years = f"{ranked.n_years} times {ranked.days:g} days"
    return f"{ranked.title}: {years}; nothing gets more than {100.0 * (1.0 + bracket(ranked)):.2f} %"


def by_score(ranked: Ranked) -> list[tuple[str, Score]]:
    """Policies with their share of the optimum, best first."""
    scores = [(name, score_of(share_of_optimum(ranked, name))) for name in ranked.policies]
    return sorted(scores, key=lambda each: -each[1].mean)


def rows(ranked: Ranked) -> list[list[str]]:
    """A row for each policy, best first; what is right is of all years, the columns after it are means of a year."""
    assert ranked.optima is not None
    events = np.array(ranked.events)
    found = []
    for name, score in by_score(ranked):
        got = ranked.policies[name]
        found.append(
            [
                name,
                f"{100.0 * score.mean:.1f} %",
                f"{100.0 * score.low:.1f} to {100.0 * score.high:.1f}",
                f"{100.0 * sum(got.right) / events.sum():.1f} %",
                f"{np.mean(got.mean_u):.2f}",
                f"{np.mean(got.brown_outs):.1f}",
                f"{np.mean(got.hours_down):.0f}",
            ]
        )
    return found


def verdict(ranking: Ranking) -> list[str]:
    """By how many points of the optimum the price rule is ahead of each other policy, least of all settings."""
    told = []
    names = {name for ranked in ranking.settings for name in ranked.policies} - {_OURS}
    for name in sorted(names):
        ahead = [
            (ahead_by(ranked, _OURS, name), ranked)
            for ranked in ranking.settings
            if ranked.optima and {name, _OURS} <= ranked.policies.keys()
        ]
        if ahead:
            least, where = min(ahead, key=lambda each: each[0].mean)
            won = sum(score.low > 0.0 for score, _ in ahead)
            told.append(
                f"{_OURS} over {name}: ahead in {won} of {len(ahead)} settings; least at {where.title}, "
                f"{_points(least.mean)} points ({_points(least.low)} to {_points(least.high)})"
            )
    return told


def _points(share: float) -> str:
    return f"{100.0 * share:+.1f}"
