"""The exchange format: a folder of per-block ONNX subgraphs with a manifest that hashes every file."""

from tnn_edge.bundle.light import LightTable
from tnn_edge.bundle.manifest import (
    SCHEMA_VERSION,
    BlockSpec,
    FileSpec,
    GateNetworkSpec,
    GateSpec,
    InputSpec,
    Manifest,
    OperatingPoint,
    Slice,
    TensorSpec,
)
from tnn_edge.bundle.quantisation import QuantisationSpec
from tnn_edge.bundle.reading import Bundle, open_bundle

__all__ = [
    "SCHEMA_VERSION",
    "BlockSpec",
    "Bundle",
    "FileSpec",
    "GateNetworkSpec",
    "GateSpec",
    "InputSpec",
    "LightTable",
    "Manifest",
    "OperatingPoint",
    "QuantisationSpec",
    "Slice",
    "TensorSpec",
    "open_bundle",
]
