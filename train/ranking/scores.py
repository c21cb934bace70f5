"""Scores: the share of the optimum, its interquartile mean over years, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap, trim_mean

from train.ranking.record import Ranked

__all__ = ["Score", "ahead_by", "bracket", "score_of", "share_of_optimum"]

Floats = npt.NDArray[np.float64]

_N_RESAMPLES = 9999


@dataclass(frozen=True)
class Score:
    """Attributes: mean: interquartile mean over years; low, high: 95 % bootstrap interval of it, over years."""

    mean: float
    low: float
    high: float


def share_of_optimum(ranked: Ranked, policy: str) -> Floats:
    """Utility of a policy over what the optimum's plan attained, of each year."""
    assert ranked.optima is not None
    shares: Floats = np.array(ranked.policies[policy].utility) / np.array(ranked.optima.attained)
    return shares


def bracket(ranked: Ranked) -> float:
    """The most by which any year's optimum may exceed what its plan attained, over that."""
    assert ranked.optima is not None
    return float((np.array(ranked.optima.bound) / np.array(ranked.optima.attained) - 1.0).max())


def score_of(values: Floats) -> Score:
    """Interquartile mean and its interval, which of one year is the year itself.

    The years of a site are drawn from the same measured days: the interval tells what another draw of them would give,
    and nothing of another climate.

    Args:
        values: one a year, shape [n].
    """
    mean = float(trim_mean(values, 0.25))
    if len(values) == 1 or np.ptp(values) == 0.0:
        return Score(mean, mean, mean)
    found = bootstrap(
        (values,),
        lambda each, axis: trim_mean(each, 0.25, axis=axis),
        n_resamples=_N_RESAMPLES,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Score(mean, float(found.low), float(found.high))


def ahead_by(ranked: Ranked, policy: str, other: str) -> Score:
    """By what share of the optimum one policy is ahead of another in the same years."""
    return score_of(share_of_optimum(ranked, policy) - share_of_optimum(ranked, other))
