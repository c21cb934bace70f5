"""The table of a contest, as terminals, pages and JSON show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tnn_edge.day.scenario_tables import BEST_CONSTANT
from tnn_edge.day.score import MODELLED, Score, mean_score

if TYPE_CHECKING:
    from tnn_edge.day.contest import Contest, Entry

__all__ = ["HEADINGS", "NOTES", "as_json", "constant_rows", "label", "labelled_means", "mean_rows", "rows"]

HEADINGS = [
    "policy", "frames served", "accuracy", "seen and right", "computing Wh", "in all Wh", "mean u", "hours dark",
    "lowest SoC", "final SoC",
]  # fmt: skip

NOTES = (
    "accuracy: of the frames served. seen and right: of all frames; those of dark hours count as missed. "
    "Frames, energies and states of charge are modelled. The best constant has the most right answers of all that "
    "never went dark; it is found in hindsight, on the same weather and pictures, which flatters it."
)


def label(name: str, entry: Entry | None) -> str:
    """A row's name, of the best constant with its u."""
    if name == BEST_CONSTANT:
        return f"{name}: none survives" if entry is None else f"{name} = {entry.u:.2f}"
    return name


def rows(contest: Contest) -> list[list[str]]:
    """One row for each policy, full throttle and the best constant; cells as they are to be read."""
    return [_row(label(name, entry), None if entry is None else entry.score) for name, entry in contest.rows.items()]


def constant_rows(contest: Contest) -> list[list[str]]:
    """One row for each constant u."""
    return [_row(f"u = {entry.u:.2f}", entry.score) for entry in contest.constants]


def mean_rows(contests: Sequence[Contest]) -> list[list[str]]:
    """The same rows as means over several seeds; without numbers where a seed has no surviving constant."""
    return [_row(name, score) for name, score in labelled_means(contests).items()]


def labelled_means(contests: Sequence[Contest]) -> dict[str, Score | None]:
    """Label of each row -> its score; of several seeds the mean."""
    means = _means(contests)
    if len(contests) == 1:
        return {label(name, contests[0].rows[name]): score for name, score in means.items()}
    return {_mean_label(name, contests): score for name, score in means.items()}


def as_json(contests: Sequence[Contest]) -> dict[str, Any]:
    """Every score of every seed, and their means; and which of the scores are modelled."""
    return {
        "modelled": list(MODELLED),
        "seeds": [
            {
                "seed": contest.seed,
                "rows": [_json_row(name, entry) for name, entry in contest.rows.items()],
                "constants": [{"u": entry.u, **entry.score.as_json()} for entry in contest.constants],
                "mean_ms": list(contest.mean_ms),
            }
            for contest in contests
        ],
        "mean": [
            {"name": name, "score": None if score is None else score.as_json()}
            for name, score in _means(contests).items()
        ],
    }


def _json_row(name: str, entry: Entry | None) -> dict[str, Any]:
    if entry is None:
        return {"name": name, "u": None, "score": None}
    return {"name": name, "u": entry.u, "score": entry.score.as_json()}


def _means(contests: Sequence[Contest]) -> dict[str, Score | None]:
    means: dict[str, Score | None] = {}
    for name in contests[0].rows:
        entries = [contest.rows[name] for contest in contests]
        scores = [entry.score for entry in entries if entry is not None]
        means[name] = mean_score(scores) if len(scores) == len(entries) else None
    return means


def _mean_label(name: str, contests: Sequence[Contest]) -> str:
    if name != BEST_CONSTANT:
        return name
    found = [entry.u for contest in contests if (entry := contest.best_constant) is not None and entry.u is not None]
    if not found:
        return label(name, None)
    low, high = f"{min(found):.2f}", f"{max(found):.2f}"
    text = f"{name} = {low}" if low == high else f"{name} = {low} to {high}"
    n_without = len(contests) - len(found)
    return f"{text}, none in {n_without} of {len(contests)} seeds" if n_without else text


def _row(name: str, score: Score | None) -> list[str]:
    if score is None:
        return [name, *["-"] * (len(HEADINGS) - 1)]
    return [
        name,
        f"{score.frames_served:,.0f}",
        "-" if score.accuracy is None else _percent(score.accuracy),
        _percent(score.seen_and_right),
        f"{score.compute_wh:.1f}",
        f"{score.total_wh:.1f}",
        "-" if score.mean_u is None else f"{score.mean_u:.2f}",
        f"{score.hours_dark:.1f}",
        f"{100.0 * score.lowest_soc:.0f} %",
        f"{100.0 * score.final_soc:.0f} %",
    ]


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f} %"
