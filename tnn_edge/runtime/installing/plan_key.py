"""Everything that plans depend on: what differs in any of it cannot use them."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Literal

from tnn_edge.bundle import Bundle
from tnn_edge.errors import BundleError, ProviderError
from tnn_edge.runtime.cuda.driver import cuda_driver
from tnn_edge.runtime.machine import cpu_features
from tnn_edge.runtime.providers import Device

__all__ = ["LINKER_VERSION", "Precision", "key_digest", "plan_key"]

Precision = Literal["float32", "int8"]

LINKER_VERSION: Final = 4
"""Raised whenever what the linker makes of a bundle, or the form of the index beside the plans, changes."""


def plan_key(bundle: Bundle, device: Device, precision: Precision) -> dict[str, Any]:
    """The key of a bundle's plans on this machine, as JSON-able values.

    Raises:
        BundleError: 8-bit integers are asked for and the bundle has no ranges for them.
        ProviderError: 8-bit integers are asked for on another device than the CPU, or CUDA is and there is none.
    """
    import onnxruntime

    quantiser = {} if precision == "float32" else _quantiser(bundle, device)
    return {
        "bundle": bundle.digest,
        "onnxruntime": onnxruntime.__version__,
        "device": device,
        "optimisation": "all",
        "hardware": list(cpu_features()) if device == "cpu" else [_gpu()],
        "linker": LINKER_VERSION,
        "precision": precision,
        **quantiser,
    }


def _gpu() -> str:
    driver = cuda_driver()
    return f"{driver.name}, compute capability {driver.capability}"


def _quantiser(bundle: Bundle, device: Device) -> dict[str, Any]:
    from tnn_edge.runtime.linking.quantise import QUANTISER_VERSION, weight_bits

    if bundle.manifest.quantisation is None:
        raise BundleError(
            f"{bundle.path} has no ranges for 8-bit integers; "
            f"python -m export.int8 {bundle.path} --out OTHER --data DIR makes a bundle that has"
        )
    if device != "cpu":
        raise ProviderError(f"8-bit integers run on the CPU only, not on {device}; pass device='cpu' (--device cpu)")
    return {"quantiser": QUANTISER_VERSION, "weight_bits": weight_bits()}


def key_digest(values: object) -> str:
    """SHA-256 of JSON-able values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
