"""Where the data of a block's tensors lies, and how much of it there is, before any of it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from onnx import TensorProto

from tnn_edge.bundle.manifest import FileSpec
from tnn_edge.errors import BundleError

__all__ = ["tensor_bytes"]

_TYPES: Final[dict[int, tuple[str, int]]] = {
    TensorProto.FLOAT: ("float_data", 4),
    TensorProto.INT64: ("int64_data", 8),
    TensorProto.INT32: ("int32_data", 4),
    TensorProto.INT8: ("int32_data", 1),
    TensorProto.UINT8: ("int32_data", 1),
}
"""Type -> field for data that is neither raw nor external, and bytes of one number."""
_MAX_TENSOR_BYTES = 2**31
_MAX_DIMENSIONS = 8
_PLACE = ("location", "offset", "length")


def tensor_bytes(tensor: TensorProto, path: Path, inside: str, files: Mapping[str, FileSpec]) -> int:
    """Bytes of a tensor, as its shape says, whose data is of that size and lies where it may.

    Args:
        tensor: of a block.
        path: of the block, for the error.
        inside: the block's path in the bundle.
        files: of the bundle.

    Raises:
        BundleError: another type than a network's, a shape too large, data of another size, or data outside the files
            that the manifest lists.
    """
    if tensor.data_type not in _TYPES:
        raise BundleError(
            f"{path}: tensor {tensor.name} is of unknown type {tensor.data_type}; a bundle holds float32 and integers"
        )
    field, itemsize = _TYPES[tensor.data_type]
    dims = list(tensor.dims)
    size = math.prod(dims) * itemsize
    if len(dims) > _MAX_DIMENSIONS or any(not 0 <= d <= _MAX_TENSOR_BYTES for d in dims) or size > _MAX_TENSOR_BYTES:
        raise BundleError(f"{path}: tensor {tensor.name} of shape {dims} is too large")
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_place(tensor, size, path, inside, files)
        return size
    n_bytes = len(tensor.raw_data) if tensor.HasField("raw_data") else len(getattr(tensor, field)) * itemsize
    if n_bytes != size:  # older checkers let it pass
        raise BundleError(f"{path}: tensor {tensor.name} holds {n_bytes} bytes, its shape {size}")
    return size


def _check_place(tensor: TensorProto, size: int, path: Path, inside: str, files: Mapping[str, FileSpec]) -> None:
    place = {entry.key: entry.value for entry in tensor.external_data}
    if len(place) < len(tensor.external_data) or not set(place) <= {*_PLACE, "checksum"}:
        raise BundleError(f"{path}: tensor {tensor.name} says twice or unclearly where its data lies")
    location = (Path(inside).parent / place.get("location", "")).as_posix()
    if location not in files:
        raise BundleError(f"{path}: tensor {tensor.name} reads {location!r}, which the manifest does not list")
    try:
        offset, length = int(place.get("offset", "0")), int(place["length"])
    except (KeyError, ValueError) as err:
        raise BundleError(f"{path}: tensor {tensor.name} has no readable offset and length") from err
    if offset < 0 or length != size or offset + length > files[location].bytes:
        raise BundleError(f"{path}: tensor {tensor.name} reads past the end of {location} or has another size")
