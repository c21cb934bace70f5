"""Timing a network without what disturbs it: collection of garbage, and operating points that are still loading."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tnn_edge.errors import InputError
from tnn_edge.runtime.cuda.driver import cuda_driver
from tnn_edge.runtime.machine import describe_machine

if TYPE_CHECKING:
    from tnn_edge.bundle import OperatingPoint
    from tnn_edge.runtime.engine import Engine

__all__ = ["bring_in", "check_resident", "conditions", "no_collection", "timed_ms"]


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect garbage now, and not while the context lasts."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def timed_ms(run: Callable[[], object], wall_ns: Callable[[], int] = time.perf_counter_ns) -> float:
    """Wall time of a call, in milliseconds."""
    start_ns = wall_ns()
    run()
    return (wall_ns() - start_ns) / 1e6


def bring_in(engine: Engine, points: Sequence[OperatingPoint]) -> None:
    """Ask for operating points one after the other, and wait until none loads."""
    x = engine.bundle.golden[0][:1]
    for point in points:
        engine.run_point(x, point)
        engine.settle()


def check_resident(engine: Engine, points: Sequence[OperatingPoint]) -> None:
    """Make sure that operating points run themselves.

    Raises:
        InputError: one is not in memory.
    """
    resident = engine.resident
    for point in points:
        if point not in resident:
            raise InputError(
                f"the operating point from u={point.u:.4f} is not in memory, and a lower one would be timed in its "
                "place; raise max_resident_mb, or leave the point out"
            )


def conditions(engine: Engine) -> dict[str, object]:
    """What times hang on: what `describe_machine` says, with the engine's threads, device and precision.

    ``processor`` is what computes: the CPU, or the GPU.
    """
    machine = describe_machine()
    on_device: dict[str, object] = {"processor": machine["cpu"]}
    if engine.device == "cuda":
        on_device = {
            "processor": cuda_driver().name,
            "tf32": engine.settings.tf32,
            "cuda_graphs": engine.settings.cuda_graphs,
            "device_mb": engine.device_mb,
        }
    return machine | {
        "threads": engine.settings.threads,
        "device": engine.device,
        "precision": engine.plans.precision,
        **on_device,
    }
