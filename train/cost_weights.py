"""The cost of each component, by which utilisation is weighted."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tnn_edge.errors import RunError
from tnn_edge.nn.network import ThrottleableNetwork

__all__ = ["Costs", "cost_weights"]

Costs = Mapping[str, tuple[float, ...]]
"""Gated module -> cost of each of its components, any unit."""

_WAY_OUT = "measure it on the device with tnn-edge bundle costs"


def cost_weights(choice: str, network: ThrottleableNetwork, image_size: int) -> Costs:
    """Costs of the components of a network.

    Args:
        choice: ``uniform``, ``macs`` (multiply-adds of a component when all are on), or the path of a JSON file
            ``{gate: [cost of each component]}``, as measured on a device.
        network: the network.
        image_size: height and width of its input, in pixels.

    Raises:
        RunError: the file cannot be read or does not fit the network.
    """
    if choice == "uniform":
        return {name: (1.0,) * n for name, n in network.schedule.sizes.items()}
    if choice == "macs":
        return network.component_costs(image_size)
    return _read(Path(choice), network.schedule.sizes)


def _read(path: Path, sizes: Mapping[str, int]) -> Costs:
    try:
        costs = json.loads(path.read_bytes())
    except OSError as err:
        raise RunError(
            f"--costs takes uniform, macs or a JSON file; cannot read {path} ({err.strerror or err}); {_WAY_OUT}"
        ) from err
    except (ValueError, RecursionError) as err:
        raise RunError(f"{path}: not valid JSON ({err}); {_WAY_OUT}") from err
    if not isinstance(costs, dict) or not all(isinstance(row, list) for row in costs.values()):
        raise RunError(f"{path}: must be an object with a list of costs for each gate; {_WAY_OUT}")
    if unfit := sorted(name for name in {*costs, *sizes} if len(costs.get(name, ())) != sizes.get(name)):
        name = unfit[0]
        has = f"has {sizes[name]} components there" if name in sizes else "has no such gate"
        raise RunError(
            f"{path}: {len(costs.get(name, ()))} costs for gate {name}, the network {has}; "
            "name the costs of this network"
        )
    for name, row in costs.items():
        if wrong := [cost for cost in row if not _is_cost(cost)]:
            raise RunError(f"{path}: gate {name} has cost {wrong[0]!r}, a cost is a finite number of at least 0")
    if not any(cost > 0 for row in costs.values() for cost in row):
        raise RunError(f"{path}: every cost is 0; {_WAY_OUT}")
    return {name: tuple(map(float, costs[name])) for name in sizes}


def _is_cost(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= sys.float_info.max
