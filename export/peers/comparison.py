"""What was measured of each way, and whether one of them is both faster and smaller than ours."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.peers.ways import OURS
from tnn_edge.errors import InputError

__all__ = ["Comparison", "Peer", "PeerPoint", "median_interval", "read_comparisons"]

_CONFIDENCE = 0.99


@dataclass(frozen=True, kw_only=True)
class PeerPoint:
    """One way at one setting.

    Attributes:
        latency_p50_ms: median of the steady answers.
        over_ours: median over rounds of its time over ours in the same round.
        over_ours_interval: 99 % confidence interval of that median; None where there are too few rounds for one.
        switch_ms: median of what the first answer after another operating point takes more than the steady one, None
            where no other setting selects another operating point.
        first_ms: the very first answer, with whatever is opened or compiled then.
        resident_mb: median of the process's memory above that of a bare interpreter.
    """

    u: float
    latency_p50_ms: float
    over_ours: float
    over_ours_interval: tuple[float, float] | None
    switch_ms: float | None
    first_ms: float
    resident_mb: float


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way.

    Attributes:
        name: its module.
        unavailable: why this machine cannot run it; then there are no points.
        points: u falling.
        load_ms: from the first import until it was ready to answer.
        libraries_mb: memory above a bare interpreter with its libraries imported and nothing loaded.
        disk_mb: files that a device would have to hold.
    """

    name: str
    unavailable: str | None = None
    points: tuple[PeerPoint, ...] = ()
    load_ms: float = 0.0
    libraries_mb: float = 0.0
    disk_mb: float = 0.0

    @property
    def resident_mb(self) -> float:
        """At the setting where it is largest."""
        return max(point.resident_mb for point in self.points)

    @property
    def ready_ms(self) -> float:
        """From the first import until every setting was answered once."""
        return self.load_ms + sum(point.first_ms for point in self.points)

    @property
    def switch_ms(self) -> float | None:
        """At the setting where it is longest."""
        return max((point.switch_ms for point in self.points if point.switch_ms is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All ways of running one network with a number of threads, on one machine."""

    network: str
    threads: int
    rounds: int
    machine: dict[str, Any]
    interpreter_mb: float
    peers: tuple[Peer, ...]

    @property
    def ours(self) -> Peer:
        """This project's engine."""
        return next(peer for peer in self.peers if peer.name == OURS)

    def better(self, peer: Peer) -> list[tuple[PeerPoint, PeerPoint]]:
        """Where a way is both faster and smaller than ours: its point and ours.

        Faster is a way whose whole confidence interval lies below ours.
        """
        if peer.unavailable is not None:
            return []
        return [
            (point, own)
            for point, own in zip(peer.points, self.ours.points, strict=True)
            if point.over_ours_interval is not None
            and point.over_ours_interval[1] < 1.0
            and point.resident_mb < own.resident_mb
        ]

    def as_json(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


def read_comparisons(path: Path) -> list[Comparison]:
    """The comparisons of a file that ``python -m export.peers`` wrote.

    Raises:
        InputError: it is something else.
    """
    try:
        return [_comparison(fields) for fields in json.loads(path.read_text())["comparisons"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise InputError(f"{path} holds no comparisons of python -m export.peers ({err})") from err


def _comparison(fields: dict[str, Any]) -> Comparison:
    peers = [Peer(**{**peer, "points": tuple(map(_point, peer["points"]))}) for peer in fields["peers"]]
    return Comparison(**{**fields, "peers": tuple(peers)})


def _point(fields: dict[str, Any]) -> PeerPoint:
    interval = fields["over_ours_interval"]
    return PeerPoint(**{**fields, "over_ours_interval": interval and (float(interval[0]), float(interval[1]))})


def median_interval(values: Sequence[float], confidence: float = _CONFIDENCE) -> tuple[float, float] | None:
    """Confidence interval of the median, whatever the distribution.

    As many of n values lie below the median as heads fall in n throws of a coin, so the k-th smallest and the k-th
    largest value bracket it with probability 1 - 2 P(heads < k).

    Returns:
        The narrowest such pair, None where even the smallest and the largest value are not confident enough.
    """
    n = len(values)
    ranked = sorted(values)
    k, outside = 0, 0.0
    while k < n // 2 and outside + 2 * math.comb(n, k) / 2**n <= 1.0 - confidence:
        outside += 2 * math.comb(n, k) / 2**n
        k += 1
    return None if k == 0 else (ranked[k - 1], ranked[n - k])
