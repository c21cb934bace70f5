"""One step of a gate's training: the gates of a batch judged by a network that does not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tnn_edge.nn.components import Components
from tnn_edge.nn.controller import Controller
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import BatchNorm, frozen_statistics
from train.estimators import Estimator
from train.penalty import Penalty, soft_utilisation

__all__ = ["GateStep", "Judged", "fixed_data_path"]


@contextmanager
def fixed_data_path(network: ThrottleableNetwork, *, by_batch: bool) -> Iterator[None]:
    """Within it, the network is as gates meet it, and nothing of it changes.

    Args:
        network: its parameters get no gradient, before and after.
        by_batch: normalise by the batch, without a trace in the running statistics: where every operating point has
            statistics of its own, none of them fit gates that are drawn. An example's loss then also depends on the
            gates of the others; the score function takes those as given.
    """
    network.eval().requires_grad_(False)
    if not by_batch:
        yield
        return
    with frozen_statistics(network):
        for norm in (module for module in network.modules() if isinstance(module, BatchNorm)):
            norm.train()
        yield
    network.eval()


@dataclass(frozen=True, eq=False)
class Judged:
    """What drawn gates were worth to each example of a batch; all of shape [B].

    Attributes:
        u: the setting of the dial.
        loss: of the task, without the penalty.
        is_right: whether the answer was.
        utilisation: weighted by costs; of relaxed gates their sum.
    """

    u: Tensor
    loss: Tensor
    is_right: Tensor
    utilisation: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class GateStep:
    """How a batch becomes a gradient of the controller.

    Attributes:
        network: within `fixed_data_path`.
        controller: what learns.
        components: of the network.
        costs: of each component, shape [n].
        penalty: what utilisation costs.
        estimator: of the gradient.
    """

    network: ThrottleableNetwork
    controller: Controller
    components: Components
    costs: Tensor
    penalty: Penalty
    estimator: Estimator

    def __call__(
        self, images: Tensor, targets: Tensor, u: Tensor, *, epoch: float, generator: torch.Generator
    ) -> tuple[Tensor, list[Judged]]:
        """Draw and judge gates.

        Args:
            images: normalised, shape [B, 3, H, W].
            targets: class of each, shape [B].
            u: setting of each, shape [B].
            epoch: counted from 0, with its fraction.
            generator: random source.

        Returns:
            A scalar whose gradient is the estimate; what each draw was worth.
        """
        logits = self.controller(u, images)
        draws: list[Judged] = []

        def objective(gates: Tensor) -> Tensor:
            kept = self.components.keep_on(gates, logits.detach())
            answers = self.network(images, self.components.split(kept))
            loss = F.cross_entropy(answers, targets, reduction="none")
            utilisation = soft_utilisation(kept, self.costs)
            draws.append(Judged(u, loss.detach(), answers.argmax(dim=1) == targets, utilisation.detach()))
            return loss + self.penalty(utilisation, u)

        surrogate = self.estimator(logits, objective, epoch=epoch, generator=generator)
        return surrogate, draws
