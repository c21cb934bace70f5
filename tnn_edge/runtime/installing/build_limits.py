"""What building the plans of a bundle may take."""

from __future__ import annotations

from tnn_edge.bundle import Bundle
from tnn_edge.runtime.installing.confined import Limits
from tnn_edge.runtime.linking.macs import MAX_MACS
from tnn_edge.runtime.providers import Device

__all__ = ["limits_of"]


def limits_of(bundle: Bundle, device: Device) -> Limits:
    """What building a bundle's plans may take: several times what honest bundles of six families were seen to take.

    CUDA reserves far more address space than it uses, so there is no limit on it there.
    """
    points = bundle.manifest.operating_points
    n_bytes = sum(spec.bytes for spec in bundle.manifest.files.values())
    address_space = 512 * 2**20 + 10 * n_bytes + len(points) * (16 * 2**20 + n_bytes)  # plans may share no weight
    macs = sum(min(point.macs, MAX_MACS) for point in points)  # one that declares more is refused
    work_s = len(points) * (len(bundle.manifest.blocks) + n_bytes / 1e7) + macs / 1e9
    cpu_s = 60 + int(work_s)
    return Limits(address_space if device == "cpu" else None, cpu_s, 3 * cpu_s + 60)
