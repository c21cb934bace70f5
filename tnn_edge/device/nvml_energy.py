"""The energy that an NVIDIA graphics card counts itself, through NVML.

What is read is `nvmlDeviceGetTotalEnergyConsumption`, mJ since the driver was loaded, of Volta and later. On a Jetson
NVML starts and finds a GPU, but knows neither its power nor its energy (HazyResearch/intelligence-per-watt #40).
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tnn_edge.device.counted_energy import CountedMeter, EnergyCounter
from tnn_edge.device.power import Unknown
from tnn_edge.device.power_rails import is_jetson
from tnn_edge.errors import DeviceError

__all__ = ["load_nvml", "nvml_meter"]

# Seen to be renewed every 20 to 100 ms; and on A100 and H100 the sensor behind it looks only a quarter of the time
# (arXiv 2312.02741), which averages out over many runs alone.
_REFRESH_S = 0.1


def load_nvml() -> Any:
    """The module `pynvml`, which the package nvidia-ml-py installs.

    Raises:
        ImportError: it is not installed.
    """
    return importlib.import_module("pynvml")


def nvml_meter(
    root: Path = Path("/sys"),
    *,
    index: int | None = None,
    load: Callable[[], Any] = load_nvml,
    clock: Callable[[], float] = time.monotonic,
) -> CountedMeter:
    """A meter of one graphics card, its memory and fans included; the rest of the machine is not in it.

    Args:
        root: of the kernel's tree, to tell a Jetson.
        index: of the card, as `nvidia-smi` counts; CUDA may count otherwise. It may be left out where there is one.
        load: gives the module.
        clock: see `CountedMeter`.

    Raises:
        DeviceError: there is no card, no driver, no module, or the card does not count.
    """
    if is_jetson(root):
        raise DeviceError("NVML knows no energy on a Jetson; its power rails do")
    try:
        nvml = load()
    except ImportError as err:
        raise DeviceError(f"NVML needs the module pynvml ({err}): pip install nvidia-ml-py") from err
    try:
        nvml.nvmlInit()
        n_cards = nvml.nvmlDeviceGetCount()
        card = nvml.nvmlDeviceGetHandleByIndex(_index(index, n_cards))
        name = nvml.nvmlDeviceGetName(card)
    except nvml.NVMLError as err:
        raise DeviceError(f"NVML: {err}") from err

    def read_mj() -> int | Unknown:
        try:
            return int(nvml.nvmlDeviceGetTotalEnergyConsumption(card))
        except nvml.NVMLError as err:
            return Unknown(f"NVML: {err}")

    if isinstance(count := read_mj(), Unknown):
        raise DeviceError(f"{count.reason}; {name} does not count its energy")
    counter = EnergyCounter(name, read_mj, 1e-3)
    return CountedMeter([counter], name=f"NVML {name}", scope="gpu", refresh_s=_REFRESH_S, clock=clock)


def _index(index: int | None, n_cards: int) -> int:
    if n_cards == 0:
        raise DeviceError("NVML finds no card")
    if index is None and n_cards > 1:
        raise DeviceError(f"NVML finds {n_cards} cards: pass the index of the one that runs the network")
    if index is not None and not 0 <= index < n_cards:
        raise DeviceError(f"index must lie in [0, {n_cards - 1}], for NVML finds {n_cards} cards; got {index}")
    return index or 0
