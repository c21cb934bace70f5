"""All ways at all settings, in turn in every round, so that noise hits them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from export.peers.comparison import Comparison, Peer, PeerPoint, median_interval
from export.peers.process import Visit, WayProcess, interpreter_mb
from export.peers.ways import LABELS, OURS, FloatArray, find_way
from export.peers.work import Work
from tnn_edge.bundle import open_bundle
from tnn_edge.errors import TnnEdgeError, VerificationError
from tnn_edge.runtime.machine import describe_machine

__all__ = ["TOLERANCE", "check_answers", "compare"]

TOLERANCE = 1e-3
"""Largest difference between two ways' logits, as a share of the largest logit."""

_Round = Mapping[tuple[str, float], Visit]


def compare(
    work: Work,
    names: Sequence[str],
    *,
    threads: int,
    rounds: int,
    on_step: Callable[[str], None] = lambda step: None,
) -> Comparison:
    """Measure ways, after each has shown that it computes the same.

    Each runs in a process of its own that stays alive and sleeps while others are asked. The order of the ways turns
    with the rounds.

    Args:
        work: as `export.peers.preparation.prepare` made it.
        names: of the ways, ours among them.
        threads: that compute one inference.
        rounds: passes over all ways and settings.
        on_step: called with what is being done.

    Raises:
        VerificationError: a way computes something else than the PyTorch network did at export.
        TnnEdgeError: a way's process ended.
    """
    bundle = open_bundle(work.bundle)
    _, golden = bundle.golden
    n_images = golden.shape[1]
    bare_mb = interpreter_mb()
    with ExitStack() as stack:
        processes = []
        for name in names:
            on_step(f"{LABELS[name]}: load")
            processes.append(stack.enter_context(WayProcess(name, work, threads)))
        running = [process for process in processes if process.unavailable is None]
        _check_ours_runs(processes)
        firsts: dict[tuple[str, float], Visit] = {}
        for process in running:
            on_step(f"{LABELS[process.name]}: first answers")
            for u in work.dial:
                visits = [process.visit(u, image=i, wants_logits=True) for i in range(n_images)]
                check_answers(process.name, u, [_logits(visit) for visit in visits], golden[work.point_at(u)])
                firsts[process.name, u] = visits[0]
        laps: list[_Round] = []
        for i in range(rounds):
            on_step(f"round {i + 1} of {rounds}")
            turn = i % len(running)
            laps.append(_lap(work, [*running[turn:], *running[:turn]], image=i % n_images))
    return Comparison(
        network=bundle.manifest.name,
        threads=threads,
        rounds=rounds,
        machine=describe_machine(),
        interpreter_mb=bare_mb,
        peers=tuple(_peer(process, work, firsts, laps, bare_mb) for process in processes),
    )


def _check_ours_runs(processes: Sequence[WayProcess]) -> None:
    for process in processes:
        if process.name == OURS and process.unavailable is not None:
            raise TnnEdgeError(process.unavailable)


def _logits(visit: Visit) -> FloatArray:
    assert visit.logits is not None
    return visit.logits


def check_answers(name: str, u: float, logits: Sequence[FloatArray], golden: FloatArray) -> None:
    """Make sure that a way computes what PyTorch computed when the bundle was exported.

    Args:
        name: of the way.
        u: throttle.
        logits: for each image, shape [classes].
        golden: shape [images, classes].

    Raises:
        VerificationError: it computes something else.
    """
    error = float(np.abs(np.stack(logits) - golden).max() / np.abs(golden).max())
    if not error <= TOLERANCE:  # also true for NaN
        raise VerificationError(
            f"{LABELS[name]} at u={u:g}: logits differ from the PyTorch network's by {error:.1e} of the largest, "
            f"at most {TOLERANCE:.2g} is allowed; its time would mean nothing"
        )


def _lap(work: Work, processes: Sequence[WayProcess], *, image: int) -> _Round:
    lap: dict[tuple[str, float], Visit] = {}
    for i, u in enumerate(work.dial):
        for process in processes:
            lap[process.name, u] = process.visit(u, image=image, after=work.dial[i - 1])
    return lap


def _peer(
    process: WayProcess,
    work: Work,
    firsts: Mapping[tuple[str, float], Visit],
    laps: Sequence[_Round],
    bare_mb: float,
) -> Peer:
    name = process.name
    if process.unavailable is not None:
        return Peer(name=name, unavailable=process.unavailable)
    points = []
    for i, u in enumerate(work.dial):
        steady = [lap[name, u].steady_ms for lap in laps]
        ratios = [lap[name, u].steady_ms / lap[OURS, u].steady_ms for lap in laps]
        turns = work.point_at(work.dial[i - 1]) != work.point_at(u)
        switch_ms = statistics.median(lap[name, u].first_ms - lap[name, u].steady_ms for lap in laps)
        points.append(
            PeerPoint(
                u=u,
                latency_p50_ms=statistics.median(steady),
                over_ours=statistics.median(ratios),
                over_ours_interval=None if name == OURS else median_interval(ratios),
                switch_ms=switch_ms if turns else None,
                first_ms=firsts[name, u].first_ms,
                resident_mb=statistics.median(lap[name, u].resident_mb for lap in laps) - bare_mb,
            )
        )
    return Peer(
        name=name,
        points=tuple(points),
        load_ms=process.load_ms,
        libraries_mb=process.libraries_mb - bare_mb,
        disk_mb=sum(path.stat().st_size for path in find_way(name).files(work)) / 1e6,
    )
