"""Comparisons in words: the table, and the sentence that says whether another way is both faster and smaller."""

from __future__ import annotations

from export.peers.comparison import Comparison, Peer, PeerPoint
from export.peers.ways import LABELS

__all__ = ["headings", "rows", "title", "verdict", "where"]


def title(comparison: Comparison) -> str:
    """Network, machine and threads, and what the columns of u hold."""
    return (
        f"{where(comparison)}, {comparison.machine['cpu']}: median ms of {comparison.rounds} rounds (over tnn_edge's), "
        "MB resident above a bare interpreter"
    )


def headings(comparison: Comparison) -> list[str]:
    """Of the table's columns."""
    settings = [f"u={point.u:g}" for point in comparison.ours.points]
    return ["way", *settings, "switch ms", "ready s", "resident", "libraries", "disk MB"]


def rows(comparison: Comparison) -> list[list[str]]:
    """A row for each way; behind a latency its ratio to ours."""
    return [_row(peer, n_settings=len(comparison.ours.points)) for peer in comparison.peers]


def _row(peer: Peer, *, n_settings: int) -> list[str]:
    label = LABELS[peer.name]
    if peer.unavailable is not None:
        return [f"{label}: {peer.unavailable}", *["-"] * (n_settings + 5)]
    return [
        label,
        *(f"{_digits(point.latency_p50_ms)} ({_ratio(point.over_ours)})" for point in peer.points),
        "-" if peer.switch_ms is None else _digits(max(0.0, peer.switch_ms)),
        f"{peer.ready_ms / 1e3:.2f}",
        f"{peer.resident_mb:.0f}",
        f"{peer.libraries_mb:.0f}",
        f"{peer.disk_mb:.1f}",
    ]


def _ratio(over_ours: float) -> str:
    return f"{over_ours:.2f}" if over_ours < 10.0 else f"{over_ours:.0f}"


def _digits(ms: float) -> str:
    return f"{ms:.1f}" if ms >= 10.0 else f"{ms:.2f}"


def where(comparison: Comparison) -> str:
    """Network and threads."""
    return f"{comparison.network}, {comparison.threads} thread{'s' if comparison.threads > 1 else ''}"


def verdict(comparison: Comparison) -> str:
    """Whether any other way is both faster and smaller than ours at a setting, and how long it takes to switch."""
    others = [peer for peer in comparison.peers if peer is not comparison.ours]
    if any(point.over_ours_interval is None for peer in others for point in peer.points):
        return f"{where(comparison)}: {comparison.rounds} rounds are too few to say whether another way is faster."
    told = [
        f"{LABELS[peer.name]} ({', '.join(_by_how_much(*pair) for pair in pairs)}{_switching(peer)})"
        for peer in others
        if (pairs := comparison.better(peer))
    ]
    if not told:
        return f"{where(comparison)}: no other way is both faster and smaller than tnn_edge at any u."
    return f"{where(comparison)}: both faster and smaller than tnn_edge: {'; '.join(told)}."


def _by_how_much(point: PeerPoint, own: PeerPoint) -> str:
    faster_percent, less_mb = 100.0 * (1.0 - point.over_ours), own.resident_mb - point.resident_mb
    return f"u={point.u:g}: {faster_percent:.1f} % faster, {less_mb:.0f} MB less"


def _switching(peer: Peer) -> str:
    return "" if peer.switch_ms is None else f"; up to {_digits(max(0.0, peer.switch_ms))} ms to switch"
