"""The throttle curve of one bundle on this machine: accuracy and latency at each u, on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tnn_edge.camera.image_folder import ImageFolder
from tnn_edge.camera.pipeline import top_class
from tnn_edge.camera.preprocessing import Preprocessor
from tnn_edge.errors import SourceError
from tnn_edge.runtime.measuring.timing import check_resident, conditions

if TYPE_CHECKING:
    from tnn_edge.bundle.manifest import Manifest
    from tnn_edge.runtime.engine import Engine

__all__ = ["DEFAULT_THROTTLES", "Sweep", "SweepPoint", "sweep_throttle"]

DEFAULT_THROTTLES = tuple(i / 16 for i in range(17))

_WARM_UP_RUNS = 5
_MIN_TIMINGS = 100
"""Timings per point at least, so that a 95th percentile over few images means something."""


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One u. Values of u that select the same operating point share its measurement.

    Attributes:
        u: throttle that was asked for.
        point_u: lowest throttle that selects the same operating point; u itself where a gate network selects it.
        utilisation: cost-weighted share of active components, mean over the images.
        macs: multiply-adds of one inference, as the bundle counts them, mean over the images.
        accuracy: share of images whose largest logit is their class.
        confidence: mean softmax probability of the largest logit.
        latency_p50_ms: median time in the engine for one image.
        latency_p95_ms: 95th percentile of the same.
    """

    u: float
    point_u: float
    utilisation: float
    macs: int
    accuracy: float
    confidence: float
    latency_p50_ms: float
    latency_p95_ms: float


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A measured throttle curve.

    Attributes:
        machine: see `conditions`.
        bundle: the bundle's name.
        n_images: images measured.
        n_failed: images left out because they do not decode.
        points: one per u, in the order asked for.
    """

    machine: dict[str, object]
    bundle: str
    n_images: int
    n_failed: int
    points: tuple[SweepPoint, ...]

    def as_json(self) -> dict[str, object]:
        """Plain values; `points` is a list of the fields of `SweepPoint`."""
        return asdict(self) | {"points": [asdict(point) for point in self.points]}


def sweep_throttle(
    engine: Engine,
    images: ImageFolder,
    *,
    throttles: Sequence[float] = DEFAULT_THROTTLES,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sweep:
    """Measure accuracy and latency at each u.

    Images are decoded and preprocessed once, before anything is timed. Each image then runs at every setting,
    in an order drawn anew for each image (fixed seed): whatever else the machine does falls on all points alike.

    Args:
        engine: loaded engine.
        images: tree `<class>/a.jpg` with the manifest's labels as classes.
        throttles: values of u.
        limit: use so many images, spread evenly over the sorted tree and so over the classes.
        on_progress: called between two images with the rounds done and all rounds.

    Raises:
        InputError: an operating point is not in memory.
        ThrottleRangeError: a u outside [0, 1] or NaN.
        SourceError: an image without a class, a class that the bundle does not know, or no image that decodes.
    """
    check_resident(engine, engine.points)
    measured = {u: engine.point_at(u).u if engine.gate_network is None else u for u in throttles}
    dial = sorted(set(measured.values()))
    inputs, targets, n_failed = _load(images, engine.manifest, limit)
    n_images = len(inputs)
    for u in dial:
        for _ in range(_WARM_UP_RUNS):
            engine.run(inputs[:1], u=u)

    n_rounds = max(n_images, _MIN_TIMINGS)
    latency_ms = np.empty((n_rounds, len(dial)))
    is_right = np.empty((n_images, len(dial)), np.bool_)
    confidence = np.empty((n_images, len(dial)))
    spent = np.empty((n_images, len(dial), 2))  # utilisation and MACs: the same for all images but by a gate network
    rng = np.random.default_rng(0)
    for i in range(n_rounds):
        image = i % n_images
        for k in rng.permutation(len(dial)):
            result = engine.run(inputs[image : image + 1], u=dial[k])
            latency_ms[i, k] = result.latency_ms
            if i < n_images:  # rounds beyond are for timing alone
                top = top_class(result.logits)
                is_right[image, k] = top["index"] == targets[image]
                confidence[image, k] = top["confidence"]
                spent[image, k] = result.point.utilisation, result.macs
        on_progress(i + 1, n_rounds)

    points = []
    for u, point_u in measured.items():
        k = dial.index(point_u)
        utilisation, macs = spent[:, k].mean(axis=0)
        p50, p95 = np.percentile(latency_ms[:, k], [50, 95])
        points.append(
            SweepPoint(
                u=u,
                point_u=point_u,
                utilisation=float(utilisation),
                macs=round(macs),
                accuracy=float(is_right[:, k].mean()),
                confidence=float(confidence[:, k].mean()),
                latency_p50_ms=float(p50),
                latency_p95_ms=float(p95),
            )
        )
    return Sweep(
        machine=conditions(engine),
        bundle=engine.manifest.name,
        n_images=n_images,
        n_failed=n_failed,
        points=tuple(points),
    )


def _load(
    images: ImageFolder, manifest: Manifest, limit: int | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]:
    """Inputs [N, 3, H, W], classes [N], and how many of the chosen images did not decode."""
    targets = images.class_indices(manifest.labels)
    n = len(targets)
    chosen = range(n) if limit is None or limit >= n else [i * n // limit for i in range(limit)]
    preprocessor = Preprocessor(manifest.input)
    inputs = np.empty((len(chosen), *manifest.input.shape[1:]), np.float32)
    kept: list[int] = []
    for index in chosen:
        frame = images.read(index)
        if frame.image is not None:
            preprocessor(frame.image, out=inputs[len(kept) : len(kept) + 1])
            kept.append(targets[index])
    if not kept:
        raise SourceError(f"none of {len(chosen)} images below {images.root} decodes; look at one with an image viewer")
    return inputs[: len(kept)], np.array(kept, np.int64), len(chosen) - len(kept)
