"""What every throttleable network is: sections in a row, some of them gated, and a gate schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.norm import BatchNorm
from tnn_edge.nn.schedule import Schedule
from tnn_edge.nn.section import GatedBlock, Section

__all__ = ["ThrottleableNetwork"]


class ThrottleableNetwork(nn.Module):
    """One classifier h(x, u) whose blocks are gated.

    Attributes:
        stem: the section before the blocks; None where the first block reads the image.
        blocks: sections by name, in the order in which they run; most of them gated.
        head: the section that gives the logits.
        schedule: which components u turns on.
    """

    def __init__(
        self, *, stem: Section | None, blocks: Mapping[str, Section], head: Section, schedule: Schedule
    ) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleDict(blocks)
        self.head = head
        self.schedule: Schedule = schedule
        self._initialise()

    def _initialise(self) -> None:
        """He initialisation; branches start at zero, which spares deep networks (Goyal et al., 2017)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for block in self.gated_blocks.values():
            if block.branch_norm is not None:
                norm = block.get_submodule(block.branch_norm)
                assert isinstance(norm, BatchNorm)
                nn.init.zeros_(norm.weight)

    def sections(self) -> Iterator[tuple[str, Section]]:
        """Every section with its name, in the order in which they run."""
        for name, section in [("stem", self.stem), *self.blocks.items(), ("head", self.head)]:
            if isinstance(section, Section):
                yield name, section

    @property
    def gated_blocks(self) -> dict[str, GatedBlock]:
        """The gated ones of `blocks`."""
        return {name: block for name, block in self.blocks.items() if isinstance(block, GatedBlock)}

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """Masked computation: every component runs, each example has its own gates.

        Args:
            x: images, shape [B, 3, H, W].
            masks: block -> gates in [0, 1], shape [B, n]; None is the plain network, u = 1.

        Returns:
            Logits, shape [B, n_classes].
        """
        for _, section in self.sections():
            x = section(x, masks)
        return x

    def sliced(self, x: Tensor, gates: GateVector) -> Tensor:
        """Sliced computation: one gate vector for the batch, components that are off are not computed.

        Equal to `forward` with the same gates in every row, up to rounding.
        """
        active = {name: tuple(i for i, bit in enumerate(bits) if bit) for name, bits in gates.items()}
        for _, section in self.sections():
            x = section.sliced(x, active)
        return x

    def macs(self, gates: GateVector, image_size: int) -> int:
        """MACs of one example through the sliced network (`tnn_edge.nn.cost` has the convention)."""
        total, size = 0, image_size
        for _, section in self.sections():
            macs, size = section.macs(gates, size)
            total += macs
        return total

    def component_costs(self, image_size: int) -> dict[str, tuple[float, ...]]:
        """Cost weight of every component for `utilisation`: its MACs when all components are on."""
        everything = {name: (1,) * n for name, n in self.schedule.sizes.items()}
        costs: dict[str, tuple[float, ...]] = {}
        size = image_size
        for _, section in self.sections():
            if isinstance(section, GatedBlock):
                costs[section.gate] = section.component_macs(everything, size)
            _, size = section.macs(everything, size)
        return costs

    @property
    def n_classes(self) -> int:
        """Number of logits."""
        classifier = self.head.get_submodule("classifier")
        assert isinstance(classifier, nn.Linear)
        return classifier.out_features
