"""The loop: a frame, its throttle, the engine, one record; and the accounting that adds up whatever ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from tnn_edge.camera.accounting import Accounting
from tnn_edge.camera.choice import Choice, Chooser
from tnn_edge.camera.frame import Frame, FrameSource
from tnn_edge.camera.preprocessing import Preprocessor

if TYPE_CHECKING:
    from tnn_edge.runtime.engine import Engine
    from tnn_edge.runtime.result import Result

__all__ = ["Record", "Top", "n_frames_ahead", "run_frames", "top_class"]


class Record(TypedDict, total=False):
    """What one frame leaves behind: one line of JSON.

    A failed frame has `error` and what is known without an answer; any other frame has all but `error`. Of `decision`,
    `reason` and `observed` there is nothing where no policy decides.

    Attributes:
        frame: index within the source, from 0.
        name: where the frame came from.
        time: when it was captured: ISO 8601, UTC, microseconds.
        u: throttle that was asked for.
        decision: number of the policy's decision that set it, from 0.
        reason: reason code of that decision.
        observed: the signals that it was made on, None for the unknown.
        asked_u: lowest throttle that selects the operating point that was asked for.
        point_u: lowest throttle that selects the operating point that ran; below `asked_u` while that point is not in
            memory.
        blocks_run: how many blocks ran. Their names hang on the operating point alone (`tnn-edge verify` lists them),
            so a list would repeat itself on every line.
        macs: multiply-adds spent.
        ms: time in the engine, without decoding and preprocessing.
        age_ms: time from capture to this record.
        top1: label of the largest logit.
        confidence: softmax probability of `top1`.
        fallback: why the CPU computes though CUDA was to be taken; told with the first frame of which that holds, and
            with no later one.
        error: why there is no result.
    """

    frame: int
    name: str
    time: str
    u: float
    decision: int
    reason: str | None
    observed: Mapping[str, float | None]
    asked_u: float
    point_u: float
    blocks_run: int
    macs: int
    ms: float
    age_ms: float
    top1: str
    confidence: float
    fallback: str
    error: str


class Top(TypedDict):
    """The winning class of one output: `index` and its softmax probability."""

    index: int
    confidence: float


def run_frames(
    source: FrameSource,
    engine: Engine,
    chooser: Chooser,
    *,
    emit: Callable[[Record], None],
    accounting: Accounting,
    limit: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run the engine on the frames that a source gives out, one after the other.

    Args:
        source: open frames.
        engine: loaded engine.
        chooser: chooses the throttle of each frame and hears how sure the network was.
        emit: called once for each captured frame, in order.
        accounting: filled as the run goes, so that it is right even when this function raises.
        limit: end after so many frames.
        should_stop: asked between two frames; a frame that was captured is always finished.

    Raises:
        SourceError: the source failed in the middle.
    """
    preprocessor = Preprocessor(engine.manifest.input)
    n_frames = n_frames_ahead(source, limit)
    started = time.perf_counter()
    frames = islice(source, limit)  # stops without capturing a frame beyond the limit
    try:
        while not should_stop():
            frame = next(frames, None)
            if frame is None:
                break
            _count_dropped(source, accounting)
            accounting.captured += 1
            choice = chooser.choose(frame, n_frames)
            confidence = _account(frame, engine, preprocessor, choice, emit, accounting)
            if confidence is not None:
                chooser.learn(confidence, frame.captured_s)
    finally:
        source.stop()
        _count_dropped(source, accounting)
        accounting.fallback = accounting.fallback or engine.fallback  # also where no frame could be processed
        accounting.seconds = time.perf_counter() - started


def _count_dropped(source: FrameSource, accounting: Accounting) -> None:
    n_dropped = source.n_dropped
    accounting.captured += n_dropped - accounting.dropped
    accounting.dropped = n_dropped


def _account(
    frame: Frame,
    engine: Engine,
    preprocessor: Preprocessor,
    choice: Choice,
    emit: Callable[[Record], None],
    accounting: Accounting,
) -> float | None:
    """Give one captured frame its record and its place in the accounting, on every way out; its confidence."""
    processed = False
    try:
        record = _head(frame, choice)
        if frame.image is None:
            record["error"] = frame.error or "no image"
            emit(record)
            return None
        result = engine.run(preprocessor(frame.image), u=choice.u)
        if not np.isfinite(result.logits).all():
            record["error"] = f"the network's output is not finite at u = {choice.u:g}"
            emit(record)
            return None
        _add_result(record, result, engine.manifest.labels)
        age_ms = 1000.0 * (time.monotonic() - frame.captured_s)
        record["age_ms"] = round(age_ms, 3)
        if result.fallback is not None and result.fallback != accounting.fallback:
            record["fallback"] = result.fallback
        emit(record)
        processed = True
        accounting.fallback = result.fallback or accounting.fallback
        accounting.lowered += result.point != result.asked
        accounting.ages.add(age_ms)
        accounting.inference_ms += result.latency_ms
        accounting.macs += result.macs
        return record["confidence"]
    finally:
        accounting.processed += processed
        accounting.failed += not processed


def _head(frame: Frame, choice: Choice) -> Record:
    captured_at = datetime.fromtimestamp(frame.captured_at, timezone.utc)
    record: Record = {
        "frame": frame.index,
        "name": frame.name,
        "time": captured_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "u": round(choice.u, 6),
    }
    if choice.decision is not None:
        record["decision"] = choice.decision
        record["reason"] = choice.reason
        record["observed"] = choice.observed
    return record


def _add_result(record: Record, result: Result, labels: Sequence[str]) -> None:
    top = top_class(result.logits)
    record["asked_u"] = result.asked.u
    record["point_u"] = result.point.u
    record["blocks_run"] = len(result.blocks_run)
    record["macs"] = result.macs
    record["ms"] = round(result.latency_ms, 3)
    record["top1"] = labels[top["index"]]
    record["confidence"] = round(top["confidence"], 6)


def top_class(logits: npt.NDArray[np.float32]) -> Top:
    """The largest of `logits`, shape [1, n_classes], and its softmax probability."""
    row = logits[0].astype(np.float64)
    index = int(row.argmax())
    return {"index": index, "confidence": float(1.0 / np.exp(row - row[index]).sum())}


def n_frames_ahead(source: FrameSource, limit: int | None) -> int | None:
    """Frames that a run will see, as far as the source announces them; None when nothing ends it."""
    known = [n for n in (source.n_frames, limit) if n is not None]
    return min(known) if known else None
