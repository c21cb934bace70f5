"""The parts that a throttleable network is made of, each exported as a subgraph of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn

from tnn_edge.nn.gated_channels import Active, SlicedTensor
from tnn_edge.nn.gating import GateVector

__all__ = ["GatedBlock", "Section"]


class Section(nn.Module):
    """A stem, a block or a head: one input, one output.

    The same function can be computed in two ways, equal for every gate vector: *masked*, everything computed and each
    example multiplied by its own gates (training), and *sliced*, only the components that are on computed for the
    whole batch (really less work). A section may be sliced by its own gate, and by that of the section before it whose
    components lie side by side in its input.
    """

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """Masked computation.

        Args:
            x: shape [B, C, H, W], all components.
            masks: gated module -> gates in [0, 1], shape [B, n]; None is the plain section.
        """
        raise NotImplementedError

    def sliced(self, x: Tensor, active: Mapping[str, Active]) -> Tensor:
        """Compute what is on.

        Args:
            x: shape [B, C', H, W], the components that are on.
            active: gated module -> the components that are on.
        """
        del active
        return self.forward(x)

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        """MACs of one example with an input of size x size, and the size of the output."""
        raise NotImplementedError

    def sliced_tensors(self) -> Mapping[str, SlicedTensor]:
        """State-dict names of the tensors that shrink with the gates."""
        return {}


class GatedBlock(Section):
    """A gated module, with its skip connection where it has one; the unit of export.

    Attributes:
        gate: name of the module; one of the names in a gate vector.
        n_components: components that the gate can turn on.
        branches: submodule whose output is exactly zero, or read by none, when a component is off -> that component;
            None for when all are off.
        branch_norm: the normalisation that ends a summed branch.
    """

    branches: Mapping[str, int | None] = MappingProxyType({})
    branch_norm: str | None = None

    def __init__(self, *, gate: str, n_components: int) -> None:
        super().__init__()
        if n_components < 1:
            raise ValueError(f"{gate} must have at least one component, got {n_components}")
        self.gate = gate
        self.n_components = n_components

    def component_macs(self, gates: GateVector, size: int) -> tuple[float, ...]:
        """MACs of each component with all on.

        Args:
            gates: every component of the network on.
            size: height and width of the input.
        """
        nothing = {**gates, self.gate: (0,) * self.n_components}
        gated = self.macs(gates, size)[0] - self.macs(nothing, size)[0]
        return (gated / self.n_components,) * self.n_components
