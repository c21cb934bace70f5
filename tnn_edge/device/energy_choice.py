"""The best energy meter that a machine has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from tnn_edge.device.battery_energy import battery_meter
from tnn_edge.device.energy import EnergyMeter
from tnn_edge.device.modelled_energy import ModelledMeter
from tnn_edge.device.nvml_energy import load_nvml, nvml_meter
from tnn_edge.device.power import Unknown
from tnn_edge.device.rail_energy import rail_meter
from tnn_edge.device.rapl_energy import rapl_meter
from tnn_edge.device.sysfs_power import SysfsPower
from tnn_edge.errors import DeviceError

__all__ = ["NetworkDevice", "best_meter"]

NetworkDevice = Literal["cpu", "cuda"]


def best_meter(
    root: Path = Path("/sys"),
    *,
    device: NetworkDevice = "cpu",
    gpu_index: int | None = None,
    load_gpu_library: Callable[[], Any] = load_nvml,
) -> tuple[EnergyMeter, tuple[str, ...]]:
    """The best meter of the processor that runs the network, and why no better one.

    In this order: the board's power rails, the counters of the processor (RAPL for `cpu`, NVML for `cuda`, for neither
    sees the other), the battery, the model. The model is always there.

    Args:
        root: of the kernel's tree.
        device: what runs the network.
        gpu_index: see `nvml_meter`.
        load_gpu_library: see `nvml_meter`.

    Returns:
        The meter, and one line for each better one that was refused, best first.
    """
    if device not in get_args(NetworkDevice):
        raise ValueError(f"device must be one of {', '.join(get_args(NetworkDevice))}, got {device!r}")
    counted: Callable[[], EnergyMeter] = (
        (lambda: rapl_meter(root))
        if device == "cpu"
        else (lambda: nvml_meter(root, index=gpu_index, load=load_gpu_library))
    )
    ways: list[Callable[[], EnergyMeter]] = [
        lambda: rail_meter(root),
        counted,
        lambda: battery_meter(SysfsPower(root / "class" / "power_supply")),
    ]
    refusals: list[str] = []
    for way in ways:
        meter = _opened(way)
        if not isinstance(meter, Unknown):
            return meter, tuple(refusals)
        refusals.append(meter.reason)
    if device == "cuda":
        refusals.append("the model knows the CPU alone: what the GPU takes is not in it")
    return ModelledMeter(), tuple(refusals)


def _opened(way: Callable[[], EnergyMeter]) -> EnergyMeter | Unknown:
    try:
        return way()
    except DeviceError as err:
        return Unknown(str(err))
