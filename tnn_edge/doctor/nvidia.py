"""Whether this machine has an NVIDIA GPU, and a driver for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["NvidiaGpu", "find_nvidia_gpu"]

_DRIVER = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/nvhost-ctrl-gpu", "dev/nvgpu")
"""What the driver shows: the first two on a card, the others on a Jetson."""

_VENDOR = "0x10de"
_DISPLAY = "0x03"


@dataclass(frozen=True)
class NvidiaGpu:
    """What is there.

    Attributes:
        is_there: a GPU is on the bus, or its driver runs.
        driver: what shows the driver; None where it does not run.
    """

    is_there: bool
    driver: Path | None


def find_nvidia_gpu(where: Surroundings) -> NvidiaGpu:
    """Look on the PCI bus, and for the files of the driver."""
    driver = next((Path("/", name) for name in _DRIVER if (where.root / name).exists()), None)
    return NvidiaGpu(driver is not None or _is_on_bus(where.root / "sys/bus/pci/devices"), driver)


def _is_on_bus(devices: Path) -> bool:
    try:
        return any(_is_gpu(device) for device in devices.iterdir())
    except OSError:
        return False


def _is_gpu(device: Path) -> bool:
    try:
        vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
    except OSError:
        return False
    return vendor == _VENDOR and kind.startswith(_DISPLAY)
