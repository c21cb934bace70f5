"""Turn a linked sub-network into one that computes in 8-bit integers, with the ranges that its bundle holds."""

from __future__ import annotations

import math
import platform
from collections.abc import Collection
from typing import Final

import onnx_ir as ir

from tnn_edge.bundle import Bundle, OperatingPoint
from tnn_edge.bundle.quantisation import RANGES, WeightBits, read_ranges
from tnn_edge.errors import BundleError
from tnn_edge.runtime.linking.passes.insert_qdq import InsertQuantisation, quantised_values
from tnn_edge.runtime.machine import cpu_features

__all__ = ["QUANTISER_VERSION", "quantise", "weight_bits"]

QUANTISER_VERSION: Final = 2
"""Raised whenever the output of `quantise` changes: part of the plan cache's key."""

_DOT_PRODUCTS: Final = frozenset({"amx_int8", "avx512_vnni", "avx_vnni", "avx_vnni_int8"})
_X86: Final = frozenset({"AMD64", "i386", "i686", "x86_64"})


def weight_bits(features: Collection[str] | None = None, architecture: str | None = None) -> WeightBits:
    """Bits of the weights that a CPU computes with exactly.

    An x86 without 8-bit dot products multiplies pairs of uint8 and int8 into a sum of 16 bits that saturates; 7 bits
    keep it in bounds. Full weights as uint8 would be exact there too, but take about as long as float32.

    Args:
        features: vector extensions as in `cpu_features`; None for this machine's.
        architecture: as `platform.machine` names it; None for this machine's.
    """
    if (architecture or platform.machine()) not in _X86:
        return 8
    return 8 if _DOT_PRODUCTS & set(cpu_features() if features is None else features) else 7


def quantise(linked: ir.Model, bundle: Bundle, point: OperatingPoint, bits: WeightBits) -> None:
    """Add quantisation to the linked graph of an operating point; weights have one scale for each output channel.

    Args:
        linked: what `link` made of the bundle, the gates of the point and the bits; rewritten in place.
        bundle: with ranges.
        point: of the bundle.
        bits: of the weights, as in `weight_bits`.

    Raises:
        BundleError: the bundle holds no ranges, unsound ones, or none for a value of the graph; weights that are not
            finite.
    """
    path = bundle.path / RANGES
    if bundle.manifest.quantisation is None:
        raise BundleError(
            f"{bundle.path} holds no ranges for int8; add them with python -m export.int8, or run it in float32"
        )
    points = bundle.manifest.operating_points
    ranges = read_ranges(path, len(points))
    row = points.index(point)
    chosen: dict[str, tuple[float, float]] = {}
    for name in quantised_values(linked.graph):
        low, high = (float(end) for end in ranges[name][row]) if name in ranges else (math.nan, math.nan)
        if math.isnan(low):
            raise BundleError(f"{path}: no range for {name} at u={point.u:g}; calibrate the bundle again")
        chosen[name] = low, high
    InsertQuantisation(chosen, bits)(linked)
