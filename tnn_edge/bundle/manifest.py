"""The manifest of a bundle: what the network is, how its blocks slice, and what every file must hash to."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from tnn_edge.errors import SchemaError, ThrottleRangeError

__all__ = [
    "SCHEMA_VERSION",
    "BlockSpec",
    "FileSpec",
    "GateSpec",
    "InputSpec",
    "Manifest",
    "OperatingPoint",
    "Slice",
    "TensorSpec",
    "parse_manifest",
    "utilisation",
]

SCHEMA_VERSION: Final = 1

Bits = Annotated[str, StringConstraints(pattern=r"^[01]+$")]
"""One character per component, ``1`` where it is on."""


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r} must be a relative path inside the bundle")
    return path


InnerPath = Annotated[str, AfterValidator(_inside)]
Pixels = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileSpec(_Strict):
    """Size in bytes and SHA-256 of one file of the bundle."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class InputSpec(_Strict):
    """The input tensor, and how an image becomes one.

    An image is resized to the shape's height and width (bilinear, antialiased where it shrinks), scaled to [0, 1],
    put into `colour_order`, and each channel has `mean` subtracted and is divided by `std`.
    """

    name: str
    shape: tuple[Literal[1], Literal[3], Pixels, Pixels]
    layout: Literal["NCHW"] = "NCHW"
    dtype: Literal["float32"] = "float32"
    colour_order: Literal["RGB"] = "RGB"
    resize: Literal["bilinear"] = "bilinear"
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]


class Slice(_Strict):
    """One axis of a tensor that shrinks: component i of `gate` owns the i-th run of `channels` entries."""

    axis: int = Field(ge=0)
    gate: str
    channels: int = Field(ge=1)


class TensorSpec(_Strict):
    """How gates change one tensor of a block.

    Attributes:
        slices: axes that shrink.
        scaled_by: a gate whose components offered over components on multiply the tensor.
        group_of: the tensor is a convolution's weight whose ``group`` attribute shrinks with this gate.
    """

    slices: tuple[Slice, ...]
    scaled_by: str | None = None
    group_of: str | None = None


class BlockSpec(_Strict):
    """One subgraph: one input, one output, full width.

    Attributes:
        branch: value in the graph that is exactly zero when no component of `gate` is on, so that the addition that
            reads it is its other operand.
        tensors: the slice map, by initializer name.
    """

    name: str
    file: InnerPath
    input: str
    output: str
    gate: str | None = None
    branch: str | None = None
    tensors: dict[str, TensorSpec] = Field(default_factory=dict)


class GateSpec(_Strict):
    """A gate source: as many components as it has cost weights (MACs of each component when all are on)."""

    name: str
    weights: tuple[Positive, ...] = Field(min_length=1)


class OperatingPoint(_Strict):
    """One gate vector of the dial.

    Attributes:
        u: the lowest throttle that selects it; it holds up to the next point's.
        gates: gate -> bits.
        utilisation: cost-weighted share of active components.
        macs: multiply-adds of one inference.
        statistics: row of ``statistics.npz`` with its normalisation statistics, None for those in the blocks.
        accuracy: share of right answers on held-out images, None if not measured.
        confidence: mean of the largest softmax there.
    """

    u: float = Field(ge=0.0, le=1.0)
    gates: dict[str, Bits]
    utilisation: float = Field(ge=0.0, le=1.0)
    macs: int = Field(ge=0)
    statistics: int | None = Field(default=None, ge=0)
    accuracy: float | None = Field(default=None, ge=0.0, le=1.0)
    confidence: float | None = Field(default=None, ge=0.0, le=1.0)

    @property
    def blocks_on(self) -> tuple[str, ...]:
        """Gates with at least one component on."""
        return tuple(name for name, bits in self.gates.items() if "1" in bits)


class Manifest(_Strict):
    """Everything a runtime must know about a bundle; ``manifest.json``."""

    schema_version: Literal[1]
    name: str
    task: Literal["classification"]
    labels: tuple[str, ...] = Field(min_length=1)
    input: InputSpec
    output: str
    blocks: tuple[BlockSpec, ...] = Field(min_length=1)
    gates: tuple[GateSpec, ...]
    operating_points: tuple[OperatingPoint, ...] = Field(min_length=1)
    tolerance: float = Field(default=1e-4, gt=0.0)
    """Largest difference between a golden output and the runtime's, as a share of the largest golden logit."""
    files: dict[InnerPath, FileSpec]
    licence: str
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _check_references(self) -> Manifest:
        gates = {gate.name: len(gate.weights) for gate in self.gates}
        for block in self.blocks:
            if block.file not in self.files:
                raise ValueError(f"block {block.name}: file {block.file} is not listed under files")
            named = {block.gate} if block.gate else set()
            for tensor in block.tensors.values():
                named |= {s.gate for s in tensor.slices}
                named |= {gate for gate in (tensor.scaled_by, tensor.group_of) if gate is not None}
            if unknown := sorted(named - set(gates)):
                raise ValueError(f"block {block.name}: unknown gate {', '.join(unknown)}")
        for point in self.operating_points:
            if {name: len(bits) for name, bits in point.gates.items()} != gates:
                raise ValueError(f"operating point u={point.u:g}: its gates do not fit those of the network")
        dial = [point.u for point in self.operating_points]
        if dial[0] != 0.0 or dial != sorted(set(dial)):
            raise ValueError("operating points must start at u=0 and rise")
        return self

    @cached_property
    def _dial(self) -> tuple[float, ...]:
        return tuple(point.u for point in self.operating_points)

    def point_at(self, u: float) -> OperatingPoint:
        """The operating point that throttle u selects.

        Raises:
            ThrottleRangeError: u lies outside [0, 1] or is NaN.
        """
        if not 0.0 <= u <= 1.0:  # also false for NaN
            raise ThrottleRangeError(f"throttle u must lie in [0, 1], got {u:g}")
        return self.operating_points[bisect_right(self._dial, u) - 1]

    def statistics_for(self, gates: Mapping[str, str]) -> int | None:
        """Row of the statistics that a gate vector uses: those of the nearest operating point at or below it.

        Nearest in utilisation, so that any vector has one.
        """
        weights = {gate.name: gate.weights for gate in self.gates}
        asked = utilisation(gates, weights)
        below = [p for p in self.operating_points if p.utilisation <= asked + 1e-12]
        return max(below, key=lambda p: p.utilisation, default=self.operating_points[0]).statistics


def utilisation(gates: Mapping[str, str], weights: Mapping[str, tuple[float, ...]]) -> float:
    """Cost-weighted share of active components, c(g) of the paper's equation 4."""
    on = (w for name, bits in gates.items() for bit, w in zip(bits, weights[name], strict=True) if bit == "1")
    # fsum rounds once, so that all components together are exactly 1, in whatever order they are added
    return math.fsum(on) / math.fsum(w for each in weights.values() for w in each)


def parse_manifest(text: str, where: str) -> Manifest:
    """Read a manifest.

    Args:
        text: JSON.
        where: the file it came from, for the error.

    Raises:
        SchemaError: not JSON, a newer schema, an unknown key, or a value that does not fit.
    """
    import json

    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as err:  # ValueError: also an integer of thousands of digits
        raise SchemaError(f"{where}: not valid JSON ({err}); the bundle is damaged, copy it again") from err
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise SchemaError(
            f"{where}: schema version {version} is newer than {SCHEMA_VERSION}, the newest this tnn-edge reads; "
            "upgrade tnn-edge"
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as err:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in err.errors()[:5])
        raise SchemaError(f"{where}: {faults}") from err
