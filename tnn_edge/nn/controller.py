"""Controllers of learned gates: from the dial, and perhaps a look at the image, to log-odds of every component.

Hostetler, "Toward Runtime-Throttleable Neural Networks", sections 4.2 and A.1. A *blind* controller reads u alone, a
*contextual* one also a few pixels of the image, once, before the first block: both cost next to nothing beside the
network.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CONTROLLERS", "HIDDEN", "POOLED", "BlindController", "ContextualController", "Controller", "pooled"]

HIDDEN = 32
"""Hidden units, as in the paper."""
POOLED = 8
"""Height and width, in pixels, of what a contextual controller sees."""


def pooled(images: Tensor, size: int = POOLED) -> Tensor:
    """Average images over size x size windows of equal shape, which overlap where the image does not divide evenly.

    Args:
        images: shape [B, C, H, W], square, at least `size` pixels wide.
        size: height and width of the result.

    Returns:
        Shape [B, C, size, size]. One average pooling, so that it exports as one.
    """
    width = images.shape[-1]
    stride = width // size
    return F.avg_pool2d(images, width - (size - 1) * stride, stride)


class Controller(nn.Module):
    """FC - ReLU - FC from u, shape [B], to log-odds of each component to be on, shape [B, n_components].

    Attributes:
        n_components: of the whole network, in the order of `tnn_edge.nn.components.Components`.
        hidden: hidden units.
        reads_images: whether `forward` needs images.
    """

    reads_images: bool = False

    def __init__(self, n_components: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.n_components = n_components
        self.hidden = hidden
        self.from_u = nn.Linear(1, hidden)
        self.output = nn.Linear(hidden, n_components)

    def forward(self, u: Tensor, images: Tensor | None = None) -> Tensor:
        """Log-odds of each component.

        Args:
            u: throttle in [0, 1], shape [B].
            images: normalised as the network sees them, shape [B, 3, H, W]; a blind controller does without.
        """
        raise NotImplementedError

    @torch.no_grad()
    def open_at(self, u: Tensor, steepness: float) -> None:
        """Start as a dial that opens one component after the other: log-odds ``steepness * (u - u_i)``.

        The hidden units become a linear spline of u with evenly spread knots, half of them rising from their knot,
        half falling to it, so that training bends each curve where it likes; images have no say yet.

        Args:
            u: where each component is as probably on as off, shape [n_components].
            steepness: log-odds that one component gains over the whole dial.
        """
        n_rising = (self.hidden + 1) // 2
        rising = torch.arange(self.hidden) < n_rising
        knots = torch.where(rising, torch.arange(self.hidden), torch.arange(self.hidden) - n_rising + 1) / n_rising
        self.from_u.weight.copy_(torch.where(rising, 1.0, -1.0)[:, None])
        self.from_u.bias.copy_(torch.where(rising, -knots, knots))
        self.output.weight.zero_()
        self.output.weight[:, 0] = steepness  # the unit whose knot is u = 0 is u itself
        self.output.bias.copy_(-steepness * u)


class BlindController(Controller):
    """Reads u alone."""

    def forward(self, u: Tensor, images: Tensor | None = None) -> Tensor:  # noqa: ARG002 (one signature for both)
        logits: Tensor = self.output(F.relu(self.from_u(u.reshape(-1, 1))))
        return logits


class ContextualController(Controller):
    """Reads u and the image, average-pooled to 8 x 8 pixels; both enter the hidden layer."""

    reads_images = True

    def __init__(self, n_components: int, hidden: int = HIDDEN) -> None:
        super().__init__(n_components, hidden)
        self.from_image = nn.Linear(3 * POOLED * POOLED, hidden, bias=False)

    def forward(self, u: Tensor, images: Tensor | None = None) -> Tensor:
        assert images is not None
        seen = pooled(images).flatten(1)  # [B, 3 * 8 * 8]
        logits: Tensor = self.output(F.relu(self.from_u(u.reshape(-1, 1)) + self.from_image(seen)))
        return logits

    @torch.no_grad()
    def open_at(self, u: Tensor, steepness: float) -> None:
        super().open_at(u, steepness)
        self.from_image.weight.zero_()


CONTROLLERS: Mapping[str, type[Controller]] = {"blind": BlindController, "contextual": ContextualController}
