"""The manifest of a bundle: what the network is, how its blocks slice, and what every file must hash to."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from tnn_edge.bundle.fields import (
    MAX_CHANNELS,
    Bits,
    BlockName,
    Channels,
    Cost,
    Exactly1,
    Exactly3,
    InnerPath,
    Pixels,
    Positive,
    Strict,
    Text,
)
from tnn_edge.bundle.light import LightTable
from tnn_edge.bundle.quantisation import RANGES, QuantisationSpec
from tnn_edge.errors import SchemaError
from tnn_edge.throttle import check_throttle

__all__ = [
    "SCHEMA_VERSION",
    "BlockSpec",
    "FileSpec",
    "GateNetworkSpec",
    "GateSpec",
    "InputSpec",
    "Manifest",
    "OperatingPoint",
    "Slice",
    "TensorSpec",
    "parse_manifest",
    "utilisation",
]

SCHEMA_VERSION: Final = 2

_SHARE_TOLERANCE: Final = 1e-6


class FileSpec(Strict):
    """Size in bytes and SHA-256 of one file of the bundle."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class InputSpec(Strict):
    """The input tensor, and how an image becomes one.

    An image is brought to the shape's height and width (bilinear, antialiased where it shrinks), scaled to [0, 1], put
    into `colour_order`, and each channel has `mean` subtracted and is divided by `std`.

    Attributes:
        short_side: the image's short side is resized to so many pixels and the centre cut out; None: the whole image is
            stretched to the shape.
    """

    name: Text
    shape: tuple[Exactly1, Exactly3, Pixels, Pixels]
    layout: Literal["NCHW"] = "NCHW"
    dtype: Literal["float32"] = "float32"
    colour_order: Literal["RGB"] = "RGB"
    resize: Literal["bilinear"] = "bilinear"
    short_side: Pixels | None = None
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]

    @model_validator(mode="after")
    def _check_short_side(self) -> InputSpec:
        if self.short_side is not None and self.short_side < max(self.shape[2:]):
            raise ValueError(f"short_side {self.short_side} is below the shape's {max(self.shape[2:])} pixels")
        return self


class Slice(Strict):
    """One axis of a tensor that shrinks with a gate.

    First come `ungated` entries that stay, then `channels` for each of the gate's first `components` components.

    Attributes:
        components: None for all of the gate's; fewer where a layer reads only those before it.
        scaled: the gated entries are multiplied by components offered over components on, of those on this axis.
    """

    axis: int = Field(ge=0, le=3)
    gate: str
    channels: Channels
    ungated: int = Field(default=0, ge=0, le=MAX_CHANNELS)
    components: int | None = Field(default=None, ge=0)
    scaled: bool = False


class TensorSpec(Strict):
    """How gates change one tensor of a block.

    Attributes:
        slices: axes that shrink.
        group_of: the tensor is a convolution's weight whose ``group`` attribute shrinks with this gate.
    """

    slices: tuple[Slice, ...]
    group_of: str | None = None


class BlockSpec(Strict):
    """One subgraph: one input, one output, full width.

    Attributes:
        gate: the gated module that the block is.
        branches: values in the graph that are left out of the additions and concatenations that read them while a
            component of `gate` is off, or for None while all of them are.
        tensors: the slice map, by initializer name.
    """

    name: BlockName
    file: InnerPath
    input: Text
    output: Text
    gate: str | None = None
    branches: dict[Text, int | None] = Field(default_factory=dict)
    tensors: dict[Text, TensorSpec] = Field(default_factory=dict)


class GateSpec(Strict):
    """A gate source: as many components as it has cost weights (MACs of each component when all are on)."""

    name: Text
    weights: tuple[Cost, ...] = Field(min_length=1)


class GateNetworkSpec(Strict):
    """The small network of a contextual gate: from image and throttle to a score for each operating point.

    The point of the largest score runs. It reads the preprocessed image, shape as the input's, and the throttle, shape
    [1], and gives float32 scores, shape [1, operating points].

    Attributes:
        macs: multiply-adds of one run.
    """

    file: InnerPath
    image: Text
    throttle: Text
    scores: Text
    macs: int = Field(ge=0, le=10**18)


