"""Gates that a controller has learned, in the place of a fixed schedule."""

from __future__ import annotations

from bisect import bisect_right

import torch
from torch import Tensor, nn

from tnn_edge.nn.codebook import Codebook
from tnn_edge.nn.components import Components
from tnn_edge.nn.controller import Controller
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.schedule import Schedule
from tnn_edge.throttle import check_throttle

__all__ = ["N_POINTS", "GateNetwork", "LearnedGates"]

N_POINTS = 17
"""Settings u = 0, 1/16, ..., 1, as in the paper's figures."""


class LearnedGates(Schedule):
    """How a controller opens the gates of one network.

    Gates are thresholded: a component is on where it is more probably on than off (temperature 0). Utilisation follows
    u as well as the training has taught it to; nothing makes it rise at every step.

    A contextual controller's answer is snapped to its codebook. Who turns the dial without showing an image, a policy
    on a device without the gate network, say, gets the code whose stretch of the dial holds u (`Codebook.dial`).

    Args:
        components: of the network.
        controller: its outputs are the components in that order.
        codebook: of a contextual controller; None for a blind one.
    """

    def __init__(self, *, components: Components, controller: Controller, codebook: Codebook | None = None) -> None:
        if controller.n_components != len(components):
            raise ValueError(f"{controller.n_components} outputs do not decide on {len(components)} components")
        if controller.reads_images != (codebook is not None):
            raise ValueError("a controller that reads images needs a codebook, and no other has one")
        self.components = components
        self.controller = controller
        self.codebook = codebook
        self.sizes = components.sizes

    def always_on(self, name: str) -> int:
        return self.components.least[name]

    @torch.no_grad()
    def masks(
        self, u: Tensor, generator: torch.Generator | None = None, *, images: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Gates for each example of a batch.

        Args:
            u: throttle in [0, 1], shape [B].
            generator: not used, nothing is drawn.
            images: normalised, shape [B, 3, H, W], for a contextual controller; None to go by the dial alone.

        Returns:
            module -> 0/1 mask, shape [B, n], float32.
        """
        del generator
        for setting in u.tolist():
            check_throttle(setting)
        if self.codebook is None:
            rows = self.components.thresholded(self.controller(u.float()))
        elif images is None:
            dial = self.codebook.dial
            rows = self.codebook.codes[[bisect_right(dial, setting) - 1 for setting in u.tolist()]]
        else:
            rows = self.codebook.codes[self.choose(u, images)]
        return self.components.split(rows)

    @torch.no_grad()
    def choose(self, u: Tensor, images: Tensor) -> Tensor:
        """Which code a contextual controller chooses: index of an operating point for each example, shape [B]."""
        assert self.codebook is not None
        return self.codebook.snapped(self.controller(u.float(), images))

    def dial(self) -> list[float]:
        """Settings of a blind controller that become operating points; where each code of a contextual one begins."""
        return [i / (N_POINTS - 1) for i in range(N_POINTS)] if self.codebook is None else self.codebook.dial

    def operating_points(self, seed: int = 0, n_points: int | None = None) -> list[tuple[float, GateVector]]:
        """As `Schedule.operating_points`; a contextual controller has all its codes, whatever `n_points`."""
        return super().operating_points(seed, n_points if self.codebook is None else None)


class GateNetwork(nn.Module):
    """What a device runs before the first block: image and u to a score for each code; the largest wins."""

    codes: Tensor

    def __init__(self, controller: Controller, codebook: Codebook) -> None:
        super().__init__()
        self.controller = controller
        self.register_buffer("codes", codebook.codes.T.contiguous())  # [n, K]

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """[B, 3, H, W] and [B] -> [B, K]."""
        scores: Tensor = self.controller(u, x) @ self.codes
        return scores
