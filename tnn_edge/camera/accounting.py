"""Every frame is accounted for: captured = processed + dropped + failed."""

from __future__ import annotations

from dataclasses import dataclass, field

from tnn_edge.camera.ages import Ages

__all__ = ["Accounting"]


@dataclass(kw_only=True)
class Accounting:
    """Counts of one run. Between two frames `captured` is the sum of the other three, whatever ended the run.

    Attributes:
        captured: frames that the source delivered.
        processed: frames whose result was written.
        dropped: frames passed over for newer ones; a source that is read frame by frame drops none.
        failed: frames without a result: not decodable, no finite output, or cut off by an error.
        lowered: processed frames that a lower operating point answered than was asked for, which was not in memory.
        fallback: why the CPU computes though CUDA was to be taken; None where it does not.
        seconds: from the start of the loop to its end.
        inference_ms: time in the engine over all processed frames.
        macs: multiply-adds over all processed frames, as the engine counts them.
        ages: time from capture to result of all processed frames.
    """

    captured: int = 0
    processed: int = 0
    dropped: int = 0
    failed: int = 0
    lowered: int = 0
    fallback: str | None = None
    seconds: float = 0.0
    inference_ms: float = 0.0
    macs: int = 0
    ages: Ages = field(default_factory=Ages)

    @property
    def is_exact(self) -> bool:
        """Whether every captured frame is in exactly one of the other counts."""
        return self.captured == self.processed + self.dropped + self.failed

    @property
    def fps(self) -> float:
        """Processed frames a second; 0 before any time has passed."""
        return self.processed / self.seconds if self.seconds > 0 else 0.0

    def as_json(self) -> dict[str, float | int | str | None]:
        """The counts with means per processed frame (None when there is no such frame)."""
        n = self.processed
        return {
            "captured": self.captured,
            "processed": self.processed,
            "dropped": self.dropped,
            "failed": self.failed,
            "lowered": self.lowered,
            "fallback": self.fallback,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 3),
            "mean_ms": round(self.inference_ms / n, 3) if n else None,
            "mean_macs": round(self.macs / n) if n else None,
            "age_p50_ms": _rounded(self.ages.percentile(50)),
            "age_p99_ms": _rounded(self.ages.percentile(99)),
            "age_max_ms": _rounded(self.ages.max_ms) if n else None,
        }

    def __str__(self) -> str:
        counts = (
            f"captured {self.captured} = {self.processed} processed + {self.dropped} dropped + {self.failed} failed"
        )
        if not self.processed:
            return counts
        each = f"{self.inference_ms / self.processed:.2f} ms and {self.macs / self.processed / 1e6:.2f} MMACs each"
        lowered = f"; {self.lowered} by a lower operating point than asked for" if self.lowered else ""
        return f"{counts}{lowered}; {self.seconds:.1f} s, {self.fps:.1f} frames/s, {each}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
