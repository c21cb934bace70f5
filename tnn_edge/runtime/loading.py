"""A bundle's folder becomes an engine, on the device that was asked for or on the one that there is."""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import Literal

from tnn_edge.bundle import open_bundle
from tnn_edge.errors import PlanError, ProviderError
from tnn_edge.runtime.device_choice import choose_device, unavailable_cuda
from tnn_edge.runtime.engine import Engine
from tnn_edge.runtime.installing.plan_key import Precision
from tnn_edge.runtime.installing.plans import PlanSet, find_plans, install
from tnn_edge.runtime.providers import Device, SessionSettings

__all__ = ["load"]

_log = logging.getLogger(__name__)


def load(
    bundle: Path | str,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    *,
    settings: SessionSettings | None = None,
    cache: Path | None = None,
    precision: Precision = "float32",
    max_resident_mb: float | None = None,
) -> Engine:
    """Open a bundle and load its operating points, installing it first where that has not been done.

    Args:
        bundle: the bundle's folder.
        device: ``auto`` takes CUDA where it works; where it does not, log, results and metrics say so. The others are
            strict.
        settings: threads and spinning; by default one thread that does not spin.
        cache: folder of the plans; by default ``$TNN_EDGE_CACHE`` or the user's cache folder.
        precision: ``int8`` runs 8-bit integers, where the bundle has ranges for them.
        max_resident_mb: memory for operating points, in MB of 2^20 bytes. By default all are loaded; with a limit the
            lowest is, and the others in the background when they are asked for. Meanwhile the nearest lower one runs.

    Raises:
        BundleError: the bundle is damaged or unsound, or has no ranges for 8-bit integers.
        ProviderError: the device cannot be had.
        PlanError: plans cannot be made, written or loaded.
        VerificationError: a plan computes something else than the golden outputs.
        MissingExtraError: ONNX Runtime is not installed.
    """
    if max_resident_mb is not None and not 0 < max_resident_mb < math.inf:
        raise ValueError(f"max_resident_mb must be a finite number above 0 or None, got {max_resident_mb!r}")
    opened = open_bundle(bundle)
    chosen = choose_device("cpu" if (device, precision) == ("auto", "int8") else device)
    settings = settings or SessionSettings()

    def plans(device: Device) -> PlanSet:
        found = find_plans(opened, device, cache, precision=precision)
        return found or install(opened, device, cache, precision=precision)

    fallback = unavailable_cuda() if (device, chosen, precision) == ("auto", "cpu", "float32") else None
    if (device, chosen) == ("auto", "cuda"):
        try:
            return Engine(
                opened,
                plans("cuda"),
                "cuda",
                settings,
                max_resident_mb=max_resident_mb,
                cpu_plans=partial(plans, "cpu"),
            )
        except (ProviderError, PlanError) as err:
            fallback, chosen = str(err), "cpu"
    if fallback is not None:
        _log.warning("%s: running on the CPU instead", fallback)
    return Engine(opened, plans(chosen), chosen, settings, max_resident_mb=max_resident_mb, fallback=fallback)