class OperatingPoint(Strict):
    """One gate vector of the dial.

    Attributes:
        u: the lowest throttle that selects it where no gate network does; it holds up to the next point's.
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
    macs: int = Field(ge=0, le=10**18)
    statistics: int | None = Field(default=None, ge=0)
    accuracy: float | None = Field(default=None, ge=0.0, le=1.0)
    confidence: float | None = Field(default=None, ge=0.0, le=1.0)

    @property
    def blocks_on(self) -> tuple[str, ...]:
        """Gates with at least one component on."""
        return tuple(name for name, bits in self.gates.items() if "1" in bits)


class Manifest(Strict):
    """Everything a runtime must know about a bundle; ``manifest.json``."""

    schema_version: int = Field(strict=True, ge=SCHEMA_VERSION, le=SCHEMA_VERSION)
    name: Text
    task: Literal["classification"]
    labels: tuple[Text, ...] = Field(min_length=1)
    input: InputSpec
    output: Text
    blocks: tuple[BlockSpec, ...] = Field(min_length=1)
    gates: tuple[GateSpec, ...] = Field(min_length=1)
    operating_points: tuple[OperatingPoint, ...] = Field(min_length=1)
    gate_network: GateNetworkSpec | None = None
    """None where the throttle alone selects the operating point."""
    light: LightTable | None = None
    quantisation: QuantisationSpec | None = None
    """None where the bundle runs in float32 only."""
    tolerance: float = Field(default=1e-4, gt=0.0, le=0.1)
    """Largest difference between a golden output and the runtime's, as a share of the largest golden logit."""
    files: dict[InnerPath, FileSpec]
    licence: Text
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _check_references(self) -> Manifest:
        _check_unique("gate", [gate.name for gate in self.gates])
        _check_unique("block", [block.name for block in self.blocks])
        _check_unique("label", self.labels)
        gates = {gate.name: gate.weights for gate in self.gates}
        for block in self.blocks:
            if block.file not in self.files:
                raise ValueError(f"block {block.name}: file {block.file} is not listed under files")
            if unknown := sorted(_gates_of(block) - set(gates)):
                raise ValueError(f"block {block.name}: unknown gate {', '.join(unknown)}")
            _check_branches(block, gates)
        for point in self.operating_points:
            _check_point(point, gates)
        if self.gate_network is not None and self.gate_network.file not in self.files:
            raise ValueError(f"gate_network: file {self.gate_network.file} is not listed under files")
        dial = [point.u for point in self.operating_points]
        if dial[0] != 0.0 or dial != sorted(set(dial)):
            raise ValueError("operating points must start at u=0 and rise")
        if self.light is not None and len(self.light.accuracy) != len(dial):
            raise ValueError(f"light has {len(self.light.accuracy)} operating points, the manifest {len(dial)}")
        if self.quantisation is not None:
            _check_quantisation(self.quantisation, len(dial), self.files)
        return self

    @cached_property
    def _dial(self) -> tuple[float, ...]:
        return tuple(point.u for point in self.operating_points)

    def point_at(self, u: float) -> OperatingPoint:
        """The operating point that throttle u selects.

        Raises:
            ThrottleRangeError: u lies outside [0, 1] or is NaN.
        """
        check_throttle(u)
        return self.operating_points[bisect_right(self._dial, u) - 1]

    def statistics_for(self, gates: Mapping[str, str]) -> int | None:
        """Row of the statistics that a gate vector uses: its operating point's, else the nearest one's at or below it.

        Nearest in utilisation, so that any vector has one.
        """
        for point in self.operating_points:
            if point.gates == gates:
                return point.statistics
        weights = {gate.name: gate.weights for gate in self.gates}
        asked = utilisation(gates, weights)
        below = [p for p in self.operating_points if p.utilisation <= asked + 1e-12]
        return max(below, key=lambda p: p.utilisation, default=self.operating_points[0]).statistics


def _check_unique(kind: str, names: Sequence[str]) -> None:
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise ValueError(f"two {kind}s are named {name}; each needs a name of its own")


def _gates_of(block: BlockSpec) -> set[str]:
    named = {block.gate}
    for tensor in block.tensors.values():
        named |= {tensor.group_of, *(s.gate for s in tensor.slices)}
    return {gate for gate in named if gate is not None}


def _check_branches(block: BlockSpec, gates: Mapping[str, tuple[float, ...]]) -> None:
    if block.branches and block.gate is None:
        raise ValueError(f"block {block.name}: branches without a gate that leaves them out")
    for value, component in block.branches.items():
        if component is not None and not 0 <= component < len(gates[str(block.gate)]):
            raise ValueError(f"block {block.name}: branch {value} belongs to component {component}, which is not there")


def _check_point(point: OperatingPoint, gates: Mapping[str, tuple[float, ...]]) -> None:
    if {name: len(bits) for name, bits in point.gates.items()} != {name: len(w) for name, w in gates.items()}:
        raise ValueError(f"operating point u={point.u:g}: its gates do not fit those of the network")
    share = utilisation(point.gates, gates)
    if abs(point.utilisation - share) > _SHARE_TOLERANCE:
        raise ValueError(
            f"operating point u={point.u:g}: utilisation {point.utilisation:g}, its gates have {share:g} of the weights"
        )


def _check_quantisation(spec: QuantisationSpec, n_points: int, files: Mapping[str, FileSpec]) -> None:
    if RANGES not in files:
        raise ValueError(f"quantisation: file {RANGES} is not listed under files")
    if len(spec.float32_accuracy) != n_points:
        raise ValueError(f"quantisation has {len(spec.float32_accuracy)} operating points, the manifest {n_points}")


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
    if isinstance(version, int) and 1 <= version < SCHEMA_VERSION and version is not True:
        raise SchemaError(
            f"{where}: schema version {version} is older than {SCHEMA_VERSION}, the one this tnn-edge reads; "
            "export the run again"
        )
    try:
        return Manifest.model_validate_json(text, strict=True)  # strict: a number as text is no number
    except ValidationError as err:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in err.errors()[:5])
        raise SchemaError(f"{where}: {faults}") from err
