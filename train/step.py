"""One training step as a module: all passes of a batch, one loss."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import frozen_statistics
from train.draws import StepGates

__all__ = ["TrainingStep"]


class TrainingStep(nn.Module):
    """The passes of a step and the sum of their losses.

    One forward holds all passes and gives one loss, because processes exchange gradients once, in the backward pass of
    what they wrapped. The price is that the activations of all passes are held at a time.
    """

    def __init__(self, network: ThrottleableNetwork, *, label_smoothing: float) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = label_smoothing

    def forward(self, images: Tensor, targets: Tensor, gates: StepGates) -> tuple[Tensor, Tensor]:
        """Run the passes.

        Running statistics follow the labelled pass alone: a pass at another u has statistics of its own.

        Args:
            images: shape [B, 3, H, W].
            targets: class of each image, shape [B].
            gates: of these examples.

        Returns:
            The loss, a scalar with a gradient; the logits of the labelled pass, shape [B, n_classes].
        """
        logits: Tensor = self.network(images, gates.masks)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=self.label_smoothing)
        taught_by = logits.detach().float().softmax(dim=1)
        with frozen_statistics(self.network):
            answers = [self.network.sliced(images, vector) for vector in gates.students.gates]
        for answer in answers:
            loss = loss + gates.students.weight * F.cross_entropy(answer.float(), taught_by)
        return loss, logits
